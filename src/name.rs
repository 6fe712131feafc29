//! Names that the operator gives: of hooks (subscriptions and sources) and of handlers.
//!
//! Owns their one syntax, which is safe in a URL path, a file name, a metric label and a store key.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Longest name, in bytes.
pub const MAX_LEN: usize = 63;

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a name is 1 to 63 of a-z, 0-9, '-' and '_', and begins with a letter or digit, not {0:?}")]
pub struct InvalidName(String);

fn check(text: &str) -> Result<(), InvalidName> {
    let legal = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_';
    let first = text.bytes().next().is_some_and(|c| c != b'-' && c != b'_');
    if first && text.len() <= MAX_LEN && text.bytes().all(legal) {
        Ok(())
    } else {
        Err(InvalidName(text.chars().take(80).collect()))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                check(text).map(|()| Self(text.to_owned()))
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidName;

            fn try_from(text: String) -> Result<Self, InvalidName> {
                check(&text).map(|()| Self(text))
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

name! {
    /// A configured subscription or generic source: what stands after `/hooks/` in its URL.
    HookName
}
name! {
    /// A configured handler.
    HandlerName
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_are_safe_everywhere_are_accepted() {
        for good in ["a", "innboks", "0-9_x", &"a".repeat(63)] {
            assert!(good.parse::<HookName>().is_ok(), "{good}");
        }
        for bad in ["", "-a", "_a", "A", "a.b", "a/b", "å", "a b", &"a".repeat(64)] {
            assert!(bad.parse::<HandlerName>().is_err(), "{bad}");
        }
    }
}
