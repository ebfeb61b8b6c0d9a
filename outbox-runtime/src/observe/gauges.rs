//! The gauges of what the tables of an outbox say.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use super::meter::Meter;
#[cfg(feature = "metrics")]
use super::{labels::bounded, meter::age, table::name};
use crate::store::status::{ParkedTopic, Status};

/// What is remembered of the last time that they were set.
#[derive(Debug)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code))]
pub(crate) struct Gauges {
    meter: Meter,
    /// Topics that had parked events.
    parked_on: BTreeSet<String>,
    oldest_pending: Option<SystemTime>,
}

impl Gauges {
    pub(crate) fn new(meter: Meter) -> Self {
        let gauges = Self { meter, parked_on: BTreeSet::new(), oldest_pending: None };
        gauges.register();
        gauges
    }

    /// Has an outbox appear with zeros, so that it is known that its gauges are reported, but not
    /// that none of its lanes has an owner.
    fn register(&self) {
        #[cfg(feature = "metrics")]
        for gauge in [name::OLDEST_PENDING, name::BACKLOG, name::PARKED, name::OLDEST_PARKED] {
            metrics::gauge!(gauge, self.meter.labels::<&str>([])).increment(0.0);
        }
    }

    pub(crate) fn set(&mut self, status: &Status, parked: &[ParkedTopic]) {
        self.oldest_pending = status.oldest_pending;
        self.set_age();
        #[cfg(feature = "metrics")]
        {
            let owned = status.lanes.iter().filter(|lane| lane.owner.is_some()).count();
            let labels = self.meter.labels::<&str>([]);
            metrics::gauge!(name::BACKLOG, labels.clone()).set(status.backlog as f64);
            metrics::gauge!(name::LANES_OWNED, labels.clone()).set(owned as f64);
            if let Some(free) = status.leaves_free {
                metrics::gauge!(name::LEAVES_FREE, labels).set(f64::from(free));
            }
        }
        self.set_parked(parked);
    }

    /// The database did not answer. What was pending still is, as far as is known: its age grows.
    pub(crate) fn not_read(&self) {
        self.set_age();
    }

    fn set_age(&self) {
        #[cfg(feature = "metrics")]
        {
            let labels = self.meter.labels::<&str>([]);
            let oldest = self.oldest_pending.map_or(0.0, age);
            metrics::gauge!(name::OLDEST_PENDING, labels).set(oldest);
        }
    }

    fn set_parked(&mut self, parked: &[ParkedTopic]) {
        let mut topics: BTreeMap<String, (u64, Option<SystemTime>)> =
            std::mem::take(&mut self.parked_on).into_iter().map(|of| (of, (0, None))).collect();
        for parked in parked {
            #[cfg(feature = "metrics")]
            let (topic, _) = bounded(&parked.topic, "");
            #[cfg(not(feature = "metrics"))]
            let topic = &*parked.topic;
            let (events, oldest) = topics.entry(topic.to_owned()).or_default();
            *events += parked.events;
            *oldest = [*oldest, parked.oldest].into_iter().flatten().min();
        }
        for (topic, (events, oldest)) in topics {
            #[cfg(feature = "metrics")]
            {
                let labels = self.meter.labels([("topic", topic.clone())]);
                metrics::gauge!(name::PARKED, labels.clone()).set(events as f64);
                metrics::gauge!(name::OLDEST_PARKED, labels).set(oldest.map_or(0.0, age));
            }
            let _ = oldest;
            if events > 0 {
                self.parked_on.insert(topic);
            }
        }
    }
}
