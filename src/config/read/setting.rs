//! Single values: what may be written for each type, in the file and in the environment.
//!
//! Owns the syntax of durations, sizes, lists and the like. The file is held to TOML's types (a
//! number in quotes is a mistake); the environment has only text, so there text is read as the
//! type asked for. `config`'s own conversions are not used: they round `1.7` to 2 and take `true`
//! for 1. Messages name what is right, and repeat what was written only where it is short and not
//! personal: never for texts.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else a value is, it is refused alike"
)]

use std::{net::SocketAddr, time::Duration};

use ::config::{Value, ValueKind};
use url::Url;

use super::variable;
use crate::network::{InvalidNetwork, Network};

/// Longer ones would only overflow somewhere.
const LONGEST: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// A type that one key can have.
pub(in crate::config) trait Setting: Sized {
    /// Reads it, or says what is right.
    fn read(value: Value) -> Result<Self, String>;
}

/// A text as it is: may be empty or have several lines, but no NUL.
pub(in crate::config) struct Raw(pub(in crate::config) String);

/// A number of bytes.
#[derive(Clone, Copy)]
pub(in crate::config) struct Size(pub(in crate::config) u64);

/// Whether text may stand for another type.
fn lenient(value: &Value) -> bool {
    value.origin() == Some(variable::ORIGIN)
}

fn text(value: Value) -> Option<String> {
    if let ValueKind::String(text) = value.kind { Some(text) } else { None }
}

fn parsed<T: std::str::FromStr>(value: Value, right: &str) -> Result<T, String> {
    text(value).and_then(|text| text.parse().ok()).ok_or_else(|| right.to_owned())
}

impl Setting for Raw {
    fn read(value: Value) -> Result<Self, String> {
        let text = text(value).ok_or("must be a text in quotes")?;
        if text.contains('\0') {
            Err("contains a NUL: take it away".to_owned())
        } else {
            Ok(Self(text))
        }
    }
}

impl Setting for String {
    fn read(value: Value) -> Result<Self, String> {
        let Raw(text) = Raw::read(value)?;
        one_line(text)
    }
}

/// What to say of a setting that is empty and may be left out.
pub(in crate::config) const EMPTY: &str = "is empty; leave it out instead";

/// A text as most settings want it.
pub(in crate::config) fn one_line(text: String) -> Result<String, String> {
    let fault = if text.is_empty() {
        EMPTY
    } else if text.trim() != text {
        "begins or ends with white space: take it away"
    } else if text.contains(char::is_control) {
        "contains a control character, such as a tab or a line break: take it away"
    } else {
        return Ok(text);
    };
    Err(fault.to_owned())
}

impl Setting for bool {
    fn read(value: Value) -> Result<Self, String> {
        let lenient = lenient(&value);
        match value.kind {
            ValueKind::Boolean(flag) => Some(flag),
            ValueKind::String(text) if lenient => text.to_ascii_lowercase().parse().ok(),
            _ => None,
        }
        .ok_or_else(|| "must be true or false".to_owned())
    }
}

impl Setting for u64 {
    fn read(value: Value) -> Result<Self, String> {
        let lenient = lenient(&value);
        match value.kind {
            ValueKind::I64(number) => Self::try_from(number).ok(),
            ValueKind::String(text) if lenient => text.replace('_', "").parse().ok(),
            _ => None,
        }
        .ok_or_else(|| "must be a whole number, not below zero and without quotes".to_owned())
    }
}

impl Setting for f64 {
    fn read(value: Value) -> Result<Self, String> {
        let lenient = lenient(&value);
        match value.kind {
            ValueKind::Float(number) => Some(number),
            ValueKind::I64(number) => i32::try_from(number).ok().map(Self::from),
            ValueKind::String(text) if lenient => text.parse().ok(),
            _ => None,
        }
        .ok_or_else(|| "must be a number without quotes".to_owned())
    }
}

impl Setting for Duration {
    fn read(value: Value) -> Result<Self, String> {
        let duration = text(value)
            .and_then(|text| duration(&text))
            .ok_or("must be a duration such as \"100ms\", \"30s\", \"5m\", \"1h 30m\" or \"7d\"")?;
        if duration > LONGEST { Err("is longer than 3650d".to_owned()) } else { Ok(duration) }
    }
}

impl Setting for Size {
    fn read(value: Value) -> Result<Self, String> {
        match value.kind {
            ValueKind::I64(number) => u64::try_from(number).ok(),
            ValueKind::String(text) => size(&text),
            _ => None,
        }
        .map(Self)
        .ok_or_else(|| "must be a size such as \"64KiB\", \"512MiB\", \"10GB\" or 1000".to_owned())
    }
}

impl Setting for SocketAddr {
    fn read(value: Value) -> Result<Self, String> {
        parsed(value, "must be an address and port such as \"[::]:8443\" or \"127.0.0.1:8443\"")
    }
}

impl Setting for Network {
    fn read(value: Value) -> Result<Self, String> {
        let text = text(value).ok_or("must be an IP address or network in quotes")?;
        text.parse().map_err(|fault: InvalidNetwork| fault.to_string())
    }
}

impl Setting for Url {
    fn read(value: Value) -> Result<Self, String> {
        parsed(value, "must be a whole URL such as \"https://hooks.example.no\"")
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn read(value: Value) -> Result<Self, String> {
        let lenient = lenient(&value);
        let items = match value.kind {
            ValueKind::Array(items) => items,
            ValueKind::String(text) if lenient => variable::items(&text),
            _ => return Err("must be a list: [\"…\", \"…\"]".to_owned()),
        };
        let read = |(place, item)| T::read(item).map_err(|fault| format!("item {place} {fault}"));
        (1..).zip(items).map(read).collect()
    }
}

/// Numbers with units, added up; a day is 24 hours.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    let mut sum = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = leading(rest, |c| c.is_ascii_digit());
        let (unit, after) = leading(after.trim_start(), |c| c.is_ascii_alphabetic());
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(milliseconds)?;
        sum = sum.checked_add(Duration::from_millis(part))?;
        rest = after.trim_start();
    }
    Some(sum)
}

/// A whole number, and a unit or none.
fn size(text: &str) -> Option<u64> {
    let (number, unit) = leading(text.trim(), |c| c.is_ascii_digit() || c == '_');
    let unit = match unit.trim_start() {
        "" | "B" => 1,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1_u64 << 40,
        _ => return None,
    };
    number.replace('_', "").parse::<u64>().ok()?.checked_mul(unit)
}

fn leading(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    let end = text.find(|c| !belongs(c)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, ""))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_numbers_with_units() {
        for (text, milliseconds) in [
            ("0s", Some(0)),
            ("100ms", Some(100)),
            ("30s", Some(30_000)),
            ("5m", Some(300_000)),
            ("1h 30m", Some(5_400_000)),
            ("1h30m", Some(5_400_000)),
            ("2 min", Some(120_000)),
            ("7d", Some(604_800_000)),
            ("", None),
            (" ", None),
            ("30", None),
            ("s", None),
            ("-5s", None),
            ("1.5h", None),
            ("5 y", None),
            ("18446744073709551615d", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(duration(text), milliseconds.map(Duration::from_millis), "{text:?}");
        }
    }

    #[test]
    fn sizes_are_binary_or_decimal() {
        for (text, bytes) in [
            ("1000", Some(1000)),
            ("64KiB", Some(65_536)),
            ("64 KiB", Some(65_536)),
            ("512MiB", Some(536_870_912)),
            ("10GiB", Some(10_737_418_240)),
            ("1GB", Some(1_000_000_000)),
            ("2kB", Some(2000)),
            ("1_000B", Some(1000)),
            ("64K", None),
            ("KiB", None),
            ("", None),
            ("-1", None),
            ("1.5GiB", None),
            ("99999999TiB", None),
        ] {
            assert_eq!(size(text), bytes, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".{0,40}") {
            let (_, _) = (duration(&text), size(&text));
        }

        #[test]
        fn whole_seconds_are_read_back(seconds in 0u64..315_000_000) {
            prop_assert_eq!(duration(&format!("{seconds}s")), Some(Duration::from_secs(seconds)));
        }
    }
}
