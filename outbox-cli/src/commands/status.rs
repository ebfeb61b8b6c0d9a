//! `outbox status`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use outbox::admin::{DeliveryStatus, GroupStatus, Status};
use outbox::{Outbox, OutboxDatabase};
use serde::Serialize;
use uuid::Uuid;

use super::relay::{PauseRow, RelayRow};
use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::signals::Stop;
use crate::text::{ABSENT, counted, one_line};
use crate::{times, values};

/// What a terminal does: clear the screen, and begin at its top.
const CLEAR: &str = "\x1b[2J\x1b[H";
/// As the option of `relay run` has it.
const EXACTLY_ONCE: &str = "exactly-once";

/// How far the relays are: what waits, since when, and who holds which lane
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Prints it again and again, with this pause [default: 2s], until it is interrupted
    #[arg(long, value_name = "DURATION", num_args = 0..=1, default_missing_value = "2s", value_parser = values::positive_duration)]
    watch: Option<Duration>,
    /// Exits with 3 if the oldest event that is not published is older than this
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    fail_if_older: Option<Duration>,
    /// Exits with 3 if events are parked
    #[arg(long)]
    fail_if_parked: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let stop = Stop::listen()?;
    let outbox = context.outbox().await?;
    tokio::select! {
        shown = async { with_outbox!(outbox, outbox => shown(args, context, &outbox).await) } => shown,
        () = stop.asked() => Ok(()),
    }
}

async fn shown<DB: OutboxDatabase>(
    args: &Args,
    context: &Context,
    outbox: &Outbox<DB>,
) -> Result<(), Failure> {
    loop {
        let status = outbox.status_within(context.statement_timeout()).await?;
        let report = Report::new(&status);
        let clears = args.watch.is_some() && context.output.is_terminal();
        context.output.one(&report, || {
            format!("{}{}", if clears { CLEAR } else { "" }, text(context, &status, &report))
        })?;
        args.checked(&report)?;
        let Some(pause) = args.watch else { return Ok(()) };
        tokio::time::sleep(pause).await;
    }
}

impl Args {
    fn checked(&self, report: &Report) -> Result<(), Failure> {
        let mut is_true = Vec::new();
        let age = report.oldest_pending_seconds.map(Duration::from_secs_f64);
        if let (Some(limit), Some(age)) = (self.fail_if_older, age)
            && age > limit
        {
            let (age, limit) = (times::short(age), times::short(limit));
            is_true.push(format!(
                "the oldest event that is not published is {age} old, more than {limit}"
            ));
        }
        if self.fail_if_parked && report.parked > 0 {
            is_true.push(format!("parked: {}", counted(report.parked, "event")));
        }
        if is_true.is_empty() { Ok(()) } else { Err(Failure::condition(is_true.join("; "))) }
    }
}

/// What programs read.
#[derive(Debug, Serialize)]
struct Report {
    at: Option<String>,
    pending: u64,
    pending_is_estimate: bool,
    oldest_pending: Option<String>,
    oldest_pending_seconds: Option<f64>,
    parked: u64,
    oldest_parked: Option<String>,
    set_aside: u64,
    leaves_free: Option<u32>,
    lanes: Vec<LaneRow>,
    relays: Vec<RelayRow>,
    pauses: Vec<PauseRow>,
    delivery: &'static str,
    groups: Vec<GroupRow>,
}

/// A group of lanes of an outbox that is delivered exactly once.
#[derive(Debug, Serialize)]
struct GroupRow {
    group: u16,
    lanes: Vec<i16>,
    relay: Option<String>,
    claim: Option<String>,
}

#[derive(Debug, Serialize)]
struct LaneRow {
    lane: i16,
    pending: u64,
    oldest_pending: Option<String>,
    oldest_pending_seconds: Option<f64>,
    relay: Option<String>,
    #[serde(skip)]
    place: String,
}

impl Report {
    fn new(status: &Status) -> Self {
        let relays: Vec<RelayRow> =
            status.relays.iter().map(|relay| RelayRow::new(relay, status.at)).collect();
        let places: BTreeMap<Uuid, String> =
            status.relays.iter().zip(&relays).map(|(relay, row)| (relay.id, row.place())).collect();
        let lanes = status.lanes.iter().map(|lane| LaneRow {
            lane: lane.lane.number(),
            pending: lane.backlog,
            oldest_pending: lane.oldest_pending.and_then(times::exact),
            oldest_pending_seconds: lane.oldest_pending.map(|oldest| age(status.at, oldest)),
            relay: lane.owner.map(|owner| owner.to_string()),
            place: lane.owner.map_or_else(
                || ABSENT.to_owned(),
                |owner| places.get(&owner).cloned().unwrap_or_else(|| owner.to_string()),
            ),
        });
        Self {
            at: times::exact(status.at),
            pending: status.backlog,
            pending_is_estimate: status.backlog_is_estimate,
            oldest_pending: status.oldest_pending.and_then(times::exact),
            oldest_pending_seconds: status.oldest_pending.map(|oldest| age(status.at, oldest)),
            parked: status.parked,
            oldest_parked: status.oldest_parked.and_then(times::exact),
            set_aside: status.set_aside,
            leaves_free: status.leaves_free,
            lanes: lanes.collect(),
            relays,
            pauses: status.pauses.iter().map(PauseRow::from).collect(),
            delivery: match &status.delivery {
                DeliveryStatus::ExactlyOnce { .. } => EXACTLY_ONCE,
                _ => "at-least-once",
            },
            groups: groups(status),
        }
    }
}

fn groups(status: &Status) -> Vec<GroupRow> {
    let DeliveryStatus::ExactlyOnce { groups, .. } = &status.delivery else { return Vec::new() };
    let row = |group: &GroupStatus| GroupRow {
        group: group.group,
        lanes: group.lanes.iter().map(|lane| lane.number()).collect(),
        relay: group.owner.map(|owner| owner.to_string()),
        claim: group.claim.map(|claim| claim.to_string()),
    };
    groups.iter().map(row).collect()
}

/// Seconds since then, by the clock of the database.
fn age(now: SystemTime, then: SystemTime) -> f64 {
    now.duration_since(then).unwrap_or_default().as_secs_f64()
}

fn short(seconds: Option<f64>) -> String {
    seconds
        .map_or_else(|| ABSENT.to_owned(), |seconds| times::short(Duration::from_secs_f64(seconds)))
}

impl Row for LaneRow {
    const COLUMNS: &'static [&'static str] = &["LANE", "PENDING", "OLDEST", "RELAY"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.lane.to_string(),
            self.pending.to_string(),
            short(self.oldest_pending_seconds),
            self.place.clone(),
        ]
    }
}

fn text(context: &Context, status: &Status, report: &Report) -> String {
    let about = if report.pending_is_estimate { "about " } else { "" };
    let or_more = if report.parked >= Status::COUNTED { " or more" } else { "" };
    let held = report.lanes.iter().filter(|lane| lane.relay.is_some()).count();
    let alive = report.relays.iter().filter(|relay| relay.state == "alive").count();
    let mut text = String::new();
    let _ = writeln!(text, "pending  {about}{}", report.pending);
    let _ = writeln!(text, "oldest   {}", short(report.oldest_pending_seconds));
    let _ = writeln!(text, "parked   {}{or_more}", report.parked);
    if report.set_aside > 0 {
        let _ = writeln!(text, "aside    {}, because their topics are paused", report.set_aside);
    }
    let _ = writeln!(text, "relays   {alive} alive");
    let _ = writeln!(text, "lanes    {held} of {} held", report.lanes.len());
    let _ = match report.delivery {
        EXACTLY_ONCE => {
            let held = report.groups.iter().filter(|group| group.relay.is_some()).count();
            writeln!(text, "delivery exactly once, {held} of {} groups held", report.groups.len())
        }
        _ => writeln!(text, "delivery at least once"),
    };
    for pause in &status.pauses {
        let since = times::seconds(pause.since).unwrap_or_else(|| ABSENT.to_owned());
        let _ = writeln!(text, "paused   {}, since {since}", one_line(&pause.to_string()));
    }
    let _ = write!(text, "\n{}", context.output.table(&report.lanes));
    text
}
