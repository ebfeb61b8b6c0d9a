//! Which dead letters are meant.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rdkafka::Message as _;
use rdkafka::message::{BorrowedMessage, Headers as _};
use uuid::Uuid;

use super::letter::{DeadLetterId, RESOLVED, RESOLVED_OFFSET};
use crate::consume::envelope::open;
use crate::consume::forward::{ERROR, ERROR_CLASS, LAST_FAILURE};
use crate::record::{CE_ID, CE_TYPE, CONTENT_TYPE};
use crate::user_code::caught;

/// Which dead letters: those that meet all conditions given. Only open ones are ever meant, which
/// were neither replayed nor discarded.
///
/// In the patterns of [`error`](Self::error) and [`name`](Self::name), `*` stands for any
/// characters and `?` for one. A pattern describes the whole text: `*timeout*` finds what contains
/// that word.
///
/// ```
/// use std::time::{Duration, SystemTime};
///
/// use outbox::consume::DeadLetterFilter;
///
/// let last_hour = SystemTime::now() - Duration::from_secs(3_600);
/// let filter = DeadLetterFilter::all()
///     .class("transient")
///     .error("*the warehouse is closed*")
///     .failed_from(last_hour);
/// ```
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    ids: Option<BTreeSet<DeadLetterId>>,
    classes: Vec<String>,
    errors: Vec<Pattern>,
    names: Vec<Pattern>,
    keys: Vec<Vec<u8>>,
    event_ids: Vec<Uuid>,
    from: Option<SystemTime>,
    before: Option<SystemTime>,
}

impl DeadLetterFilter {
    /// All dead letters. The methods below narrow it down. One that is called several times means
    /// those that meet any of its conditions.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those at these places.
    #[must_use]
    pub fn ids(mut self, ids: impl IntoIterator<Item = DeadLetterId>) -> Self {
        self.ids.get_or_insert_default().extend(ids);
        self
    }

    /// Only those whose last error was of this class: `transient`, `permanent` or `undecodable`.
    #[must_use]
    pub fn class(mut self, class: impl Into<String>) -> Self {
        self.classes.push(class.into());
        self
    }

    /// Only those whose last error matches this pattern.
    #[must_use]
    pub fn error(mut self, pattern: impl Into<String>) -> Self {
        self.errors.push(Pattern::new(pattern.into()));
        self
    }

    /// Only events whose name matches this pattern, such as `order.*`.
    #[must_use]
    pub fn name(mut self, pattern: impl Into<String>) -> Self {
        self.names.push(Pattern::new(pattern.into()));
        self
    }

    /// Only events with this Kafka key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.keys.push(key.into());
        self
    }

    /// Only the event with this id. It may have several dead letters: one that was replayed and
    /// given up again has another one.
    #[must_use]
    pub fn event_id(mut self, id: Uuid) -> Self {
        self.event_ids.push(id);
        self
    }

    /// Only those that last failed then or later.
    #[must_use]
    pub fn failed_from(mut self, from: SystemTime) -> Self {
        self.from = Some(from);
        self
    }

    /// Only those that last failed before.
    #[must_use]
    pub fn failed_before(mut self, before: SystemTime) -> Self {
        self.before = Some(before);
        self
    }

    pub(super) fn matches(&self, id: DeadLetterId, seen: &Glimpse<'_>) -> bool {
        let is_any = |patterns: &[Pattern], text: Option<&str>| {
            patterns.is_empty() || text.is_some_and(|text| patterns.iter().any(|p| p.matches(text)))
        };
        let event_id = || seen.event_id.as_ref().and_then(|id| id.parse().ok());
        let class = seen.class.unwrap_or_default();
        self.ids.as_ref().is_none_or(|ids| ids.contains(&id))
            && (self.classes.is_empty() || self.classes.iter().any(|one| one == class))
            && is_any(&self.names, seen.name.as_deref())
            && is_any(&self.errors, Some(seen.error.unwrap_or_default()))
            && (self.keys.is_empty() || self.keys.iter().any(|key| Some(&**key) == seen.key))
            && (self.event_ids.is_empty()
                || event_id().is_some_and(|id| self.event_ids.contains(&id)))
            && self.is_in_time(seen)
    }

    /// One whose time is not known was not written by a consumer of ours, and is in no period.
    fn is_in_time(&self, seen: &Glimpse<'_>) -> bool {
        if self.from.is_none() && self.before.is_none() {
            return true;
        }
        let failed = seen.failed_at();
        failed.is_some_and(|failed| {
            self.from.is_none_or(|from| failed >= from)
                && self.before.is_none_or(|before| failed < before)
        })
    }
}

/// What is looked at of a message when a whole topic is read. Nothing is copied, but of an envelope
/// what it says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Glimpse<'m> {
    /// Whether it is not a dead letter, but says what became of one.
    pub(super) is_mark: bool,
    /// Offset of that one.
    pub(super) resolves: Option<i64>,
    class: Option<&'m str>,
    error: Option<&'m str>,
    name: Option<Cow<'m, str>>,
    event_id: Option<Cow<'m, str>>,
    content_type: Option<&'m [u8]>,
    last_failure: Option<&'m str>,
    key: Option<&'m [u8]>,
    /// Time of the record, in milliseconds since 1970.
    timestamp: Option<i64>,
}

impl<'m> Glimpse<'m> {
    pub(super) fn of(message: &'m BorrowedMessage<'_>) -> Self {
        let mut seen = Self {
            key: message.key(),
            timestamp: message.timestamp().to_millis(),
            ..Self::default()
        };
        let Some(headers) = message.headers() else { return seen };
        for i in 0..headers.count() {
            // rdkafka panics on a header whose name is not UTF-8.
            if let Ok(header) = caught(|| headers.get(i)) {
                seen.note(header.key, header.value);
            }
        }
        seen.look_into(message.payload());
        seen
    }

    /// Takes note of what a CloudEvent in structured mode says.
    fn look_into(&mut self, payload: Option<&[u8]>) {
        let opened = self.content_type.zip(payload).and_then(|(of, payload)| open(of, payload));
        let Some(opened) = opened else { return };
        let envelope = opened.unwrap_or_default();
        let header = |name| envelope.header(name).map(|value| value.to_owned().into());
        (self.name, self.event_id) = (header(CE_TYPE), header(CE_ID));
    }

    /// Takes note of a header. The last one of a name counts, as for a
    /// [`Message`](crate::consume::message::Message).
    fn note(&mut self, name: &str, value: Option<&'m [u8]>) {
        let text = value.and_then(|value| std::str::from_utf8(value).ok());
        match name {
            RESOLVED => self.is_mark = true,
            RESOLVED_OFFSET => self.resolves = text.and_then(|text| text.parse().ok()),
            ERROR_CLASS => self.class = text,
            ERROR => self.error = text,
            CE_TYPE => self.name = text.map(Cow::Borrowed),
            CE_ID => self.event_id = text.map(Cow::Borrowed),
            _ if name.eq_ignore_ascii_case(CONTENT_TYPE) => self.content_type = value,
            LAST_FAILURE => self.last_failure = text,
            _ => {}
        }
    }

    fn failed_at(&self) -> Option<SystemTime> {
        let millis = self.last_failure.and_then(|text| text.parse().ok());
        let millis = millis.or_else(|| u64::try_from(self.timestamp?).ok());
        UNIX_EPOCH.checked_add(Duration::from_millis(millis?))
    }
}

/// A text in which `*` stands for any characters, and `?` for one.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pattern(Vec<char>);

impl Pattern {
    fn new(pattern: String) -> Self {
        Self(pattern.chars().collect())
    }

    /// Tries the last `*` longer and longer: never more steps than the product of both lengths.
    fn matches(&self, text: &str) -> bool {
        let pattern = &self.0;
        let (mut rest, mut at) = (text.chars(), 0);
        // Where to begin again: after the last `*`, and what was left of the text there.
        let mut again = None;
        loop {
            let before = rest.clone();
            match (pattern.get(at), rest.next()) {
                (Some('*'), _) => {
                    at += 1;
                    rest = before;
                    again = Some((at, rest.clone()));
                }
                (None, None) => return true,
                (Some('?'), Some(_)) => at += 1,
                (Some(expected), Some(found)) if *expected == found => at += 1,
                _ => {
                    let Some((star, skipped)) = &mut again else { return false };
                    if skipped.next().is_none() {
                        return false;
                    }
                    (at, rest) = (*star, skipped.clone());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, text: &str) -> bool {
        Pattern::new(pattern.to_owned()).matches(text)
    }

    #[test]
    fn a_pattern_describes_the_whole_text() {
        for (pattern, text) in [
            ("", ""),
            ("*", ""),
            ("*", "any\nlines"),
            ("order.*", "order.placed"),
            ("*closed*", "the warehouse is closed"),
            ("a*b*c", "a-b-b-c"),
            ("?", "é"),
            ("**a**", "a"),
            ("*ab", "aab"),
            ("[a]", "[a]"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("closed", "the warehouse is closed"),
            ("order.?", "order.placed"),
            ("?", ""),
            ("a*b", "ab!"),
            ("*ab", "aba"),
            ("A", "a"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn no_pattern_takes_for_ever() {
        assert!(!matches(&"*a".repeat(200), &"a".repeat(199)));
        assert!(!matches(&format!("{}b", "*a".repeat(200)), &"a".repeat(2_000)));
    }

    const ID: DeadLetterId = DeadLetterId { partition: 2, offset: 5 };

    fn seen() -> Glimpse<'static> {
        let mut seen =
            Glimpse { key: Some(b"alice"), timestamp: Some(9_000), ..Glimpse::default() };
        for (name, value) in [
            (CE_TYPE, "order.placed"),
            (CE_ID, "018f0000-0000-7000-8000-000000000001"),
            (ERROR_CLASS, "permanent"),
            (ERROR_CLASS, "transient"),
            (ERROR, "no route\nto host"),
            (LAST_FAILURE, "5000"),
        ] {
            seen.note(name, Some(value.as_bytes()));
        }
        seen
    }

    fn at(millis: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_millis(millis)
    }

    #[test]
    fn a_dead_letter_must_meet_all_conditions_and_any_of_one_kind() {
        let all = DeadLetterFilter::all;
        for filter in [
            all(),
            all().class("transient"),
            all().class("undecodable").class("transient"),
            all().error("no route*").name("order.*").key("alice"),
            all().key("bob").key("alice"),
            all().event_id("018f0000-0000-7000-8000-000000000001".parse().unwrap()),
            all().ids([ID]),
            all().failed_from(at(5_000)).failed_before(at(5_001)),
        ] {
            assert!(filter.matches(ID, &seen()), "{filter:?}");
        }
        for filter in [
            all().class("permanent"),
            all().class("transient").error("route"),
            all().name("order"),
            all().key("bob"),
            all().event_id(Uuid::nil()),
            all().ids([DeadLetterId { partition: 2, offset: 6 }]),
            all().ids([]),
            all().failed_from(at(5_001)),
            all().failed_before(at(5_000)),
        ] {
            assert!(!filter.matches(ID, &seen()), "{filter:?}");
        }
    }

    #[test]
    fn a_dead_letter_in_structured_mode_is_found_by_what_its_envelope_says() {
        let mut seen = Glimpse::default();
        seen.note("content-type", Some(b"application/cloudevents+json"));
        seen.note(CE_TYPE, Some(b"a copy that does not count"));
        let payload = br#"{"specversion":"1.0","source":"/s","type":"order.placed","id":
            "018f0000-0000-7000-8000-000000000001"}"#;
        seen.look_into(Some(payload));
        let id = "018f0000-0000-7000-8000-000000000001".parse().unwrap();
        let all = DeadLetterFilter::all;
        assert!(all().name("order.placed").event_id(id).matches(ID, &seen));
        seen.look_into(Some(b"{"));
        assert!(!all().name("*").matches(ID, &seen) && all().matches(ID, &seen));
    }

    #[test]
    fn what_a_foreign_message_does_not_say_is_no_match_and_its_time_is_that_of_its_record() {
        let foreign = Glimpse { timestamp: Some(9_000), ..Glimpse::default() };
        let all = DeadLetterFilter::all;
        assert!(all().error("*").failed_from(at(9_000)).matches(ID, &foreign));
        for filter in [all().name("*"), all().key(""), all().event_id(Uuid::nil())] {
            assert!(!filter.matches(ID, &foreign), "{filter:?}");
        }
        let timeless = Glimpse { timestamp: Some(-1), ..Glimpse::default() };
        assert!(!all().failed_from(UNIX_EPOCH).matches(ID, &timeless));
        let mut absurd = seen();
        absurd.note(LAST_FAILURE, Some(b"18446744073709551615"));
        assert!(!all().failed_before(at(1)).matches(ID, &absurd));
    }
}
