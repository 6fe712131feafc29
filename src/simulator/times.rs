//! Times as .NET writes them.
//!
//! Owns the digits after the point: a `CloudEvent` has none, three, six or seven of them, as many as
//! its time needs; a row of the database has at most six, without zeros at the end.

use std::time::Duration;

use serde::Serializer;

use crate::clock::Timestamp;

/// Hundreds of nanoseconds, .NET's smallest step.
const TICKS: u32 = 10_000_000;

/// A time of an event within this millisecond. .NET's clock almost always needs all seven digits;
/// here the other lengths come as often, so that nobody relies on one of them.
pub(super) fn of_event(now: Timestamp) -> String {
    let within = match fastrand::u8(0..4) {
        0 => return cloud_event(now.as_secs(), 0),
        1 => 0,
        2 => fastrand::u32(1..1000) * 10,
        _ => fastrand::u32(0..1000) * 10 + fastrand::u32(1..10),
    };
    let millis = u32::try_from(now.as_millis() % 1000).unwrap_or_default();
    cloud_event(now.as_secs(), millis * 10_000 + within)
}

/// As the feed writes a publisher's time: in UTC.
pub(super) fn in_utc(time: jiff::Timestamp) -> String {
    let ticks = time.subsec_nanosecond() / 100;
    let (seconds, ticks) = if ticks < 0 {
        (time.as_second() - 1, ticks + i32::try_from(TICKS).unwrap_or_default())
    } else {
        (time.as_second(), ticks)
    };
    format!("{}{}Z", date(seconds), fraction(u32::try_from(ticks).unwrap_or_default()))
}

fn cloud_event(seconds: u64, ticks: u32) -> String {
    let seconds = i64::try_from(seconds).unwrap_or(i64::MAX);
    format!("{}{}Z", date(seconds), fraction(ticks))
}

/// Without a fraction and without an offset.
fn date(seconds: i64) -> String {
    let time = jiff::Timestamp::from_second(seconds).unwrap_or_default().to_string();
    time.trim_end_matches('Z').to_owned()
}

fn fraction(ticks: u32) -> String {
    match ticks {
        0 => String::new(),
        _ if ticks.is_multiple_of(10_000) => format!(".{:03}", ticks / 10_000),
        _ if ticks.is_multiple_of(10) => format!(".{:06}", ticks / 10),
        _ => format!(".{ticks:07}"),
    }
}

/// A time of the database.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
pub(super) fn in_microseconds<S: Serializer>(
    time: &Timestamp,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    // Ours has milliseconds; what stands behind them is made of them, so that it stays the same.
    let more = Duration::from_micros(time.as_millis() * 7919 % 1000);
    let micros = time.as_millis() % 1000 * 1000 + u64::from(more.subsec_micros());
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    let fraction = format!(".{micros:06}");
    let fraction = fraction.trim_end_matches('0').trim_end_matches('.');
    serializer.collect_str(&format_args!("{}{fraction}Z", date(seconds)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_time_has_as_many_digits_as_it_needs_and_all_lengths_come() {
        let at = |ticks| cloud_event(1_800_000_000, ticks);
        for (ticks, text) in [
            (0, "2027-01-15T08:00:00Z"),
            (1_230_000, "2027-01-15T08:00:00.123Z"),
            (1_234_560, "2027-01-15T08:00:00.123456Z"),
            (1_234_567, "2027-01-15T08:00:00.1234567Z"),
            (7, "2027-01-15T08:00:00.0000007Z"),
            (1_200_000, "2027-01-15T08:00:00.120Z"),
        ] {
            assert_eq!(at(ticks), text);
            assert_eq!(in_utc(text.parse().unwrap()), text);
        }
        assert_eq!(in_utc("2027-01-15T09:00:00.12+01:00".parse().unwrap()), at(1_200_000));
        assert_eq!(in_utc("1969-12-31T23:59:59.5Z".parse().unwrap()), "1969-12-31T23:59:59.500Z");
        let now = Timestamp::from_millis(1_800_000_000_123);
        let lengths: BTreeSet<_> = (0..1000).map(|_| of_event(now).len()).collect();
        assert_eq!(lengths, [20, 24, 27, 28].into());
    }

    #[test]
    fn a_row_has_no_zeros_at_the_end() {
        #[derive(serde::Serialize)]
        struct Row(#[serde(serialize_with = "in_microseconds")] Timestamp);
        let written = |millis| serde_json::to_string(&Row(Timestamp::from_millis(millis))).unwrap();
        assert_eq!(written(1_800_000_000_000), "\"2027-01-15T08:00:00Z\"");
        assert_eq!(written(1_800_000_000_001), "\"2027-01-15T08:00:00.001919Z\"");
        assert_eq!(written(1_800_000_000_010), "\"2027-01-15T08:00:00.01019Z\"");
    }
}
