//! Altinn Events: subscriptions, what is published, how it is pushed, and the feed.

pub(super) mod cloud_event;
pub(super) mod feed;
pub(super) mod jobs;
pub(super) mod matching;
pub(super) mod push;
pub(super) mod subscriptions;
