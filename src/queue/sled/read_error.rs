//! Reading whole values, and why that fails: the store does not work, or an entry is damaged.

use std::borrow::Cow;

use super::{codec::record::MISSING, keys};
use crate::store::{
    Error, View,
    chunked::{self, Unwhole},
    codec::Malformed,
};

/// Why a read failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Store(#[from] Error),
    #[error("a value is damaged: {0}")]
    Damaged(#[from] Malformed),
    #[error("{what}: {error}", what = keys::name(.0), error = .1)]
    Entry(Vec<u8>, Malformed),
}

impl ReadError {
    /// Names the entry that is damaged.
    pub(super) fn of(self, key: &[u8]) -> Self {
        match self {
            Self::Damaged(error) => Self::Entry(key.to_vec(), error),
            other @ (Self::Store(_) | Self::Entry(..)) => other,
        }
    }
}

/// The whole value. `None` if it was deleted meanwhile.
pub(super) fn whole<'a>(
    view: &View,
    key: &[u8],
    value: &'a [u8],
) -> Result<Option<Cow<'a, [u8]>>, ReadError> {
    chunked::whole(view, key, value).map_err(|error| match error {
        Unwhole::Store(error) => error.into(),
        Unwhole::Malformed(error) => error.into(),
    })
}

/// The whole value, or what is wrong with it, of a store that nobody writes to.
pub(super) fn whole_at_rest<'a>(
    view: &View,
    key: &[u8],
    value: &'a [u8],
) -> Result<Result<Cow<'a, [u8]>, Malformed>, Error> {
    match chunked::whole(view, key, value) {
        Ok(whole) => Ok(whole.ok_or(MISSING)),
        Err(Unwhole::Malformed(error)) => Ok(Err(error)),
        Err(Unwhole::Store(error)) => Err(error),
    }
}
