//! The settings that topics for retries and dead letters need, given what their source accepts.

use std::time::Duration;

/// What a topic is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Dead letters that an operator replays.
    Replays,
    /// Events that wait for this delay.
    Retry(Duration),
    DeadLetters,
}

impl Kind {
    /// How long an event waits in it.
    pub(super) fn delay(self) -> Duration {
        match self {
            Self::Retry(delay) => delay,
            Self::Replays | Self::DeadLetters => Duration::ZERO,
        }
    }
}

/// What is known of the topic that the events come from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) max_message_bytes: Option<u64>,
    /// `retention.ms` of the source; -1: unlimited. `None`: not known.
    pub(super) retention_ms: Option<i64>,
}

/// A setting of a topic that exists and is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    /// Whether the topic would lose events. Otherwise some would arrive there incomplete, or be
    /// deleted early.
    pub(super) loses: bool,
    pub(super) setting: &'static str,
    pub(super) has: String,
    pub(super) needs: String,
    /// What it does to events.
    why: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { setting, has, needs, why, .. } = self;
        write!(f, "`{setting}={has}` {why}: set it to {needs}")
    }
}

const MAX_MESSAGE_BYTES: &str = "max.message.bytes";
const RETENTION_MS: &str = "retention.ms";
const RETENTION_BYTES: &str = "retention.bytes";
const CLEANUP_POLICY: &str = "cleanup.policy";

/// Room for our headers, the largest of which is the error, in bytes.
const OURS: u64 = 64 << 10;
/// Limit assumed for a source that does not exist yet, or whose settings we may not read: eight
/// times Kafka's default.
const UNKNOWN_LIMIT: u64 = 8 << 20;
/// Kafka's default.
const WEEK_MS: u64 = 7 * 24 * 60 * 60 * 1_000;

/// The settings of a topic that is created. Nothing that events depend on is inherited from the
/// cluster.
pub(super) fn of_new(kind: Kind, source: Source) -> Vec<(&'static str, String)> {
    let limit = source.max_message_bytes.unwrap_or(UNKNOWN_LIMIT).saturating_add(OURS);
    let retention = match (kind, source.retention_ms) {
        // Until an operator decides on them.
        (Kind::DeadLetters, _) => -1,
        (_, Some(..0)) => -1,
        // After its delay, as long as it would have been kept on its source.
        (kind, kept) => {
            let kept = kept.map_or(0, i64::unsigned_abs).max(WEEK_MS);
            i64::try_from(kept.saturating_add(delay_ms(kind))).unwrap_or(-1)
        }
    };
    vec![
        (MAX_MESSAGE_BYTES, limit.min(i32::MAX as u64).to_string()),
        (RETENTION_MS, retention.to_string()),
        (RETENTION_BYTES, "-1".to_owned()),
        (CLEANUP_POLICY, "delete".to_owned()),
        // The broker's clock: with a consumer's clock that is wrong, records would be refused, or
        // deleted at once.
        ("message.timestamp.type", "LogAppendTime".to_owned()),
    ]
}

/// What is wrong with the settings of a topic that exists.
pub(super) fn faults<'f>(
    kind: Kind,
    source: Source,
    found: impl Fn(&str) -> Option<&'f str>,
) -> Vec<Fault> {
    let number = |name| found(name).and_then(|value| value.parse::<i64>().ok());
    let mut faults = Vec::new();
    if let Some(policy) = found(CLEANUP_POLICY).filter(|policy| policy.contains("compact")) {
        faults.push(Fault {
            loses: true,
            setting: CLEANUP_POLICY,
            has: policy.to_owned(),
            needs: "delete".to_owned(),
            why: "deletes all events of a key but the last, and refuses those without a key"
                .to_owned(),
        });
    }
    if let Some(kept) = number(RETENTION_MS).and_then(|kept| u64::try_from(kept).ok())
        && let Kind::Retry(_) = kind
        && kept <= delay_ms(kind)
    {
        faults.push(Fault {
            loses: true,
            setting: RETENTION_MS,
            has: kept.to_string(),
            needs: delay_ms(kind).saturating_add(WEEK_MS).to_string(),
            why: format!(
                "deletes events before they are due, which is {} ms after they came",
                delay_ms(kind)
            ),
        });
    }
    if let (Some(has), Some(needs)) = (number(MAX_MESSAGE_BYTES), source.max_message_bytes)
        && u64::try_from(has).is_ok_and(|has| has < needs.saturating_add(OURS))
    {
        faults.push(Fault {
            loses: false,
            setting: MAX_MESSAGE_BYTES,
            has: has.to_string(),
            needs: needs.saturating_add(OURS).to_string(),
            why: format!(
                "is less than what its source takes ({needs}), and our headers, so that an event that is larger becomes a dead \
                 letter without its payload"
            ),
        });
    }
    if let Some(bytes) = number(RETENTION_BYTES).filter(|bytes| *bytes >= 0) {
        faults.push(Fault {
            loses: false,
            setting: RETENTION_BYTES,
            has: bytes.to_string(),
            needs: "-1".to_owned(),
            why: "deletes the oldest events of a partition that is larger than that".to_owned(),
        });
    }
    faults
}

fn delay_ms(kind: Kind) -> u64 {
    u64::try_from(kind.delay().as_millis()).unwrap_or(u64::MAX)
}

/// The delay as in a topic's name and in `#[event_handler]`: `10s`, `1h30m`.
pub(super) fn spelled(delay: Duration) -> String {
    const UNITS: [(u128, &str); 7] = [
        (86_400_000_000_000, "d"),
        (3_600_000_000_000, "h"),
        (60_000_000_000, "m"),
        (1_000_000_000, "s"),
        (1_000_000, "ms"),
        (1_000, "us"),
        (1, "ns"),
    ];
    let mut left = delay.as_nanos();
    let mut spelled = String::new();
    for (nanos, unit) in UNITS {
        if left >= nanos {
            spelled.push_str(&format!("{}{unit}", left / nanos));
            left %= nanos;
        }
    }
    if spelled.is_empty() { "0s".to_owned() } else { spelled }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Kind = Kind::Retry(Duration::from_secs(3_600));

    fn setting(kind: Kind, source: Source, name: &str) -> i64 {
        let settings = of_new(kind, source);
        settings.iter().find(|(known, _)| *known == name).unwrap().1.parse().unwrap()
    }

    #[test]
    fn topics_take_what_their_source_takes_and_keep_it_for_longer_than_the_delay() {
        let source = Source { max_message_bytes: Some(4_000_000), retention_ms: Some(1_000) };
        assert_eq!(setting(HOUR, source, MAX_MESSAGE_BYTES), 4_000_000 + 65_536);
        assert_eq!(setting(HOUR, source, RETENTION_MS), 604_800_000 + 3_600_000);
        assert_eq!(setting(Kind::DeadLetters, source, RETENTION_MS), -1);
        let for_ever = Source { retention_ms: Some(-1), ..source };
        assert_eq!(setting(HOUR, for_ever, RETENTION_MS), -1);
        let month = Source { retention_ms: Some(30 * 86_400_000), ..source };
        assert_eq!(setting(Kind::Replays, month, RETENTION_MS), 30 * 86_400_000);
        assert_eq!(setting(Kind::Retry(Duration::MAX), source, RETENTION_MS), -1);
        let largest = Source { max_message_bytes: Some(u64::MAX), retention_ms: None };
        assert_eq!(setting(HOUR, largest, MAX_MESSAGE_BYTES), i64::from(i32::MAX));
    }

    #[test]
    fn what_would_lose_events_is_told_from_what_is_narrow() {
        let source = Source { max_message_bytes: Some(1_000_000), retention_ms: None };
        let of = |kind, name: &'static str, value: &'static str| {
            faults(kind, source, move |asked| (asked == name).then_some(value))
        };
        for (name, value, loses, needs) in [
            (CLEANUP_POLICY, "compact,delete", true, "delete"),
            (RETENTION_MS, "3600000", true, "608400000"),
            (MAX_MESSAGE_BYTES, "1000000", false, "1065536"),
            (RETENTION_BYTES, "1", false, "-1"),
        ] {
            let found = of(HOUR, name, value);
            let [fault] = &*found else { panic!("{name}={value}: {found:?}") };
            assert_eq!((fault.loses, fault.setting, &*fault.needs), (loses, name, needs));
            let said = fault.to_string();
            assert!(said.starts_with(&format!("`{name}={value}` ")), "{said}");
            assert!(said.ends_with(&format!(": set it to {needs}")), "{said}");
        }
        for (kind, name, value) in [
            (HOUR, RETENTION_MS, "3600001"),
            (HOUR, RETENTION_MS, "-1"),
            (Kind::DeadLetters, RETENTION_MS, "1"),
            (HOUR, MAX_MESSAGE_BYTES, "1065536"),
            (HOUR, CLEANUP_POLICY, "delete"),
        ] {
            assert_eq!(of(kind, name, value), [], "{name}={value}");
        }
    }

    #[test]
    fn a_delay_is_spelled_in_one_way() {
        for (delay, spelling) in [
            (Duration::from_secs(10), "10s"),
            (Duration::from_secs(5_400), "1h30m"),
            (Duration::from_secs(86_400), "1d"),
            (Duration::from_millis(61_500), "1m1s500ms"),
            (Duration::from_nanos(1_001), "1us1ns"),
            (Duration::ZERO, "0s"),
        ] {
            assert_eq!(spelled(delay), spelling);
        }
    }
}
