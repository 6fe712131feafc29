//! brevdue receives events and never loses one: it stores every `CloudEvent` durably before it
//! answers 200, and forwards it to local handlers until they have it.
//!
//! The map of the house is `docs/ARCHITECTURE.md`; `tests/tidy` holds its layers.

pub mod admin;
pub mod altinn;
pub mod app;
pub mod backoff;
pub mod cli;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod dispatch;
pub mod doctor;
pub mod error_chain;
pub mod event;
pub mod files;
pub mod handler;
pub mod http_client;
pub mod ingress;
pub mod log_lines;
pub mod metrics;
pub mod name;
pub mod network;
pub mod queue;
pub mod reaper;
pub mod secret;
pub mod server;
pub mod simulator;
pub mod source;
pub mod store;
pub mod supervisor;
pub mod systemd;
pub mod telemetry;
