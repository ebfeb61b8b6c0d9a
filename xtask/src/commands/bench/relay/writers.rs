//! What an event costs those who write it.

use outbox_bench_report::{Beside, Pairs, Part, Plan, Way};

use super::{AT_LEAST, Bench, Budget, Figure};
use crate::Error;

/// Short, so that the machine is the same in both turns.
const SLICE_MILLIS: u64 = 300;
/// A ratio with a budget.
pub(super) const CERTAIN: Plan =
    Plan { slice_millis: SLICE_MILLIS, least: 12, most: 80, within: 0.02 };
/// A ratio without one, which only explains.
const ROUGH: Plan = Plan { slice_millis: SLICE_MILLIS, least: 5, most: 5, within: 0.0 };

const OURS: (Way, &str) = (Way::Outbox, "outbox");
const BY_HAND: (Way, &str) = (Way::ByHand { rings: true }, "by hand");
const NOT_RUNG: (Way, &str) = (Way::ByHand { rings: false }, "by hand, not rung");
const NO_EVENT: (Way, &str) = (Way::NoEvent, "no event");
const RELAY: (Way, &str) = (Way::Outbox, "outbox, its relay beside");
const BARE_LOOP: (Way, &str) = (Way::BareTable { rings: true }, "by hand, the bare loop beside");
const OUR_TABLE: (Way, &str) = (Way::ByHand { rings: false }, "by hand, our table");
const BARE_TABLE: (Way, &str) = (Way::BareTable { rings: false }, "by hand, the bare loop's table");

pub(super) const RATE: &str = "transactions/s";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let Plan { least, most, within, slice_millis } = CERTAIN;
    let mut figure = Figure::new(
        "writers",
        "Business transactions",
        &format!(
            "One insert into a table, without an event, with an event by hand-written SQL, and by `#[transactional_outbox]`. By hand \
             it is the same statements with the same values, and the same ring of the doorbell after the commit. A relay in a \
             process of its own publishes the events, on the same two cores: rung, it does so at once, and takes the more of them. \
             Then 16 writers in one process with a relay and with the bare loop: each has a table of its own, in which it \
             finds what is written in its turns; and the same two tables by hand, with nobody who reads them. \
             Two ways take turns of {slice_millis} ms (A, B, B, A is a round) over one pool, for {least} to {most} rounds, until the mean of \
             the rounds' ratios is known within ±{within}, at 95 %; the others for {} rounds. The mean is the geometric one.",
            ROUGH.least
        ),
        &Bench::setting(),
        &[RATE],
    );
    bench.run::<()>(&Part::FillOutbox { events: 0 })?;
    for connections in [1, 8, 64] {
        let connected = match connections {
            1 => "1 connection".to_owned(),
            several => format!("{several} connections"),
        };
        let mut turns = Turns { bench, connections, group: &connected, figure: &mut figure };
        let what = format!("transactions/s over {connected}: outbox / by hand");
        turns.measure([OURS, BY_HAND], Beside::RelayProcess, Some((&what, AT_LEAST(0.97))))?;
        turns.measure([NOT_RUNG, NO_EVENT], Beside::RelayProcess, None)?;
    }
    let mut turns = Turns { bench, connections: 16, group: "16 writers", figure: &mut figure };
    let what = "transactions/s of 16 writers: relay beside / bare loop beside";
    turns.measure([RELAY, BARE_LOOP], Beside::RelayAndBareLoop, Some((what, AT_LEAST(0.95))))?;
    let what = "transactions/s of 16 writers, read by nobody: our table / the bare loop's";
    turns.measure([OUR_TABLE, BARE_TABLE], Beside::Nobody, Some((what, None)))?;
    Ok(vec![figure])
}

struct Turns<'a> {
    bench: &'a Bench,
    connections: u32,
    /// Of the rows.
    group: &'a str,
    figure: &'a mut Figure,
}

impl Turns<'_> {
    /// `verdict`: what the ratio of the two says, and its budget.
    fn measure(
        &mut self,
        ways: [(Way, &str); 2],
        beside: Beside,
        verdict: Option<(&str, Option<Budget>)>,
    ) -> Result<(), Error> {
        let plan = if verdict.is_some() { CERTAIN } else { ROUGH };
        let connections = self.connections;
        let part = Part::Write { ways: ways.map(|(way, _)| way), connections, beside, plan };
        let pairs: Pairs = self.bench.run(&part)?;
        for (n, (_, name)) in ways.iter().enumerate() {
            for round in &pairs.rounds {
                let rate = [round.first, round.second][n];
                self.figure.push(&format!("{}: {name}", self.group), &[(RATE, rate)]);
            }
        }
        if let Some((what, budget)) = verdict {
            self.figure.mean_ratio(what, &pairs, budget);
        }
        Ok(())
    }
}
