//! Delivery exactly once: the relay's engine reads and publishes as always, between a reader that
//! takes whole groups of lanes over, and a publisher that makes transactions of what it is given.
//!
//! The rules, and what was searched of them, are in `docs/decisions/17-exactly-once.md`.

mod group;
mod hand_back;
mod held;
mod join;
mod options;
mod publisher;
mod reader;
mod record;
mod relay;
mod takeover;
#[cfg(all(test, feature = "postgres", feature = "sqlite"))]
mod tests;
mod waves;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

pub use options::ExactlyOnce;
pub use relay::ExactlyOnceRelay;

use publisher::ExactlyOncePublisher;
use reader::ExactlyOnceReader;

use held::Held;
use takeover::TakeOver;

use crate::doorbell::Doorbell;
use crate::observe::Meter;
use crate::publish::transactions::TransactionalPublisher;
use crate::store::groups::{Claimer, ExactlyOnceStore};

type GroupStoreOf<S> = <<S as ExactlyOnceStore>::Claimer as Claimer>::Group;

/// The two sides of the engine.
pub(super) struct Sides<S: ExactlyOnceStore, P: TransactionalPublisher> {
    pub(super) reader: ExactlyOnceReader<S, P>,
    pub(super) publisher: ExactlyOncePublisher<GroupStoreOf<S>, P>,
}

/// What a relay's lease is at most waited on by one take-over.
const PART_OF_LEASE: u32 = 4;

impl<S: ExactlyOnceStore, P: TransactionalPublisher> Sides<S, P> {
    pub(super) fn new(
        mut inner: S,
        publisher: P,
        options: ExactlyOnce,
        (doorbell, meter): (Arc<Doorbell>, Meter),
        lease: Duration,
    ) -> Self {
        let groups = options.groups;
        let take_over = TakeOver {
            claimer: inner.in_groups(groups),
            publisher: Arc::new(publisher),
            groups,
            seen: inner.seen(),
            meter,
        };
        let held = Arc::<Held<_, _>>::default();
        let publisher = ExactlyOncePublisher { held: Arc::clone(&held) };
        let reader = ExactlyOnceReader {
            inner,
            groups,
            held,
            take_over: Arc::new(take_over),
            taking: BTreeMap::new(),
            given_back: Vec::new(),
            waves: JoinSet::new(),
            doorbell,
            interval: options.commit_interval,
            patience: lease / PART_OF_LEASE,
        };
        Self { reader, publisher }
    }
}
