//! The configuration, typed and checked.
//!
//! Owns what an operator may write and what it means: each table's type stands in `tables` beside
//! what is checked of it, `read` reads single values and sections, and `load` layers the file and
//! the environment and finds every problem at once. Nothing here opens a socket, a store or a
//! secret for use.

pub mod error;
pub mod files;
pub mod load;
mod origins;
mod read;
mod tables;
#[cfg(test)]
mod tests;

pub(crate) use self::tables::address::encrypted_or_local;
pub use self::tables::{
    altinn::{Altinn, Maskinporten, SystemUser},
    brought::{resource_cure, subject_cure},
    handler::{
        ContentMode, ExecHandler, FileHandler, Handler, HandlerKind, HttpHandler, HttpTarget,
        Match, Retry,
    },
    pattern::Pattern,
    root::{Config, Log, LogFormat, Queue},
    server::{Admin, AllowFrom, AllowFromMode, Server},
    source::{Source, SourceAuth},
    subscription::Subscription,
};
pub use self::{
    files::{KeyName, Tls},
    origins::Origins,
};
