//! Reading whole values, and why that fails: the store does not work, or an entry is damaged.

use std::borrow::Cow;

use super::{codec::record::MISSING, keys};
use crate::store::{Error, View, chunked, codec::Malformed};

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
    Ok(chunked::whole(view, key, value)??)
}

/// The whole value, decoded; an error names its key. `None` if it was deleted meanwhile.
pub(super) fn decoded<T>(
    view: &View,
    key: &[u8],
    value: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<Option<T>, ReadError> {
    let whole = whole(view, key, value).map_err(|error| error.of(key))?;
    let decoded = whole.map(|value| decode(&value)).transpose();
    decoded.map_err(|error| ReadError::Entry(key.to_vec(), error))
}

/// The same of what stands under this key. `None` if there is nothing.
pub(super) fn entry<T>(
    view: &View,
    key: &[u8],
    decode: impl FnOnce(&[u8]) -> Result<T, Malformed>,
) -> Result<Option<T>, ReadError> {
    let value = view.get(key)?;
    value.map_or(Ok(None), |value| decoded(view, key, &value, decode))
}

/// The whole value, or what is wrong with it, of a store that nobody writes to.
pub(super) fn whole_at_rest<'a>(
    view: &View,
    key: &[u8],
    value: &'a [u8],
) -> Result<Result<Cow<'a, [u8]>, Malformed>, Error> {
    Ok(chunked::whole(view, key, value)?.and_then(|whole| whole.ok_or(MISSING)))
}
