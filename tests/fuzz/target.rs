//! One binary for every fuzz target: `FUZZ_TARGET` names the one that runs.
#![no_main]

mod targets;

use std::sync::LazyLock;

static TARGET: LazyLock<targets::Target> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
    let found = targets::ALL.iter().find(|(known, _)| *known == name);
    found.unwrap_or_else(|| panic!("FUZZ_TARGET={name:?} is not a target")).1
});

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    (*TARGET)(input);
});
