//! Files that are not the store's: those that the operator gives us to read, and whose those are that we write.

pub mod operator_file;
pub mod owner;
