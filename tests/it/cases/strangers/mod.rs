//! What strangers send, and what is left for those who are waited for.

mod attack;
mod bodies;
mod closing;
mod headers;
mod listening;
mod many;
mod refusing;
mod stalled;
