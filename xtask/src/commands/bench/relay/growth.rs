//! Whether it matters how much there is.

use super::{AT_LEAST, AT_MOST, Bench, Figure};
use crate::Error;

const SIZES: [(u64, &str); 3] =
    [(100_000, "100,000"), (1_000_000, "1 million"), (10_000_000, "10 million")];
const ROUNDS: usize = 2;
const IDLE_SECONDS: &str = "10";

pub(super) fn measure(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "growth",
        "Growth of the backlog",
        &format!(
            "{ROUNDS} drains of each backlog. The first tenth is timed from its first report. Then the relay idles for \
             {IDLE_SECONDS} s with all of it retained, and looks for news every 5 ms: what a look costs, in milliseconds of \
             its session's processor time. Then everything is reclaimed."
        ),
        &Bench::setting(),
        &[
            "events/s",
            "of the first tenth",
            "of the last tenth",
            "peak memory, MiB",
            "disk before, MiB",
            "after draining",
            "after reclaiming",
            "dead rows after draining",
            "an idle look, CPU ms",
            "bytes of WAL while idle",
            "transaction ids while idle",
        ],
    );
    for (events, name) in SIZES {
        bench.part(&["fill-outbox", &events.to_string()])?;
        let disk = bench.part(&["sizes"])?.number("mib")?;
        for _ in 0..ROUNDS {
            let printed = bench.part(&["drain-outbox", &events.to_string()])?;
            // A tenth of the smallest is a few batches, whose reports come together.
            let tenth = |name| if events > 100_000 { printed.number(name) } else { Ok(f64::NAN) };
            let [first, last] = [tenth("first_tenth")?, tenth("last_tenth")?];
            let rate = events as f64 / printed.number("seconds")?;
            figure.push(name, &[rate, first, last, printed.number("peak_mib")?, disk]);
            if events == 10_000_000 {
                figure.ratio(
                    "10 million events: last tenth / first tenth",
                    last / first,
                    AT_LEAST(0.9),
                );
                figure.ratio(
                    "10 million events: memory of the relay, MiB",
                    printed.number("peak_mib")?,
                    AT_MOST(100.0),
                );
            }
        }
        let drained = bench.part(&["sizes"])?;
        let idle = bench.part(&["idle", IDLE_SECONDS])?;
        let look = idle.number("ms_a_look")?;
        let reclaimed = bench.part(&["sizes-reclaimed"])?;
        let nothing = f64::NAN;
        figure.push(
            name,
            &[
                nothing,
                nothing,
                nothing,
                nothing,
                nothing,
                drained.number("mib")?,
                reclaimed.number("mib")?,
                drained.number("dead")?,
                look,
                idle.number("wal")?,
                idle.number("xids")?,
            ],
        );
        if events == 10_000_000 {
            figure.ratio("an idle look with 10 million retained, CPU ms", look, AT_MOST(1.0));
        }
    }
    Ok(vec![figure])
}
