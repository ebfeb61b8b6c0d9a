//! The cluster of the model: one partition of events, one of progress, and the producers of a
//! group.

use super::postgres::Cursor;

/// The record of progress, the last of each transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(super) struct Progress {
    pub(super) claim: u8,
    /// Counts the transactions of a claim.
    pub(super) number: u8,
    pub(super) cursor: Cursor,
    /// The highest transaction id of the database that it rests on, of those drawn since the claim.
    pub(super) need: u8,
    /// Parked events that are published and perhaps not yet deleted.
    pub(super) settled: Vec<u8>,
}

/// A record on a log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Entry<T> {
    pub(super) value: T,
    /// The producer whose transaction is open, or none: it is committed.
    pub(super) open: Option<usize>,
    /// How many fall-backs there had been when it was committed.
    pub(super) after_fallbacks: u8,
}

/// A request to commit whose answer the producer did not get, and which may arrive later.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Delayed {
    pub(super) producer: usize,
    pub(super) epoch: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Kafka {
    pub(super) epochs: Vec<u8>,
    pub(super) events: Vec<Entry<u8>>,
    pub(super) progress: Vec<Entry<Progress>>,
    pub(super) delayed: Vec<Delayed>,
}

impl Kafka {
    pub(super) fn new(producers: usize) -> Self {
        Self { epochs: vec![0; producers], events: vec![], progress: vec![], delayed: vec![] }
    }

    /// `init_transactions`: fences whoever used the id, and ends what it had begun.
    pub(super) fn init(&mut self, producer: usize) -> u8 {
        self.abort(producer);
        self.epochs[producer] += 1;
        self.epochs[producer]
    }

    pub(super) fn send(&mut self, producer: usize, event: u8) {
        self.events.push(Entry { value: event, open: Some(producer), after_fallbacks: 0 });
    }

    /// Without a transaction.
    pub(super) fn send_plain(&mut self, event: u8, fallbacks: u8) {
        self.events.push(Entry { value: event, open: None, after_fallbacks: fallbacks });
    }

    pub(super) fn send_progress(&mut self, producer: usize, progress: Progress) {
        let open = Some(producer);
        self.progress.push(Entry { value: progress, open, after_fallbacks: 0 });
    }

    pub(super) fn abort(&mut self, producer: usize) {
        self.events.retain(|entry| entry.open != Some(producer));
        self.progress.retain(|entry| entry.open != Some(producer));
    }

    pub(super) fn commit(&mut self, producer: usize, fallbacks: u8) {
        fn close<T>(entries: &mut [Entry<T>], producer: usize, fallbacks: u8) {
            for entry in entries.iter_mut().filter(|entry| entry.open == Some(producer)) {
                (entry.open, entry.after_fallbacks) = (None, fallbacks);
            }
        }
        close(&mut self.events, producer, fallbacks);
        close(&mut self.progress, producer, fallbacks);
        // Compaction.
        let last = self.progress.iter().rposition(|entry| entry.open.is_none()).unwrap_or(0);
        let mut at = 0;
        self.progress.retain(|entry| {
            at += 1;
            entry.open.is_some() || at > last
        });
    }

    pub(super) fn has_open(&self, producer: usize) -> bool {
        self.events.iter().any(|entry| entry.open == Some(producer))
            || self.progress.iter().any(|entry| entry.open == Some(producer))
    }

    /// The last progress that a `read_committed` reader sees: up to the first open transaction.
    pub(super) fn read_progress(&self) -> Option<Progress> {
        let stable = self.progress.iter().take_while(|entry| entry.open.is_none());
        stable.last().map(|entry| entry.value.clone())
    }

    /// The events that a `read_committed` reader sees once no transaction is open, in their order.
    pub(super) fn published(&self) -> impl Iterator<Item = &Entry<u8>> {
        self.events.iter().filter(|entry| entry.open.is_none())
    }
}
