//! `outbox relay hand-back`.

use clap::Args;
use outbox::admin::{DeliveryStatus, GroupStatus, Status};
use outbox::publish::kafka::KafkaPublisher;
use outbox::{ExactlyOnce, Outbox, Relay};
use serde::Serialize;

use super::RelayRow;
use super::delivery::Delivers;
use crate::confirm::Confirm;
use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::text::counted;

/// Change an outbox that is delivered exactly once back to at least once
///
/// Stop all relays before. It ends what they left open on the brokers, reads up to where each lane
/// is published, and saves that in the database: nothing is lost by the change, and nothing is
/// published twice. Then start relays that deliver at least once. Rows that are deleted by hand
/// instead publish twice.
#[derive(Debug, Args)]
pub struct HandBack {
    #[command(flatten)]
    confirm: Confirm,
}

pub async fn run(args: &HandBack, context: &Context) -> Result<(), Failure> {
    let what = "has the events of this outbox delivered at least once from now on";
    let is_to_be_done = args.confirm.is_to_be_done(what)?;
    with_outbox!(context.outbox().await?, outbox => of(outbox, context, is_to_be_done).await)
}

async fn of<DB: Delivers>(
    outbox: Outbox<DB>,
    context: &Context,
    is_to_be_done: bool,
) -> Result<(), Failure> {
    let status = outbox.status_within(context.statement_timeout()).await?;
    let DeliveryStatus::ExactlyOnce { groups, .. } = &status.delivery else {
        return done(context, 0, true);
    };
    refuse_living(&status)?;
    if is_to_be_done {
        hand_back(context, outbox, groups).await?;
    }
    done(context, groups.len(), is_to_be_done)
}

async fn hand_back<DB: Delivers>(
    context: &Context,
    outbox: Outbox<DB>,
    groups: &[GroupStatus],
) -> Result<(), Failure> {
    let publisher = KafkaPublisher::builder(context.kafka()?).topic_prefix(context.topic_prefix());
    let options = ExactlyOnce::new().groups(u16::try_from(groups.len()).unwrap_or(u16::MAX));
    Ok(DB::hand_back(Relay::builder(outbox, publisher.build()?), options).await?)
}

/// They would change the delivery again as soon as they get a lane.
fn refuse_living(status: &Status) -> Result<(), Failure> {
    let alive = status.relays.iter().filter(|relay| relay.is_alive);
    let alive: Vec<String> = alive.map(|relay| RelayRow::new(relay, status.at).place()).collect();
    if alive.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "relays are alive ({}), and would deliver exactly once again: nothing was done. Stop them first. One that was killed \
         counts as alive until its lease runs out",
        alive.join(", ")
    )))
}

fn done(context: &Context, groups: usize, changed: bool) -> Result<(), Failure> {
    let report = Done { groups, handed_back: changed && groups > 0 };
    context.output.one(&report, || match (groups, changed) {
        (0, _) => {
            "the events of this outbox are delivered at least once: nothing was done".to_owned()
        }
        (groups, true) => format!(
            "handed back {}: relays that deliver at least once go on where the others ended",
            counted(groups as u64, "group")
        ),
        (groups, false) => format!("would hand back {}", counted(groups as u64, "group")),
    })
}

/// What programs read.
#[derive(Debug, Serialize)]
struct Done {
    groups: usize,
    handed_back: bool,
}
