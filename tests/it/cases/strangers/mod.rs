//! What strangers send, and what is left for those who are waited for.

mod attack;
mod bodies;
mod bounds;
mod descriptors;
mod listening;
mod many;
mod refusing;
