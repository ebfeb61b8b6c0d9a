//! Times as MySQL's tables have them: microseconds since 1970, UTC.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time by the database's clock, whatever the time zone of the session.
pub(super) const NOW: &str = "timestampdiff(microsecond, '1970-01-01', utc_timestamp(6))";

pub(super) fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / 4)
}

pub(super) fn unix_micros(time: SystemTime) -> i64 {
    let micros = match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_micros()),
        Err(before) => i64::try_from(before.duration().as_micros()).map(|micros| -micros),
    };
    micros.unwrap_or(i64::MAX)
}
