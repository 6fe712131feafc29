//! One call over HTTP: sending it, how far the clocks are apart, and what a refusal says and means.

pub mod advice;
pub(crate) mod client;
pub(crate) mod clock_skew;
pub mod error_text;
