//! What must hold of bytes from outside: shared by the fuzzer and by `tests/corpus.rs`, which
//! replays the corpus in ordinary tests.
//!
//! A target takes any bytes and says whether it accepts them; it panics where something does not
//! hold. To add one: its line in [`ALL`], and a folder of that name in `corpus` with a few inputs.

mod altinn;
mod event;
mod operator;
mod sender;
mod store;

/// Says whether it accepts its input.
pub(crate) type Target = fn(&[u8]) -> bool;

/// Every target, under the name of its folder.
#[rustfmt::skip]
pub(crate) const ALL: &[(&str, Target)] = &[
    ("json", event::json),
    ("binary", event::binary),
    ("proxy", sender::proxy),
    ("forwarded", sender::forwarded),
    ("signature", sender::signature),
    ("page", altinn::page),
    ("token", altinn::token),
    ("words", altinn::words),
    ("endpoint", altinn::endpoint),
    ("wait", altinn::wait),
    ("config", operator::config),
    ("network", operator::network),
    ("key", operator::key),
    ("certificate", operator::certificate),
    ("pem", operator::pem),
    ("value", store::value),
    ("frame", store::frame),
    ("high-water", store::high_water),
    ("wal", store::wal),
    ("cursor", store::cursor),
];
