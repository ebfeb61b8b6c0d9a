//! Whether it matters how much there is.

use outbox_bench_report::{Contender, Drained, Idled, Part, Sizes, Watched};

use super::{AT_LEAST, AT_MOST, Bench, Figure};
use crate::Error;

const SIZES: [(u64, &str); 3] =
    [(100_000, "100,000"), (1_000_000, "1 million"), (10_000_000, "10 million")];
const LARGEST: u64 = 10_000_000;
const BY_HAND: &str = "10 million, bare loop";
/// A tenth of a smaller backlog is a few batches, whose reports come together.
const SMALLEST_WITH_TENTHS: u64 = 1_000_000;
const ROUNDS: usize = 2;
const IDLE_SECONDS: u64 = 10;
const LOOKS: u32 = 50;

const RATE: &str = "events/s";
const SECOND_TENTH: &str = "of the second tenth";
const NINTH_TENTH: &str = "of the ninth tenth";
const MEMORY: &str = "peak memory, MiB";
const DISK_BEFORE: &str = "disk before, MiB";
const DISK_DRAINED: &str = "after draining";
const DISK_RECLAIMED: &str = "after reclaiming";
const DEAD_ROWS: &str = "dead rows after draining";
const STATUS: &str = "`outbox status`, CPU ms";
const EXPORTER: &str = "a look of the exporter";
const IDLE_LOOK: &str = "an idle look, CPU ms";
const IDLE_WAL: &str = "bytes of WAL while idle";
const IDLE_XIDS: &str = "transaction ids while idle";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "growth",
        "Growth of the backlog",
        &format!(
            "{ROUNDS} drains of each backlog. Before them, the state of the outbox is asked for {LOOKS} times, as `outbox status` and \
             `outbox exporter` do: what that costs, in milliseconds of processor time of the database. The largest one is drained by the bare loop, too. Then the relay idles for \
             {IDLE_SECONDS} s with all of it retained, and looks for news every 5 ms: what a look costs, in milliseconds of \
             its session's processor time. Then everything is reclaimed."
        ),
        &Bench::setting(),
        &[
            RATE,
            SECOND_TENTH,
            NINTH_TENTH,
            MEMORY,
            DISK_BEFORE,
            DISK_DRAINED,
            DISK_RECLAIMED,
            DEAD_ROWS,
            STATUS,
            EXPORTER,
            IDLE_LOOK,
            IDLE_WAL,
            IDLE_XIDS,
        ],
    );
    for (events, name) in SIZES {
        bench.run::<()>(&match events {
            LARGEST => Part::Fill { events },
            _ => Part::FillOutbox { events },
        })?;
        let before: Sizes = bench.run(&Part::Size { reclaim: false })?;
        figure.push(name, &[(DISK_BEFORE, before.mib)]);
        watch(bench, &mut figure, events, name)?;
        for _ in 0..ROUNDS {
            drain(bench, &mut figure, events, name)?;
            if events == LARGEST {
                drain_by_hand(bench, &mut figure)?;
            }
        }
        retain(bench, &mut figure, events, name)?;
    }
    Ok(vec![figure])
}

/// With all of it pending.
fn watch(bench: &Bench, figure: &mut Figure, events: u64, name: &str) -> Result<(), Error> {
    let Watched { status_ms, gauges_ms } = bench.run(&Part::Watch { looks: LOOKS })?;
    figure.push(name, &[(STATUS, status_ms), (EXPORTER, gauges_ms)]);
    if events == LARGEST {
        let what = "status with 10 million pending, CPU ms of the database";
        figure.ratio(what, status_ms, AT_MOST(5.0));
        let what = "the exporter with 10 million pending, CPU ms of the database";
        figure.ratio(what, gauges_ms, AT_MOST(5.0));
    }
    Ok(())
}

fn drain(bench: &Bench, figure: &mut Figure, events: u64, name: &str) -> Result<(), Error> {
    let drained: Drained = bench.run(&Part::Drain { contender: Contender::Outbox, events })?;
    let rate = events as f64 / drained.seconds;
    figure.push(name, &[(RATE, rate), (MEMORY, drained.peak_mib)]);
    let Some(tenths) = drained.tenths.filter(|_| events >= SMALLEST_WITH_TENTHS) else {
        return Ok(());
    };
    figure.push(name, &[(SECOND_TENTH, tenths.second), (NINTH_TENTH, tenths.ninth)]);
    if events == LARGEST {
        let what = "10 million events: ninth tenth / second tenth";
        figure.ratio(what, tenths.ninth / tenths.second, AT_LEAST(0.95));
        let what = "10 million events: memory of the relay, MiB";
        figure.ratio(what, drained.peak_mib, AT_MOST(100.0));
    }
    Ok(())
}

/// What part of the growth is not ours.
fn drain_by_hand(bench: &Bench, figure: &mut Figure) -> Result<(), Error> {
    let by_hand = Part::Drain { contender: Contender::BareLoop, events: LARGEST };
    let drained: Drained = bench.run(&by_hand)?;
    let rate = LARGEST as f64 / drained.seconds;
    figure.push(BY_HAND, &[(RATE, rate), (MEMORY, drained.peak_mib)]);
    if let Some(tenths) = drained.tenths {
        figure.push(BY_HAND, &[(SECOND_TENTH, tenths.second), (NINTH_TENTH, tenths.ninth)]);
        let what = "10 million events, bare loop: ninth tenth / second tenth";
        figure.ratio(what, tenths.ninth / tenths.second, None);
    }
    Ok(())
}

/// All of it is published, and still there; then it is reclaimed.
fn retain(bench: &Bench, figure: &mut Figure, events: u64, name: &str) -> Result<(), Error> {
    let drained: Sizes = bench.run(&Part::Size { reclaim: false })?;
    let idle: Idled = bench.run(&Part::Idle { seconds: IDLE_SECONDS })?;
    let reclaimed: Sizes = bench.run(&Part::Size { reclaim: true })?;
    figure.push(
        name,
        &[
            (DISK_DRAINED, drained.mib),
            (DISK_RECLAIMED, reclaimed.mib),
            (DEAD_ROWS, drained.dead as f64),
            (IDLE_LOOK, idle.ms_a_look),
            (IDLE_WAL, idle.wal as f64),
            (IDLE_XIDS, idle.xids as f64),
        ],
    );
    if events == LARGEST {
        let what = "an idle look with 10 million retained, CPU ms";
        figure.ratio(what, idle.ms_a_look, AT_MOST(1.0));
    }
    Ok(())
}
