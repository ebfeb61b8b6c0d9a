//! Whether it matters how many consumer groups have their rows in one inbox.

use outbox_bench_report::{HandledAmong, Part};

use super::super::figure::count;
use super::{AT_LEAST, Bench, Figure, PROGRAM};
use crate::Error;

const EVENTS: u64 = 10_000;
const ROWS: u64 = 10_000;
const GROUPS: [u64; 4] = [FEWEST, 10, 100, MOST];
const FEWEST: u64 = 1;
const MOST: u64 = 1_000;
const CONCURRENCY: u32 = 8;
const ROUNDS: usize = 3;

const RATE: &str = "events/s";
const FORGOTTEN: &str = "forgotten/s";
const DATABASE_CPU: &str = "Postgres, CPU s per million";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "inbox",
        "Growth of the inbox",
        &format!(
            "Each consumer group has handled {} events, and the inbox has a row for each of them: ten million in the end. In each of \
             {ROUNDS} rounds, one more group handles {EVENTS} events by {CONCURRENCY} handlers, and then forgets {ROWS} that it handled \
             long ago. Each group's rows are together in both indexes, so the others should not be noticed.",
            count(ROWS)
        ),
        &Bench::setting(),
        &[RATE, FORGOTTEN, DATABASE_CPU],
    );
    figure.draws_curves(&[RATE, FORGOTTEN, DATABASE_CPU], "groups");
    bench.run::<()>(&Part::FillTopic { events: EVENTS })?;
    // The first round warms up.
    handle(bench)?;
    let mut there = 0;
    for groups in GROUPS {
        bench.run::<()>(&Part::FillInbox { from: there, to: groups, rows: ROWS })?;
        there = groups;
        for _ in 0..ROUNDS {
            let (handled, cpu) = handle(bench)?;
            let samples =
                [(RATE, handled.rate), (FORGOTTEN, handled.forgotten), (DATABASE_CPU, cpu)];
            figure.push(&row(groups), &samples);
        }
    }
    for (column, what) in [(RATE, "handling"), (FORGOTTEN, "forgetting")] {
        let mut median = |groups| figure.row(&row(groups)).samples(column).median();
        let ratio = median(MOST) / median(FEWEST);
        let what = format!("{what} beside {} groups / beside one", count(MOST));
        figure.ratio(&what, ratio, AT_LEAST(0.9));
    }
    Ok(vec![figure])
}

fn row(groups: u64) -> String {
    match groups {
        1 => "1 group".to_owned(),
        several => format!("{} groups", count(several)),
    }
}

/// One more group; with Postgres's processor seconds for a million events.
fn handle(bench: &Bench) -> Result<(HandledAmong, f64), Error> {
    let part = Part::HandleAmong { concurrency: CONCURRENCY, events: EVENTS, rows: ROWS };
    let (handled, cpu) = bench.run_timed::<HandledAmong>(PROGRAM, &part)?;
    Ok((handled, cpu.per_million(EVENTS as f64).database))
}
