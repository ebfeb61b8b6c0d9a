//! Bounds the bytes of messages that a consumer has in hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::consume::envelope::OF_AN_ENVELOPE;
use crate::consume::message::Message;

/// Bytes of a message besides its contents: a task, and its entries in lists.
const OF_A_MESSAGE: usize = 1_024;
const OF_A_HEADER: usize = 64;

/// Bytes in hand, of one partition or of all.
pub(super) type Bytes = AtomicUsize;

/// The bytes of a message, which count as in hand as long as this lives.
#[derive(Debug)]
pub(super) struct Held {
    bytes: usize,
    of_partition: Arc<Bytes>,
    of_all: Arc<Bytes>,
}

impl Held {
    pub(super) fn new(message: &Message, of_partition: &Arc<Bytes>, of_all: &Arc<Bytes>) -> Self {
        let headers = message.headers.iter();
        let headers = headers
            .map(|(name, value)| name.len() + value.as_ref().map_or(0, Vec::len) + OF_A_HEADER);
        let key_and_payload = [&message.key, &message.payload].into_iter().flatten().map(Vec::len);
        let enveloped = message.payload.as_ref().filter(|_| message.is_enveloped());
        // What it says is in memory beside it.
        let enveloped = enveloped.map_or(0, |payload| payload.len() + OF_AN_ENVELOPE);
        let bytes = key_and_payload.chain(headers).sum::<usize>() + enveloped + OF_A_MESSAGE;
        of_partition.fetch_add(bytes, Ordering::Relaxed);
        of_all.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, of_partition: Arc::clone(of_partition), of_all: Arc::clone(of_all) }
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.of_partition.fetch_sub(self.bytes, Ordering::Relaxed);
        self.of_all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The bytes in hand at the moment when pausing a partition is decided.
#[derive(Debug, Clone, Copy)]
pub(super) struct InHand {
    pub(super) of_partition: usize,
    pub(super) of_all: usize,
    /// Number of partitions that share the budget.
    pub(super) partitions: usize,
}

/// A budget in bytes. Half of it is for the partitions that come first; the other half is shared
/// evenly, so that a partition that does not move leaves the others theirs. A partition with
/// nothing in hand may always take one message of any size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget(pub(super) usize);

impl Budget {
    pub(super) fn is_used_up(self, now: InHand) -> bool {
        now.of_partition >= self.share(now) && now.of_all >= self.0 / 2
    }

    /// Whether a paused partition may resume. The bound is lower than the one for pausing: a
    /// partition that pauses at each message is slow.
    pub(super) fn has_room(self, now: InHand) -> bool {
        now.of_partition <= self.share(now) / 2 || now.of_all <= self.0 / 4
    }

    fn share(self, now: InHand) -> usize {
        self.0 / 2 / now.partitions.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Budget = Budget(800);

    fn with(of_partition: usize, of_all: usize) -> InHand {
        InHand { of_partition, of_all, partitions: 4 }
    }

    #[test]
    fn one_partition_may_take_half_and_then_each_has_a_share() {
        assert!(!BUDGET.is_used_up(with(399, 399)));
        assert!(BUDGET.is_used_up(with(400, 400)));
        assert!(!BUDGET.is_used_up(with(99, 499)), "the share of another partition");
        assert!(BUDGET.is_used_up(with(100, 500)));
        assert!(!BUDGET.is_used_up(with(0, 10_000)), "it always takes one");
        assert!(BUDGET.has_room(with(0, 10_000)), "and comes back when that is done");
        assert!(!BUDGET.has_room(with(51, 201)));
        assert!(BUDGET.has_room(with(50, 800)) && BUDGET.has_room(with(200, 200)));
    }

    #[test]
    fn a_message_is_in_hand_until_it_is_dropped() {
        let (of_partition, of_all) = (Arc::<Bytes>::default(), Arc::<Bytes>::default());
        let message = Message {
            key: Some(vec![0; 10]),
            payload: Some(vec![0; 1_000]),
            headers: vec![("name".to_owned(), Some(vec![0; 6]))],
            ..Message::default()
        };
        let held = Held::new(&message, &of_partition, &of_all);
        let bytes = 1_000 + 10 + 10 + OF_A_HEADER + OF_A_MESSAGE;
        assert_eq!(
            (of_partition.load(Ordering::Relaxed), of_all.load(Ordering::Relaxed)),
            (bytes, bytes)
        );
        drop(held);
        assert_eq!((of_partition.load(Ordering::Relaxed), of_all.load(Ordering::Relaxed)), (0, 0));
    }

    #[test]
    fn what_an_envelope_says_is_in_hand_beside_it() {
        let (of_partition, of_all) = (Arc::<Bytes>::default(), Arc::<Bytes>::default());
        let of = |content_type: &str| {
            let message = Message {
                payload: Some(vec![0; 1_000]),
                headers: vec![("content-type".to_owned(), Some(content_type.into()))],
                ..Message::default()
            };
            Held::new(&message, &of_partition, &of_all).bytes() - content_type.len()
        };
        let beside = of("application/cloudevents+json") - of("application/json");
        assert_eq!(beside, 1_000 + OF_AN_ENVELOPE);
    }
}
