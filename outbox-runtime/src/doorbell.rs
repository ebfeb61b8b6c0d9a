//! The wake-up of the relay after a commit. A ring may be lost, and costs only time then: the relay polls as well.

use tokio::sync::Notify;

/// Rung after each commit that has events.
#[derive(Debug, Default)]
pub struct Doorbell {
    here: Notify,
    elsewhere: Notify,
    lanes: Notify,
}

impl Doorbell {
    /// Wakes the relay of this process. Any number of rings before it looks are one.
    pub(crate) fn ring_here(&self) {
        self.here.notify_one();
    }

    /// Has the relays of other processes woken.
    pub(crate) fn ring_elsewhere(&self) {
        self.elsewhere.notify_one();
    }

    /// Has the relay of this process look for lanes to take or to give, and for parked events to try again.
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
