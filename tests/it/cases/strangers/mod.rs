//! What strangers send, and what is left for those who are waited for.

mod attack;
mod bodies;
mod descriptors;
mod listening;
mod many;
mod refusing;
