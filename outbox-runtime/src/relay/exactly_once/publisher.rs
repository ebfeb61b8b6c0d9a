//! The relay's publisher under exactly-once delivery: what it is given becomes part of a wave.

use std::sync::Arc;

use super::group::Group;
use super::held::Held;
use super::join::{Outcome, Part};
use crate::observe::target;
use crate::publish::transactions::{GroupSession, TransactionalPublisher};
use crate::publish::{Batch, DeliveryReport, Publisher};
use crate::store::groups::GroupStore;

/// Publishes in the transactions of the groups that the relay holds.
pub struct ExactlyOncePublisher<G, P: TransactionalPublisher> {
    pub(super) held: Arc<Held<G, P::Session>>,
}

/// Most waves in which a parked event is tried before it waits for its next turn, which may be
/// minutes away.
const TRIES_OF_PARKED: usize = 10;

impl<G: GroupStore, P: TransactionalPublisher> Publisher for ExactlyOncePublisher<G, P> {
    /// A wave may fail through no fault of a parked event in it, which is tried again at once then.
    async fn publish(&self, batch: Batch<'_>) -> Vec<DeliveryReport> {
        let tries = if batch.alone { TRIES_OF_PARKED } else { 1 };
        for _ in 0..tries {
            let Some(group) = self.held.group_of(batch.lane, batch.epoch) else { break };
            let reports = publish_in(&group, batch).await;
            let is_not_sent = |report| matches!(report, &DeliveryReport::NotSent);
            if reports.is_empty() || !reports.iter().all(is_not_sent) {
                return reports;
            }
        }
        not_sent(&batch)
    }
}

/// A batch without events is published as well: its progress is. It has one report then, if it was
/// not.
async fn publish_in<G: GroupStore, S: GroupSession>(
    group: &Group<G, S>,
    batch: Batch<'_>,
) -> Vec<DeliveryReport> {
    // Before the progress that passes over them.
    if !batch.passed_over.is_empty()
        && let Err(error) = group.park(batch.passed_over, true).await
    {
        tracing::warn!(
            target: target::RELAY,
            lane = batch.lane.number(), %error,
            "the database did not take events that were to be parked: their lane waits until it does"
        );
        group.withdraw(batch.lane, batch.place);
        return not_sent(&batch);
    }
    let Some(admission) = group.join(Part::of(&batch)).await else { return not_sent(&batch) };
    let mut reports = Vec::new();
    if !batch.events.is_empty() {
        let together = batch.alone && !admission.alone;
        reports = group.session.send(Batch { alone: admission.alone, ..batch }).await;
        if together && reports.iter().any(DeliveryReport::is_refusal) {
            group.state().try_retries_alone();
            reports = not_sent(&batch);
        }
    }
    let delivered =
        reports.len() == batch.events.len() && reports.iter().all(DeliveryReport::is_delivered);
    // Without an answer, the group has ended.
    let _ = admission.reported.send(delivered);
    match admission.outcome.await {
        Ok(Outcome::Committed) => reports,
        Ok(Outcome::Aborted) if !batch.events.is_empty() => {
            reports.into_iter().map(undone).collect()
        }
        _ => not_sent(&batch),
    }
}

/// What was delivered in a wave that was aborted was not.
fn undone(report: DeliveryReport) -> DeliveryReport {
    if report.is_delivered() { DeliveryReport::NotSent } else { report }
}

fn not_sent(batch: &Batch<'_>) -> Vec<DeliveryReport> {
    let reports = batch.events.len().max(1);
    std::iter::repeat_with(|| DeliveryReport::NotSent).take(reports).collect()
}
