//! Keys, certificates and digests, as far as brevdue reads or makes them itself.
//!
//! Owns their encodings. TLS is rustls's, and secrets in files are `secret`'s.

pub mod certificate;
pub mod certificate_file;
pub mod chain;
pub mod der;
pub mod fingerprint;
pub mod pem;
pub mod private_key;
pub mod rsa_key;
