//! `outbox events replay`.

use std::time::{Duration, Instant, SystemTime};

use outbox::admin::{Replay, ReplayPlan};
use outbox::{Outbox, OutboxDatabase};
use serde::Serialize;
use uuid::Uuid;

use crate::confirm::Confirm;
use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::text::counted;
use crate::{times, values};

/// Publish retained events again, with their ids
///
/// They come after all that is in the outbox now, in their first order, each once. Consumers skip
/// those whose ids they remember. Events that are pending or parked are left out, and discarded ones
/// unless their ids are given. Interrupted, it says how to continue.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Their ids
    #[arg(value_parser = values::event_id, value_name = "ID")]
    ids: Vec<Uuid>,
    /// All that are retained
    #[arg(long, conflicts_with_all = ["ids", "topic", "name", "key", "since", "until"])]
    all: bool,
    /// Only those on this topic
    #[arg(long)]
    topic: Option<String>,
    /// Only those with this name, such as order.created
    #[arg(long)]
    name: Option<String>,
    /// Only those with this key
    #[arg(long)]
    key: Option<String>,
    /// Only those that occurred then or later: a time, or how long ago, such as 2h
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    since: Option<SystemTime>,
    /// Only those that occurred before
    #[arg(long, value_name = "TIME", value_parser = values::time)]
    until: Option<SystemTime>,
    /// Only those with a higher number: to continue what was interrupted
    #[arg(long, value_name = "SEQ", default_value_t = 0, hide_default_value = true)]
    after: i64,
    /// The most to replay in a second, such as 500/s [default: as fast as it goes]
    #[arg(long, value_name = "RATE", value_parser = values::per_second)]
    rate: Option<f64>,
    #[command(flatten)]
    confirm: Confirm,
}

/// Most events of one transaction.
const AT_ONCE: u32 = 1_000;
/// Time between two transactions of a replay with a rate.
const PACE: Duration = Duration::from_millis(100);

/// What programs read.
#[derive(Debug, Serialize)]
struct Report {
    /// Events that were chosen.
    chosen: u64,
    /// Events that were replayed. Those that were parked or reclaimed meanwhile were not.
    replayed: u64,
    dry_run: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let does = args.confirm.is_to_be_done("publishes events again")?;
    with_outbox!(context.outbox().await?, outbox => replayed(args, context, &outbox, does).await)
}

async fn replayed<DB: OutboxDatabase>(
    args: &Args,
    context: &Context,
    outbox: &Outbox<DB>,
    does: bool,
) -> Result<(), Failure> {
    let mut plan = outbox.plan_replay(&args.replay()).await?;
    let chosen = plan.len() as u64;
    let replayed = if does { Replaying { args, context, outbox }.all(&mut plan).await? } else { 0 };
    let report = Report { chosen, replayed, dry_run: !does };
    context.output.one(&report, || match does {
        true => format!("published again: {replayed} of {}", counted(chosen, "event")),
        false => format!("{} would be published again", counted(chosen, "event")),
    })
}

struct Replaying<'a, DB: OutboxDatabase> {
    args: &'a Args,
    context: &'a Context,
    outbox: &'a Outbox<DB>,
}

impl<DB: OutboxDatabase> Replaying<'_, DB> {
    async fn all(&self, plan: &mut ReplayPlan) -> Result<u64, Failure> {
        let (begun, chosen) = (Instant::now(), plan.len());
        let (mut replayed, mut told) = (0, begun);
        while !plan.is_empty() {
            tokio::select! {
                more = self.next(plan, chosen, begun) => replayed += more?,
                _ = tokio::signal::ctrl_c() => return Err(self.interrupted(plan, replayed)),
            }
            if told.elapsed() >= Duration::from_secs(1) && !self.context.output.is_for_programs() {
                told = Instant::now();
                let done = chosen - plan.len();
                self.context.output.say(format_args!(
                    "{done} of {chosen} after {}",
                    times::short(begun.elapsed())
                ));
            }
        }
        Ok(replayed)
    }

    /// Replays the next events, when the rate allows it.
    async fn next(
        &self,
        plan: &mut ReplayPlan,
        chosen: usize,
        begun: Instant,
    ) -> Result<u64, Failure> {
        let Some(rate) = self.args.rate else {
            return self.next_of(plan, AT_ONCE).await;
        };
        // By the time since the beginning, so that no rounding adds up.
        let done = (chosen - plan.len()) as f64;
        let due = begun.elapsed().as_secs_f64() * rate + 1.0 - done;
        if due < 1.0 {
            tokio::time::sleep(PACE).await;
            return Ok(0);
        }
        self.next_of(plan, due.min(f64::from(AT_ONCE)) as u32).await
    }

    async fn next_of(&self, plan: &mut ReplayPlan, most: u32) -> Result<u64, Failure> {
        let position = plan.position();
        self.outbox.replay_next(plan, most).await.map_err(|error| {
            let failure = Failure::from(error);
            self.context
                .output
                .say(format_args!("to continue: the same with `--after {position}`"));
            failure
        })
    }

    fn interrupted(&self, plan: &ReplayPlan, replayed: u64) -> Failure {
        Failure::failed(format!(
            "interrupted after {}; {} left. To continue: the same with `--after {}`",
            counted(replayed, "event"),
            plan.len(),
            plan.position()
        ))
    }
}

impl Args {
    pub fn check(&self) -> Result<(), String> {
        let is_narrow = self.topic.is_some()
            || self.name.is_some()
            || self.key.is_some()
            || self.since.is_some()
            || self.until.is_some();
        if self.all || is_narrow || !self.ids.is_empty() {
            return Ok(());
        }
        Err("`replay` needs to know which events: their ids, or some of `--topic`, `--name`, `--key`, `--since`, `--until`, or \
             `--all`. Nothing was published"
            .to_owned())
    }

    fn replay(&self) -> Replay {
        let mut replay = Replay::all().after(self.after);
        if !self.ids.is_empty() {
            replay = replay.ids(self.ids.iter().copied());
        }
        if let Some(topic) = &self.topic {
            replay = replay.topic(topic);
        }
        if let Some(name) = &self.name {
            replay = replay.name(name);
        }
        if let Some(key) = &self.key {
            replay = replay.key(key.as_bytes());
        }
        if let Some(since) = self.since {
            replay = replay.occurred_from(since);
        }
        if let Some(until) = self.until {
            replay = replay.occurred_before(until);
        }
        replay
    }
}
