//! `outbox status`.

use std::time::Duration;

use outbox::OutboxDatabase;
use outbox::admin::{LaneStatus, Status};
use serde::Serialize;

use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::text::ABSENT;
use crate::{times, values};

/// How far the relays are: what waits, since when, and who holds which lane
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Prints it again and again, with this pause, until it is interrupted
    #[arg(long, value_name = "DURATION", value_parser = values::positive_duration)]
    pub watch: Option<Duration>,
    /// Exits with 3 if the oldest event that is not published is older than this
    #[arg(long, value_name = "DURATION", env = "OUTBOX_STATUS_FAIL_IF_OLDER", value_parser = values::duration)]
    pub fail_if_older: Option<Duration>,
    /// Exits with 3 if events are parked
    #[arg(long)]
    pub fail_if_parked: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    with_outbox!(context.outbox().await?, outbox => shown(args, context, &outbox).await)
}

async fn shown<DB: OutboxDatabase>(
    args: &Args,
    context: &Context,
    outbox: &outbox::Outbox<DB>,
) -> Result<(), Failure> {
    loop {
        let status = outbox.status().await?;
        let report = Report::new(&status);
        context.output.one(&report, || text(context, &report))?;
        args.checked(&report)?;
        let Some(pause) = args.watch else { return Ok(()) };
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

impl Args {
    fn checked(&self, report: &Report) -> Result<(), Failure> {
        let mut true_ones = Vec::new();
        let age = report.oldest_pending_seconds.map(Duration::from_secs_f64);
        if let (Some(limit), Some(age)) = (self.fail_if_older, age)
            && age > limit
        {
            let (age, limit) = (times::short(age), times::short(limit));
            true_ones.push(format!(
                "the oldest event that is not published is {age} old, more than {limit}"
            ));
        }
        if self.fail_if_parked && report.parked > 0 {
            true_ones.push(format!("{} events are parked", report.parked));
        }
        if true_ones.is_empty() { Ok(()) } else { Err(Failure::condition(true_ones.join("; "))) }
    }
}

/// What programs read.
#[derive(Debug, Serialize)]
struct Report {
    pending: u64,
    oldest_pending: Option<String>,
    oldest_pending_seconds: Option<f64>,
    parked: u64,
    lanes: Vec<LaneRow>,
}

#[derive(Debug, Serialize)]
struct LaneRow {
    lane: u32,
    relay: Option<String>,
    pending: u64,
    oldest_pending: Option<String>,
}

impl Report {
    fn new(status: &Status) -> Self {
        Self {
            pending: status.backlog,
            oldest_pending: status.oldest_pending.and_then(times::exact),
            oldest_pending_seconds: status
                .oldest_pending
                .map(|oldest| times::age(oldest).as_secs_f64()),
            parked: status.parked,
            lanes: status.lanes.iter().map(LaneRow::new).collect(),
        }
    }
}

impl LaneRow {
    fn new(lane: &LaneStatus) -> Self {
        Self {
            lane: u32::from(lane.lane.number().unsigned_abs()),
            relay: lane.owner.map(|owner| owner.to_string()),
            pending: lane.backlog,
            oldest_pending: lane.oldest_pending.and_then(times::exact),
        }
    }
}

impl Row for LaneRow {
    const COLUMNS: &'static [&'static str] = &["LANE", "PENDING", "OLDEST", "RELAY"];

    fn cells(&self) -> Vec<String> {
        let absent = || ABSENT.to_owned();
        vec![
            self.lane.to_string(),
            self.pending.to_string(),
            self.oldest_pending.clone().unwrap_or_else(absent),
            self.relay.clone().unwrap_or_else(absent),
        ]
    }
}

fn text(context: &Context, report: &Report) -> String {
    let age = report.oldest_pending_seconds.map(Duration::from_secs_f64);
    let held = report.lanes.iter().filter(|lane| lane.relay.is_some()).count();
    format!(
        "pending  {}\noldest   {}\nparked   {}\nlanes    {held} of {} held\n\n{}",
        report.pending,
        age.map_or_else(|| ABSENT.to_owned(), times::short),
        report.parked,
        report.lanes.len(),
        context.output.table(&report.lanes)
    )
}
