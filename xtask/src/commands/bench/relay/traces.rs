//! A backlog whose events have traces.

use outbox_bench_report::{Drained, Part, Tracing};

use super::{AT_LEAST, Bench, Figure, PROGRAM};
use crate::Error;

const EVENTS: u64 = 2_000_000;
const ROUNDS: usize = 8;
const WAYS: [(Tracing, &str); 3] = [
    (Tracing::Off, "off"),
    (Tracing::Unheard, "on, and nobody listens"),
    (Tracing::Sampled, "on, 1 % of traces recorded"),
];

const RATE: &str = "events/s";
const OWN_CPU: &str = "its own CPU s";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "traces",
        "Draining a backlog with traces",
        &format!(
            "{EVENTS} events with a trace each, in {ROUNDS} rounds. CPU seconds are per million events. Spans that are recorded go \
             to an exporter that does nothing."
        ),
        &Bench::setting(),
        &[RATE, OWN_CPU],
    );
    for (_, name) in WAYS {
        figure.row(name);
    }
    bench.run::<()>(&Part::FillTraced { events: EVENTS })?;
    // The first round warms up.
    measure_round(bench, None, 0)?;
    for round in 1..=ROUNDS {
        measure_round(bench, Some(&mut figure), round)?;
    }
    Ok(vec![figure])
}

/// One turn of each, noted in the figure if there is one.
fn measure_round(bench: &Bench, figure: Option<&mut Figure>, round: usize) -> Result<(), Error> {
    let mut rates = [0.0; WAYS.len()];
    let mut turns = Vec::new();
    for turn in 0..WAYS.len() {
        // The order rotates, since the first one finds other caches than the last.
        let place = (turn + round) % WAYS.len();
        let (tracing, name) = WAYS[place];
        let part = Part::DrainTraced { tracing, events: EVENTS };
        let (drained, cpu) = bench.run_timed::<Drained>(PROGRAM, &part)?;
        rates[place] = EVENTS as f64 / drained.seconds;
        turns.push((name, rates[place], cpu.per_million(EVENTS as f64).own));
    }
    if let Some(figure) = figure {
        for (name, rate, cpu) in turns {
            figure.push(name, &[(RATE, rate), (OWN_CPU, cpu)]);
        }
        let [off, unheard, sampled] = rates;
        figure.ratio(
            "draining with traces on, and nobody listens / traces off",
            unheard / off,
            AT_LEAST(0.99),
        );
        figure.ratio(
            "draining with traces on, 1 % recorded / traces off",
            sampled / off,
            AT_LEAST(0.95),
        );
    }
    Ok(())
}
