//! Keys, certificates and digests, as far as brevdue reads or makes them itself.
//!
//! Owns their encodings. TLS is rustls's, and secrets in files are `secret`'s.

pub mod certificate;
pub mod der;
pub mod fingerprint;
pub mod rsa_key;
