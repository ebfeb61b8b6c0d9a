//! Whether it matters over how many topics or keys a backlog is spread.

use outbox_bench_report::{Contender, Drained, Filled, Part, Spread};

use super::super::figure::count;
use super::{AT_LEAST, AT_MOST, Bench, Figure};
use crate::Error;

const TOPIC_EVENTS: u64 = 500_000;
const TOPICS: [u64; 4] = [1, 10, 100, MOST_TOPICS];
/// With 3,000 of them, the producer of the bare loop alone takes more than a minute for these events:
/// it visits all partitions for each request, and searches the list of topics for each event.
const MOST_TOPICS: u64 = 1_000;
/// At least as many as there are keys.
const KEY_EVENTS: u64 = MOST_KEYS;
const KEYS: [u64; 4] = [1, SOME_KEYS, 100_000, MOST_KEYS];
const SOME_KEYS: u64 = 1_000;
const MOST_KEYS: u64 = 1_000_000;
const ROUNDS: usize = 2;

const OUTBOX: &str = "outbox";
const BARE_LOOP: &str = "bare loop";
const RATE: &str = "events/s";
const MEMORY: &str = "peak memory, MiB";
const CREATED: &str = "topics created in, s";

pub(super) fn topics(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "topics",
        "Growth of the topics",
        &format!(
            "{TOPIC_EVENTS} events of 10,000 keys, spread evenly over topics of a partition each, {ROUNDS} rounds, each by a new process: \
             its producer learns of each topic anew, visits the queues of all of them, and sends fewer events of each at a time. The \
             bare loop says what that costs the producer and the broker alone, and why it ends at {MOST_TOPICS}: with 3,000, its \
             drain takes about ten times as long."
        ),
        &Bench::setting(),
        &[RATE, MEMORY, CREATED],
    );
    figure.draws_curves(&[RATE, MEMORY], "topics");
    for topics in TOPICS {
        let spread = Spread::Topics(topics);
        let group = match topics {
            1 => "1 topic".to_owned(),
            topics => format!("{} topics", count(topics)),
        };
        let filled: Filled = bench.run(&Part::FillSpread { events: TOPIC_EVENTS, spread })?;
        figure.push(&row(&group, OUTBOX), &[(CREATED, filled.topics_seconds)]);
        measure(bench, &mut figure, &group, TOPIC_EVENTS, |figure, ours, bare| {
            if topics == MOST_TOPICS {
                let what = |what| format!("{what} {group}: outbox / bare loop");
                let rates = bare.seconds / ours.seconds;
                figure.ratio(&what("draining"), rates, AT_LEAST(0.85));
                let memory = ours.peak_mib / bare.peak_mib;
                figure.ratio(&what("memory for"), memory, AT_MOST(1.0));
            }
        })?;
    }
    Ok(vec![figure])
}

pub(super) fn keys(bench: &Bench) -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "keys",
        "Growth of the keys",
        &format!(
            "{KEY_EVENTS} events of one topic, spread evenly over keys, {ROUNDS} rounds. Events of one key are in one lane, and sent one \
             batch after the other, so a single key is the slowest that there is; from some hundreds of keys on, their number must \
             not matter. The bare loop keeps no order when an event is refused, and sends the next batch at once."
        ),
        &Bench::setting(),
        &[RATE, MEMORY],
    );
    figure.draws_curves(&[RATE, MEMORY], "keys");
    for keys in KEYS {
        let spread = Spread::Keys(keys);
        let group = match keys {
            1 => "1 key".to_owned(),
            keys => format!("{} keys", count(keys)),
        };
        bench.run::<Filled>(&Part::FillSpread { events: KEY_EVENTS, spread })?;
        measure(bench, &mut figure, &group, KEY_EVENTS, |figure, ours, bare| {
            if keys == 1 {
                figure.ratio(
                    "draining 1 key: outbox / bare loop",
                    bare.seconds / ours.seconds,
                    None,
                );
            }
            if keys == MOST_KEYS {
                let what = format!("memory for {group}, MiB");
                figure.ratio(&what, ours.peak_mib, AT_MOST(100.0));
            }
        })?;
    }
    let rate = |figure: &mut Figure, keys| {
        let group = format!("{} keys", count(keys));
        figure.row(&row(&group, OUTBOX)).samples(RATE).median()
    };
    let ratio = rate(&mut figure, MOST_KEYS) / rate(&mut figure, SOME_KEYS);
    let what = format!("draining: {} keys / {} keys", count(MOST_KEYS), count(SOME_KEYS));
    figure.ratio(&what, ratio, AT_LEAST(0.9));
    Ok(vec![figure])
}

fn row(group: &str, contender: &str) -> String {
    format!("{group}: {contender}")
}

/// Rounds of both contenders, in turns. `judge`: called with what ours and the bare loop did in
/// each.
fn measure(
    bench: &Bench,
    figure: &mut Figure,
    group: &str,
    events: u64,
    judge: impl Fn(&mut Figure, &Drained, &Drained),
) -> Result<(), Error> {
    for round in 0..ROUNDS {
        let mut turn = |contender, name| -> Result<Drained, Error> {
            let drained: Drained = bench.run(&Part::Drain { contender, events })?;
            let rate = events as f64 / drained.seconds;
            figure.push(&row(group, name), &[(RATE, rate), (MEMORY, drained.peak_mib)]);
            Ok(drained)
        };
        let (ours, bare);
        if round % 2 == 0 {
            ours = turn(Contender::Outbox, OUTBOX)?;
            bare = turn(Contender::BareLoop, BARE_LOOP)?;
        } else {
            bare = turn(Contender::BareLoop, BARE_LOOP)?;
            ours = turn(Contender::Outbox, OUTBOX)?;
        }
        judge(figure, &ours, &bare);
    }
    Ok(())
}
