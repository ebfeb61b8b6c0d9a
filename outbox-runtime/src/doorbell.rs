//! The wake-up of the relay after a commit. A ring may be lost, and costs only time then: the relay
//! polls as well.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Rung after each commit that has events.
#[derive(Debug, Default)]
pub struct Doorbell {
    here: Notify,
    elsewhere: Notify,
    lanes: Notify,
    /// The relay of this process has all lanes: none elsewhere has anything to read.
    all_lanes_here: AtomicBool,
}

/// Says where the lanes are, as long as a relay runs.
pub(crate) struct LanesHere<'d>(&'d Doorbell);

impl LanesHere<'_> {
    pub(crate) fn are_all(&self, all: bool) {
        self.0.all_lanes_here.store(all, Ordering::Relaxed);
    }
}

impl Drop for LanesHere<'_> {
    fn drop(&mut self) {
        self.are_all(false);
    }
}

impl Doorbell {
    /// Wakes the relay of this process. Any number of rings before it looks are one.
    pub(crate) fn ring_here(&self) {
        self.here.notify_one();
    }

    /// Whether a ring is of use to relays of other processes. What changes meanwhile costs time
    /// only.
    pub(crate) fn is_for_others(&self) -> bool {
        !self.all_lanes_here.load(Ordering::Relaxed)
    }

    pub(crate) fn lanes_here(&self) -> LanesHere<'_> {
        LanesHere(self)
    }

    /// Has the relays of other processes woken.
    pub(crate) fn ring_elsewhere(&self) {
        self.elsewhere.notify_one();
    }

    /// Has the relay of this process look for lanes to take or to give, and for parked events to
    /// try again.
    pub(crate) fn ring_for_lanes(&self) {
        self.lanes.notify_one();
    }

    pub(crate) async fn rung_for_lanes(&self) {
        self.lanes.notified().await;
    }

    pub(crate) async fn rung_here(&self) {
        self.here.notified().await;
    }

    #[cfg_attr(not(feature = "postgres"), allow(dead_code))] // no other database has a channel
    pub(crate) async fn rung_elsewhere(&self) {
        self.elsewhere.notified().await;
    }
}
