//! How strictly events are read: which rules may be broken. The rules themselves are in `rules`.

/// How much of `CloudEvents` 1.0 an event has to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rules {
    /// All of it.
    Strict,
    /// As much as an event is routed and remembered by: `specversion`, `id`, `source` and `type` are
    /// texts with something in them. What else is broken is the event's [`oddity`](crate::event::Event::oddity). For a
    /// sender that passes on what others wrote.
    Lenient,
}
