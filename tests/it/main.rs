//! The real binary against the stand-in: real TLS, a real disk, real handlers.

// The lints that let tests panic know a test by this attribute.
#[cfg(test)]
mod cases;
#[cfg(test)]
mod support;
