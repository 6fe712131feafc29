//! A moment of wall time: arithmetic that saturates, and RFC 3339.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// Milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The instant `ms` milliseconds after 1970.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms)
    }

    /// Milliseconds since 1970.
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since 1970, as JWT claims count (RFC 7519 section 2, `NumericDate`).
    pub const fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// This much later; saturates.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis(duration)))
    }

    /// This much earlier; saturates at 1970.
    #[must_use]
    pub fn before(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis(duration)))
    }

    /// Time from `earlier` to this; zero when the clock went backwards.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = i64::try_from(self.0).unwrap_or(i64::MAX);
        jiff::Timestamp::from_millisecond(ms).unwrap_or(jiff::Timestamp::MAX).fmt(f)
    }
}

impl Serialize for Timestamp {
    /// RFC 3339 for people, the number for machines.
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        if to.is_human_readable() { to.collect_str(self) } else { to.serialize_u64(self.0) }
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        if from.is_human_readable() {
            jiff::Timestamp::deserialize(from)?.try_into().map_err(D::Error::custom)
        } else {
            u64::deserialize(from).map(Self)
        }
    }
}

impl TryFrom<jiff::Timestamp> for Timestamp {
    type Error = std::num::TryFromIntError;

    fn try_from(at: jiff::Timestamp) -> Result<Self, Self::Error> {
        u64::try_from(at.as_millisecond()).map(Self)
    }
}

impl FromStr for Timestamp {
    type Err = InvalidTime;

    /// Reads RFC 3339.
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        let at: jiff::Timestamp = text.parse().map_err(|_| InvalidTime)?;
        at.try_into().map_err(|_| InvalidTime)
    }
}

/// A text that is no time since 1970.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a time is written as in RFC 3339: 2026-08-20T10:00:00Z")]
pub struct InvalidTime;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_is_written_and_read_as_rfc_3339() {
        let at = Timestamp::from_millis(1_713_511_339_438);
        assert_eq!(at.to_string(), "2024-04-19T07:22:19.438Z");
        let json = serde_json::to_string(&at).unwrap();
        assert_eq!(serde_json::from_str::<Timestamp>(&json).unwrap(), at);
        assert_eq!(at.to_string().parse(), Ok(at));
        assert_eq!("2024-04-19T09:22:19.438+02:00".parse(), Ok(at));
        for wrong in ["1969-12-31T23:59:59Z", "2024-04-19", "1713511339438"] {
            assert_eq!(wrong.parse::<Timestamp>(), Err(InvalidTime), "{wrong}");
        }
    }

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        let at = Timestamp::from_millis(5);
        assert_eq!(at.before(Duration::from_secs(1)), Timestamp::default());
        assert_eq!(Timestamp::default().since(at), Duration::ZERO);
        assert_eq!(at.after(Duration::MAX).as_millis(), u64::MAX);
    }
}
