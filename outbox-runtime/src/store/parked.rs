//! What all stores share in handling parked events.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use super::parked_filter::ParkedFilter;
use super::row::row;
use crate::record::{EventRecord, KeyDigest, Lane, StoredEvent};

/// Most parked keys of one lane that a relay holds in memory. With more of them, it asks the
/// database about each batch that it reads.
pub(crate) const MOST_KNOWN: u32 = 10_000;
/// Most events of one key that are tried again in one round.
pub(super) const OF_A_KEY: u32 = 100;
/// Most keys that are tried again in one round.
pub(super) const KEYS: u32 = 64;
/// Most bytes of payloads, keys and headers in one page of a list. The first event is listed in any
/// case.
pub(super) const PAGE_BYTES: u64 = 16 * 1024 * 1024;
/// Most events in one page of a list.
pub(super) const PAGE_EVENTS: u32 = 10_000;

/// An event to be parked.
#[derive(Debug, Clone)]
pub struct Parking {
    /// The event.
    pub event: StoredEvent,
    /// Reason of the refusal. `None`: it waits behind an earlier parked event of its key.
    pub reason: Option<String>,
    /// Number of times that it was tried.
    pub attempts: u32,
    /// Whether its key is being tried again right now; this event is then tried as well.
    pub released: bool,
}

impl Parking {
    /// What it waits by: its key, or its own id if it has none.
    pub(crate) fn key_digest(&self) -> KeyDigest {
        parked_by(&self.event.record)
    }

    pub(super) fn bytes(&self) -> i32 {
        i32::try_from(self.event.record.bytes()).unwrap_or(i32::MAX)
    }

    pub(super) fn reason(&self) -> Option<String> {
        self.reason.as_deref().map(storable)
    }
}

/// What a parked event waits by: its key, or its own id if it has none.
pub(crate) fn parked_by(record: &EventRecord) -> KeyDigest {
    record.key_digest().unwrap_or(KeyDigest(record.id))
}

/// A key that events are parked of.
pub(super) struct KeyToPark<'p> {
    pub(super) lane: Lane,
    pub(super) digest: KeyDigest,
    pub(super) topic: &'p str,
    /// Whether it is being tried again.
    pub(super) released: bool,
}

/// The keys of these events, each once, in the order in which their rows are locked.
pub(super) fn keys_of(parked: &[Parking]) -> Vec<KeyToPark<'_>> {
    let mut keys = BTreeMap::<_, (&str, bool)>::new();
    for Parking { event, released, .. } in parked {
        let key = (event.lane, parked_by(&event.record));
        keys.entry(key).or_insert((&event.record.topic, false)).1 |= released;
    }
    let key = |((lane, digest), (topic, released))| KeyToPark { lane, digest, topic, released };
    keys.into_iter().map(key).collect()
}

/// A broker's message as a text of bounded length, without NUL, which Postgres does not accept.
pub(super) fn storable(reason: &str) -> String {
    const CHARACTERS: usize = 1_000;
    reason.chars().filter(|c| *c != '\0').take(CHARACTERS).collect()
}

/// Which parked events to try again.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Time since the last refusal after which a key is tried again, besides those that are
    /// released.
    pub after: Duration,
    /// Most keys to try again because of that time.
    pub keys: u32,
    /// Most bytes to return. The first event is returned in any case.
    pub bytes: u64,
    /// Keys to leave out, since they are being tried.
    pub except: Vec<KeyDigest>,
}

/// Which parked keys to try again at once.
#[derive(Debug, Clone, Copy)]
pub enum Release<'a> {
    /// Those of which some event is meant.
    Where(&'a ParkedFilter),
    /// The key of this digest, in its lane.
    OnTopic(Lane, KeyDigest),
}

/// A parked key to be tried now, with its first events.
#[derive(Debug, Clone)]
pub struct Released {
    /// Its lane.
    pub lane: Lane,
    /// The key.
    pub key: KeyDigest,
    /// Its first events, in order. Empty if all of them were discarded.
    pub events: Vec<StoredEvent>,
}

/// The result of trying parked events of one key again.
#[derive(Debug, Clone)]
pub struct RetryResult {
    /// The key.
    pub key: KeyDigest,
    /// Delivered.
    pub delivered: Vec<i64>,
    /// Result of the event after those.
    pub next: NextEvent,
}

/// The result of the event after those that were delivered.
#[derive(Debug, Clone)]
pub enum NextEvent {
    /// There was none, or it was not tried.
    Untried,
    /// It was refused again, with its number and the reason; those behind it wait.
    Refused(i64, String),
    /// It was not sent, through no fault of its own. It is tried again as if it had been refused.
    NotSent,
}

/// The result of discarding an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// The event is discarded.
    Done,
    /// No such event is parked.
    NotParked,
    /// It waits behind the event with this id, and was not discarded.
    Waits(Uuid),
}

/// An event of a released key, by its number and size; `None` for a key without events.
pub(super) type Candidate = (Lane, KeyDigest, Option<(i64, u64)>);

row! {
    /// A candidate, as stores return it.
    pub(super) struct CandidateRow {
        lane: i16,
        key_digest: Uuid,
        seq: Option<i64>,
        bytes: Option<i64>,
    }
}

impl From<CandidateRow> for Candidate {
    fn from(CandidateRow { lane, key_digest, seq, bytes }: CandidateRow) -> Self {
        let bytes = bytes.unwrap_or(0).unsigned_abs();
        (Lane::from_number(lane), KeyDigest(key_digest), seq.map(|seq| (seq, bytes)))
    }
}

/// Chooses, from ordered candidates, the keys to try now and the numbers of their events: as many
/// events as `bytes` allow, and the first one in any case. If a key does not fit as a whole, its
/// first events are chosen, and nothing of later keys.
pub(super) fn within(candidates: &[Candidate], bytes: u64) -> Vec<(Lane, KeyDigest, Vec<i64>)> {
    let mut chosen: Vec<(Lane, KeyDigest, Vec<i64>)> = Vec::new();
    let mut sum = 0;
    let mut any = false;
    for (lane, key, event) in candidates {
        if let Some((_, size)) = event {
            if any && sum + size > bytes {
                break;
            }
            any = true;
            sum += size;
        }
        if chosen.last().is_none_or(|last| last.1 != *key) {
            chosen.push((*lane, *key, Vec::new()));
        }
        if let (Some(last), Some((seq, _))) = (chosen.last_mut(), event) {
            last.2.push(*seq);
        }
    }
    chosen
}

/// The chosen keys with their events, as they were read.
pub(super) fn with_events(
    chosen: Vec<(Lane, KeyDigest, Vec<i64>)>,
    events: impl IntoIterator<Item = StoredEvent>,
) -> Vec<Released> {
    let mut by_seq: BTreeMap<i64, StoredEvent> =
        events.into_iter().map(|event| (event.seq, event)).collect();
    chosen
        .into_iter()
        .map(|(lane, key, seqs)| Released {
            lane,
            key,
            events: seqs.iter().filter_map(|seq| by_seq.remove(seq)).collect(),
        })
        .collect()
}

/// Number of events of these sizes for which a page has room.
pub(super) fn page(sizes: impl Iterator<Item = u64>) -> usize {
    let mut sum = 0;
    sizes
        .enumerate()
        .take_while(|(place, size)| {
            sum += size;
            *place == 0 || sum <= PAGE_BYTES
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_tried_again_at_once_is_bounded_in_bytes_and_keeps_the_order_of_each_key() {
        let lane = Lane::of(Some(b"a"), Uuid::nil());
        let [a, b, c] = ["a", "b", "c"].map(|key| KeyDigest::of("orders", key.as_bytes()));
        let candidates = [
            (lane, a, Some((1, 900))),
            (lane, a, Some((4, 50))),
            (lane, b, None),
            (lane, c, Some((2, 40))),
            (lane, c, Some((3, 20))),
        ];
        let chosen = |bytes| {
            let chosen = within(&candidates, bytes);
            chosen.into_iter().map(|(_, key, seqs)| (key, seqs)).collect::<Vec<_>>()
        };
        assert_eq!(chosen(0), [(a, vec![1])], "the first, whatever its size");
        assert_eq!(chosen(949), [(a, vec![1])], "and none past one that does not fit");
        assert_eq!(chosen(960), [(a, vec![1, 4]), (b, vec![])]);
        assert_eq!(chosen(990), [(a, vec![1, 4]), (b, vec![]), (c, vec![2])]);
        assert_eq!(chosen(10_000), [(a, vec![1, 4]), (b, vec![]), (c, vec![2, 3])]);
    }

    #[test]
    fn a_page_has_room_for_one_event_whatever_its_size() {
        assert_eq!(page([u64::MAX / 2, 1].into_iter()), 1);
        assert_eq!(page([PAGE_BYTES - 1, 1, 1].into_iter()), 2);
        assert_eq!(page([].into_iter()), 0);
    }

    #[test]
    fn a_reason_can_be_stored_whatever_a_broker_says() {
        assert_eq!(storable("a\0b"), "ab");
        assert_eq!(storable(&"ä".repeat(5_000)).chars().count(), 1_000);
    }
}
