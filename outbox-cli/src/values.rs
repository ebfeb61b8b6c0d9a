//! Values of arguments, for clap's `value_parser`.

use std::time::{Duration, SystemTime};

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// `250ms`, `10s`, `1h 30m`, `7d`; `0` is zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text.trim() == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text)
        .map_err(|error| format!("{error}; write a number and a unit, such as 250ms, 10s, 5m, 7d"))
}

/// A duration that is not zero.
pub fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be more than zero".to_owned()),
        duration => Ok(duration),
    }
}

/// A time of RFC 3339, or how long ago it was: `5m`.
pub fn time(text: &str) -> Result<SystemTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time.into());
    }
    let ago = humantime::parse_duration(text).map_err(|_| {
        "write a time such as 2026-01-31T12:00:00Z, or how long ago it was, such as 5m or 2d"
            .to_owned()
    })?;
    SystemTime::now().checked_sub(ago).ok_or_else(|| "that is too long ago".to_owned())
}

/// The id of an event.
pub fn event_id(text: &str) -> Result<Uuid, String> {
    text.parse().map_err(|_| {
        "an event's id is a UUID, as the header ce_id and the log have it; `outbox events list --key` finds it".to_owned()
    })
}

/// A rate: `500/s`, `30/m`, or `500`, which is for each second.
pub fn per_second(text: &str) -> Result<f64, String> {
    let (number, seconds) = match text.split_once('/') {
        None | Some((_, "s")) => (text.trim_end_matches("/s"), 1.0),
        Some((number, "m" | "min")) => (number, 60.0),
        Some((number, "h")) => (number, 3_600.0),
        Some(_) => return Err("write a rate such as 500/s, 30/m or 10/h".to_owned()),
    };
    match number.trim().parse::<f64>() {
        Ok(number) if number.is_finite() && number > 0.0 => Ok(number / seconds),
        _ => Err("write a rate such as 500/s, 30/m or 10/h".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert!(positive_duration("0").is_err() && positive_duration("0s").is_err());
        assert!(duration("10").unwrap_err().contains("10s"));
    }

    #[test]
    fn a_time_is_absolute_or_an_age() {
        let absolute = time("1970-01-01T01:00:00+01:00").unwrap();
        assert_eq!(absolute, SystemTime::UNIX_EPOCH);
        let an_hour_ago = time("1h").unwrap();
        let ago = SystemTime::now().duration_since(an_hour_ago).unwrap();
        assert!(ago >= Duration::from_secs(3_600), "{ago:?}");
        assert!(time("yesterday").is_err());
    }

    #[test]
    fn a_rate_is_for_each_second_if_nothing_else_is_said() {
        assert_eq!(per_second("500/s"), Ok(500.0));
        assert_eq!(per_second("500"), Ok(500.0));
        assert_eq!(per_second("30/m"), Ok(0.5));
        for wrong in ["0", "-1", "inf", "NaN", "5/fortnight", "many"] {
            assert!(per_second(wrong).is_err(), "{wrong}");
        }
    }
}
