//! What operators have paused: the relay keeps its leases, and sends nothing more of it.

use super::Engine;
use crate::error::{ErrorKind, OutboxError};
use crate::observe::target;
use crate::publish::Publisher;
use crate::store::{LaneStore, Pause, Paused};

impl<S: LaneStore, P: Publisher> Engine<S, P> {
    /// Obeys these pauses, and no others. Lanes that were taken just now learn of them before
    /// anything of them is read.
    pub(super) fn obey(&mut self, pauses: Vec<Pause>) {
        tell_changes(&self.pauses, &pauses);
        let paused = Paused::of(&pauses);
        self.held_mut().for_each(|lane| lane.pause(&paused));
        self.pauses = pauses;
    }

    /// A drain publishes all there is, so it cannot leave out what is paused.
    pub(super) fn check_that_nothing_is_paused(&self) -> Result<(), OutboxError> {
        let Some(pause) = self.pauses.first() else { return Ok(()) };
        let others = match self.pauses.len() - 1 {
            0 => String::new(),
            others => format!(" ({others} more pauses)"),
        };
        Err(OutboxError::new(
            ErrorKind::Paused,
            format!(
                "{pause}{others}. The drain ended, since it publishes all there is; what it has not published is still in \
                 the outbox. Resume by `outbox.resume(…)`, and drain again"
            ),
        ))
    }
}

fn tell_changes(before: &[Pause], now: &[Pause]) {
    for pause in now.iter().filter(|pause| !before.contains(pause)) {
        tracing::warn!(
            target: target::RELAY,
            scope = %pause.scope, reason = pause.reason, by = pause.by,
            "paused: the relay publishes nothing more of it until it is resumed"
        );
    }
    for pause in before.iter().filter(|pause| now.iter().all(|now| now.scope != pause.scope)) {
        tracing::info!(target: target::RELAY, scope = %pause.scope, "resumed");
    }
}
