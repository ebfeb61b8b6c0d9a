//! Parked events, as every store handles them.

use std::collections::BTreeMap;
use std::time::Duration;

use uuid::Uuid;

use crate::record::{EventRecord, KeyDigest, Lane, StoredEvent};

/// Parked keys of one lane that a relay holds in memory. With more of them, it asks about each
/// batch that it reads.
pub(crate) const MOST_KNOWN: u32 = 10_000;
/// Events of one key that are tried again in one round.
pub(super) const OF_A_KEY: u32 = 100;
/// Keys that are tried again in one round.
pub(super) const KEYS: u32 = 64;
/// Payloads, keys and headers in one page of a list, in bytes. The first event is listed whatever
/// its size.
pub(super) const PAGE_BYTES: u64 = 16 * 1024 * 1024;
/// Events in one page of a list.
pub(super) const PAGE_EVENTS: u32 = 10_000;

/// An event to be parked.
#[derive(Debug, Clone)]
pub struct Parking {
    /// The event.
    pub event: StoredEvent,
    /// What refused it; `None`: an earlier event of its key is parked.
    pub reason: Option<String>,
    /// How often it was tried.
    pub attempts: u32,
    /// Its key is being tried again right now, and so it will be.
    pub released: bool,
}

impl Parking {
    /// What it waits by: its key, or itself if it has none.
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

/// What a parked event waits by: its key, or itself if it has none.
pub(crate) fn parked_by(record: &EventRecord) -> KeyDigest {
    record.key_digest().unwrap_or(KeyDigest(record.id))
}

/// The keys of these events, each once, and whether it is released.
pub(super) fn keys_of(parked: &[Parking]) -> BTreeMap<(Lane, KeyDigest), bool> {
    let mut keys = BTreeMap::new();
    for parking in parked {
        *keys.entry((parking.event.lane, parking.key_digest())).or_insert(false) |=
            parking.released;
    }
    keys
}

/// A broker's words as a text of bounded length, without the character that Postgres does not take.
pub(super) fn storable(reason: &str) -> String {
    const CHARACTERS: usize = 1_000;
    reason.chars().filter(|c| *c != '\0').take(CHARACTERS).collect()
}

/// Which parked events to try again.
#[derive(Debug, Clone)]
pub struct Retry {
    /// Besides those that are released, keys that were refused longer ago than this.
    pub after: Duration,
    /// How many such keys at most.
    pub keys: u32,
    /// Bytes at most. The first event comes whatever its size.
    pub bytes: u64,
    /// Not these keys: they are being tried.
    pub except: Vec<KeyDigest>,
}

/// Which parked keys to try again at once.
#[derive(Debug, Clone, Copy)]
pub enum Release<'a> {
    /// All of them.
    All,
    /// Those with this key, on whatever topic.
    Key(&'a [u8]),
    /// The key of this digest, in its lane.
    OnTopic(Lane, KeyDigest),
}

/// A parked key that is to be tried now, with its first events.
#[derive(Debug, Clone)]
pub struct Released {
    /// Its lane.
    pub lane: Lane,
    /// The key.
    pub key: KeyDigest,
    /// In order. None, if all of them were discarded.
    pub events: Vec<StoredEvent>,
}

/// What came of trying parked events of one key again.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The key.
    pub key: KeyDigest,
    /// Delivered.
    pub delivered: Vec<i64>,
    /// What became of the next one.
    pub then: Then,
}

/// What became of the event behind those that were delivered.
#[derive(Debug, Clone)]
pub enum Then {
    /// There was none, or it was not tried yet.
    GoOn,
    /// It was refused again, and why; those behind it wait.
    Refused(i64, String),
    /// It was not sent, for no fault of its own. It is tried again as if it had been refused.
    NotSent,
}

/// What became of an event that was to be given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discard {
    /// It is given up.
    Done,
    /// No such event is parked.
    NotParked,
    /// It waits behind this one, and was left there.
    Waits(Uuid),
}

/// An event of a released key, by its number and size; `None` for a key without events.
pub(super) type Candidate = (Lane, KeyDigest, Option<(i64, u64)>);

/// The keys to try now and the numbers of their events, of candidates that are in order: as many
/// events as `bytes` allow. The first comes whatever its size. Of a key that does not fit as a
/// whole, the first events; of the later keys, nothing.
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

/// How many of these sizes a page has room for.
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
