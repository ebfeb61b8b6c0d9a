//! Reports metrics. Without the feature `metrics`, all of this does nothing.
//!
//! Nothing here keeps a handle of the recorder: one that is installed later gets what comes then.

use std::sync::Arc;
#[cfg(feature = "metrics")]
use std::{collections::BTreeMap, time::SystemTime, time::UNIX_EPOCH};

#[cfg(feature = "metrics")]
use metrics::{Label, SharedString};
use tokio::time::Instant;

#[cfg(feature = "metrics")]
use super::labels::bounded;
#[cfg(feature = "metrics")]
use super::table::name;
use crate::record::{EventRecord, StoredEvent};

/// Whose metrics are reported: those of an outbox, or of a consumer group that has its inbox there.
#[derive(Debug, Clone, Default)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code))]
pub(crate) struct Meter {
    outbox: Arc<str>,
    group: Option<Arc<str>>,
}

impl Meter {
    pub(crate) fn of_outbox(name: &str) -> Self {
        Self { outbox: name.into(), group: None }
    }

    #[cfg(feature = "kafka")]
    pub(crate) fn of_group(&self, group: &Arc<str>) -> Self {
        Self { group: Some(Arc::clone(group)), ..self.clone() }
    }

    #[cfg(all(feature = "metrics", feature = "kafka"))]
    pub(super) fn group(&self) -> Option<&Arc<str>> {
        self.group.as_ref()
    }

    #[cfg(feature = "metrics")]
    pub(super) fn labels<V: Into<SharedString>>(
        &self,
        more: impl IntoIterator<Item = (&'static str, V)>,
    ) -> Vec<Label> {
        let outbox = Label::new("outbox", Arc::clone(&self.outbox));
        let group = self.group.as_ref().map(|group| Label::new("group", Arc::clone(group)));
        let more = more.into_iter().map(|(name, value)| Label::new(name, value));
        std::iter::once(outbox).chain(group).chain(more).collect()
    }

    #[cfg(feature = "metrics")]
    fn count(&self, name: &'static str, by: u64) {
        metrics::counter!(name, self.labels::<&str>([])).increment(by);
    }

    #[cfg(feature = "metrics")]
    fn set(&self, name: &'static str, to: f64) {
        metrics::gauge!(name, self.labels::<&str>([])).set(to);
    }

    #[cfg(feature = "metrics")]
    fn record(&self, name: &'static str, value: f64) {
        metrics::histogram!(name, self.labels::<&str>([])).record(value);
    }

    /// Counts events by their topic and name.
    #[cfg(feature = "metrics")]
    fn count_events<'e>(&self, name: &'static str, events: impl Iterator<Item = &'e EventRecord>) {
        let mut counts = BTreeMap::<(&str, &str), u64>::new();
        for event in events {
            *counts.entry((&event.topic, &event.name)).or_default() += 1;
        }
        for ((topic, event), count) in counts {
            let (topic, event) = bounded(topic, event);
            let more = [("topic", topic.to_owned()), ("event", event.to_owned())];
            metrics::counter!(name, self.labels(more)).increment(count);
        }
    }

    /// Has a process that emits appear with zeros.
    pub(crate) fn register_service(&self) {
        #[cfg(feature = "metrics")]
        {
            self.count(name::EMITTED, 0);
            metrics::gauge!(name::BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        }
    }

    /// Has a relay appear with zeros.
    pub(crate) fn register_relay(&self) {
        #[cfg(feature = "metrics")]
        {
            self.register_service();
            for counter in [
                name::PUBLISHED,
                name::RETRIED,
                name::PARKED_TOTAL,
                name::RECLAIMED,
                name::TAKE_OVERS,
                name::LEASES_LOST,
                name::FALLBACKS,
            ] {
                self.count(counter, 0);
            }
            for gauge in [name::LANES_HELD, name::BYTES_HELD] {
                metrics::gauge!(gauge, self.labels::<&str>([])).increment(0.0);
            }
            for histogram in [name::BATCH_EVENTS, name::DELIVERY, name::PUBLISH_LAG] {
                // A handle is enough.
                drop(metrics::histogram!(histogram, self.labels::<&str>([])));
            }
        }
    }

    /// Counts a group that went on from its saved cursors, although it had progress.
    pub(crate) fn fell_back(&self) {
        #[cfg(feature = "metrics")]
        self.count(name::FALLBACKS, 1);
    }

    pub(crate) fn emitted(&self, events: &[EventRecord]) {
        #[cfg(feature = "metrics")]
        self.count_events(name::EMITTED, events.iter());
        let _ = events;
    }

    pub(crate) fn delivered(&self, events: &[StoredEvent], sent: Instant) {
        #[cfg(feature = "metrics")]
        if let Some(first) = events.first() {
            self.count_events(name::PUBLISHED, events.iter().map(|event| &event.record));
            self.record(name::DELIVERY, sent.elapsed().as_secs_f64());
            self.record(name::PUBLISH_LAG, age(first.record.occurred_at));
        }
        let _ = (events, sent);
    }

    pub(crate) fn batch(&self, events: usize) {
        #[cfg(feature = "metrics")]
        if events > 0 {
            self.record(name::BATCH_EVENTS, events as f64);
        }
        let _ = events;
    }

    pub(crate) fn retried(&self) {
        #[cfg(feature = "metrics")]
        self.count(name::RETRIED, 1);
    }

    pub(crate) fn parked(&self, event: &StoredEvent) {
        #[cfg(feature = "metrics")]
        {
            let (topic, _) = bounded(&event.record.topic, &event.record.name);
            let labels = self.labels([("topic", topic.to_owned())]);
            metrics::counter!(name::PARKED_TOTAL, labels).increment(1);
        }
        let _ = event;
    }

    pub(crate) fn reclaimed(&self, events: u64) {
        #[cfg(feature = "metrics")]
        self.count(name::RECLAIMED, events);
        let _ = events;
    }

    pub(crate) fn lanes_held(&self, lanes: usize) {
        #[cfg(feature = "metrics")]
        self.set(name::LANES_HELD, lanes as f64);
        let _ = lanes;
    }

    pub(crate) fn lanes_taken_over(&self, lanes: usize) {
        #[cfg(feature = "metrics")]
        self.count(name::TAKE_OVERS, lanes as u64);
        let _ = lanes;
    }

    pub(crate) fn leases_lost(&self, lanes: usize) {
        #[cfg(feature = "metrics")]
        self.count(name::LEASES_LOST, lanes as u64);
        let _ = lanes;
    }

    pub(crate) fn held(&self, bytes: u64) {
        #[cfg(feature = "metrics")]
        metrics::gauge!(name::BYTES_HELD, self.labels::<&str>([])).increment(bytes as f64);
        let _ = bytes;
    }

    pub(crate) fn no_longer_held(&self, bytes: u64) {
        #[cfg(feature = "metrics")]
        metrics::gauge!(name::BYTES_HELD, self.labels::<&str>([])).decrement(bytes as f64);
        let _ = bytes;
    }

    pub(crate) fn database_up(&self, up: bool) {
        #[cfg(feature = "metrics")]
        self.set(name::DATABASE_UP, f64::from(u8::from(up)));
        let _ = up;
    }

    /// Reports that a main loop turned just now.
    pub(crate) fn turned(&self) {
        #[cfg(feature = "metrics")]
        self.set(
            name::LAST_TURN,
            SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64(),
        );
    }
}

/// Seconds since a time; 0 if it is still to come.
#[cfg(feature = "metrics")]
pub(super) fn age(since: SystemTime) -> f64 {
    SystemTime::now().duration_since(since).unwrap_or_default().as_secs_f64()
}
