//! Times: RFC 3339 in UTC, and ages.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// With its fraction, for programs. A time that RFC 3339 cannot say is `None`.
pub fn exact(time: SystemTime) -> Option<String> {
    formatted(time, Some)
}

/// Without the fraction, for people.
pub fn seconds(time: SystemTime) -> Option<String> {
    formatted(time, |time| time.replace_nanosecond(0).ok())
}

fn formatted(
    time: SystemTime,
    rounded: impl Fn(OffsetDateTime) -> Option<OffsetDateTime>,
) -> Option<String> {
    rounded(offset(time)?)?.format(&Rfc3339).ok()
}

fn offset(time: SystemTime) -> Option<OffsetDateTime> {
    let nanos = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::try_from(after.as_nanos()).ok()?,
        Err(before) => -i128::try_from(before.duration().as_nanos()).ok()?,
    };
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()
}

/// How long ago it was: zero if it is in the future.
pub fn age(time: SystemTime) -> Duration {
    SystemTime::now().duration_since(time).unwrap_or_default()
}

/// A duration in its two largest units: `3m 12s`.
pub fn short(duration: Duration) -> String {
    const UNITS: [(u64, &str); 4] = [(86_400, "d"), (3_600, "h"), (60, "m"), (1, "s")];
    let seconds = duration.as_secs();
    let Some(largest) = UNITS.iter().position(|(unit, _)| seconds >= *unit) else {
        return format!("{}ms", duration.as_millis());
    };
    let (unit, name) = UNITS[largest];
    match UNITS.get(largest + 1).map(|(next, name)| (seconds % unit / next, name)) {
        Some((rest, next)) if rest > 0 => format!("{}{name} {rest}{next}", seconds / unit),
        _ => format!("{}{name}", seconds / unit),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_rfc_3339_and_an_impossible_one_is_none() {
        let time = UNIX_EPOCH + Duration::from_millis(1_764_021_339_250);
        assert_eq!(seconds(time).as_deref(), Some("2025-11-24T21:55:39Z"));
        assert_eq!(exact(time).as_deref(), Some("2025-11-24T21:55:39.25Z"));
        let before = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(exact(before).as_deref(), Some("1969-12-31T23:59:59Z"));
        assert_eq!(exact(UNIX_EPOCH + Duration::from_millis(u64::MAX)), None);
    }

    #[test]
    fn an_age_has_its_two_largest_units() {
        for (seconds, text) in
            [(0, "0ms"), (59, "59s"), (60, "1m"), (192, "3m 12s"), (3_600, "1h"), (90_061, "1d 1h")]
        {
            assert_eq!(short(Duration::from_secs(seconds)), text);
        }
    }
}
