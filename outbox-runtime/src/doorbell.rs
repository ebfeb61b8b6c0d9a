//! The wake-up of relays after a commit. A ring may be lost, which costs only time: relays poll as
//! well.

use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::Notify;

/// Rung after each commit that has events.
#[derive(Debug, Default)]
pub struct Doorbell {
    here: Notify,
    elsewhere: Notify,
    lanes: Notify,
    /// Whether the relay of this process has all lanes: then no other relay has anything to read.
    all_lanes_here: AtomicBool,
}

/// Records where the lanes are, as long as a relay runs.
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

    /// Whether relays of other processes need a ring. A change at this moment costs only time.
    pub(crate) fn is_for_others(&self) -> bool {
        !self.all_lanes_here.load(Ordering::Relaxed)
    }

    pub(crate) fn lanes_here(&self) -> LanesHere<'_> {
        LanesHere(self)
    }

    /// Wakes the relays of other processes.
    pub(crate) fn ring_elsewhere(&self) {
        self.elsewhere.notify_one();
    }

    /// Tells the relay of this process to look for lanes to take or give up, and for parked events
    /// to try again.
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
