//! The store's files, from any bytes.
#![no_main]

#[path = "../decoding.rs"]
#[expect(dead_code, reason = "each target is one of its functions")]
mod decoding;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    decoding::wal(input);
});
