//! Several relays on one outbox.

use outbox_bench_report::{DrainedByRelays, Part};

use super::{AT_LEAST, AT_MOST, Bench, Figure};
use crate::Error;

const EVENTS: u64 = 1_000_000;
const ROUNDS: usize = 2;
const IDLE_SECONDS: u64 = 3;
/// There are 16 lanes.
const RELAYS: [u64; 4] = [1, 4, 16, MOST];
const MOST: u64 = 64;

const RATE: &str = "events/s";
const MEMORY: &str = "peak memory of one, MiB";
const IDLE: &str = "all idle: Postgres, CPU ms/s";
const BUSY: &str = "relays with lanes";
const AGAIN: &str = "published again";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "scale-out",
        "Several relays on one backlog",
        &format!(
            "{EVENTS} events, {ROUNDS} rounds, from the end of a pause, during which the relays have shared the 16 lanes, to the last \
             event on the topic. All processes are on the same two cores as the servers, so that more relays cannot be faster: the \
             curve says what more of them cost. Those above the sixteenth have no lane, and wait for one. Then all of them idle \
             for {IDLE_SECONDS} s: what their sessions cost the database. A core has 1,000 ms a second."
        ),
        &Bench::setting(),
        &[RATE, MEMORY, IDLE, BUSY, AGAIN],
    );
    figure.draws_curves(&[RATE, MEMORY, IDLE], "relays");
    bench.run::<()>(&Part::FillOutbox { events: EVENTS })?;
    for _ in 0..ROUNDS {
        let mut alone = None;
        for relays in RELAYS {
            let part = Part::DrainByRelays { relays, events: EVENTS, idle_seconds: IDLE_SECONDS };
            let drained: DrainedByRelays = bench.run(&part)?;
            let rate = EVENTS as f64 / drained.seconds;
            let name = if relays == 1 { "1 relay".to_owned() } else { format!("{relays} relays") };
            let samples = [
                (RATE, rate),
                (MEMORY, drained.peak_mib),
                (IDLE, drained.idle_ms_a_second),
                (BUSY, drained.busy as f64),
                (AGAIN, drained.again as f64),
            ];
            figure.push(&name, &samples);
            let alone = *alone.get_or_insert(rate);
            if relays == 1 {
                let what = "memory of a single relay, MiB";
                figure.ratio(what, drained.peak_mib, AT_MOST(100.0));
            }
            if relays == MOST {
                let what = format!("draining: {MOST} relays / 1 relay");
                figure.ratio(&what, rate / alone, AT_LEAST(0.9));
                let what = format!("{MOST} idle relays, CPU ms a second of the database");
                figure.ratio(&what, drained.idle_ms_a_second, AT_MOST(100.0));
            }
        }
    }
    Ok(vec![figure])
}
