//! What strangers send, and what is left for those who are waited for.

mod attack;
mod bodies;
mod bounds;
mod closing;
mod descriptors;
mod headers;
mod listening;
mod many;
mod refusing;
mod stalled;
