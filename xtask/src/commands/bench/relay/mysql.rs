//! The outbox in MySQL and MariaDB, from which what is delivered is deleted.

use std::time::{Duration, Instant};

use outbox_bench_report::{
    Beside, Contender, Drained, Latencies, Load, Pairs, Part, Plan, Waited, Way,
};

use super::super::figure::count;
use super::database::{BinaryLog, Database};
use super::drain::{BROKER_CPU, DATABASE_CPU, MEMORY, OWN_CPU, RATE, push};
use super::writers::CERTAIN;
use super::{AT_LEAST, AT_MOST, Bench, Figure, PROGRAM, latency, setting_of};
use crate::Error;
use crate::servers::{Connect, DEBEZIUM, DEBEZIUM_OF_MARIA_DB, MySqlServer, Setup};

pub(super) const SERVERS: [MySqlServer; 2] = [MySqlServer::MariaDb10_11, MySqlServer::MySql8_0];

const EVENTS: u64 = 500_000;
const ROUNDS: usize = 4;
const SMALLER: u64 = 1_000_000;
const LARGEST: u64 = 10_000_000;
const LATENCY_ROUNDS: usize = 2;
const LATENCY_SECONDS: u64 = 10;
const RATES: [(u64, &str); 2] = [(100, "100/s"), (1_000, "1,000/s")];
/// The longest time until Debezium follows the binary log.
const FOLLOWS_WITHIN: Duration = Duration::from_secs(120);

const OUTBOX: &str = "outbox";
const BARE_LOOP: &str = "bare loop";
const SECOND_TENTH: &str = "of the second tenth";
const NINTH_TENTH: &str = "of the ninth tenth";

fn setting(log: BinaryLog) -> String {
    let [maria_db, mysql] = SERVERS;
    let of_mysql = Database::OF_MYSQL;
    let databases = |log| format!("{maria_db} and {mysql}, each with {of_mysql}, and {log}");
    match log {
        BinaryLog::AsByDefault => {
            setting_of(&databases("a binary log on MySQL alone, as is their default"), None)
        }
        BinaryLog::On => {
            let debezium = format!("{DEBEZIUM} ({DEBEZIUM_OF_MARIA_DB} for MariaDB)");
            setting_of(&databases("a binary log of rows"), Some(&debezium))
        }
    }
}

/// `backlog`: how many events, if it is said.
pub(super) fn drain(backlog: Option<u64>) -> Result<Vec<Figure>, Error> {
    let events = backlog.unwrap_or(EVENTS);
    let mut figure = Figure::new(
        "mysql-drain",
        "Draining a backlog on MySQL",
        &format!(
            "{} events in {ROUNDS} rounds; the two take turns (A, B, B, A), each with a backlog of its own. The bare loop is what one \
             writes by hand for one process: it reads 20,000 rows in order, from a table with one index, publishes them and deletes \
             them by their numbers, over two connections. Like the relay, it waits for a commit of its own after it has read and before it \
             publishes, so that it publishes nothing that a crash of the server can take back. It passes over events that commit late until \
             it starts again, and cannot run twice. CPU seconds are per million events; those of the database include what it does about \
             the deleted rows in the background, and the writing of its pages.",
            count(events)
        ),
        &setting(BinaryLog::AsByDefault),
        &[RATE, OWN_CPU, BROKER_CPU, DATABASE_CPU, MEMORY],
    );
    for server in SERVERS {
        let bench = Bench::start_mysql(server, BinaryLog::AsByDefault)?;
        create_topic(&bench)?;
        // The first round warms up.
        for round in 0..=ROUNDS {
            bench.run::<()>(&Part::Fill { events })?;
            let [bare, ours] = turns(round, |contender| {
                let part = Part::Drain { contender, events };
                let (drained, cpu) = bench.run_timed::<Drained>(PROGRAM, &part)?;
                if round > 0 {
                    push(&mut figure, &row(server, contender), events, &drained, cpu);
                }
                Ok(drained)
            })?;
            if round > 0 {
                let what = format!("draining on {server}: outbox / bare loop");
                figure.ratio(&what, bare.seconds / ours.seconds, AT_LEAST(0.85));
            }
        }
    }
    Ok(vec![figure])
}

/// `backlog`: the largest one, if it is said.
pub(super) fn growth(backlog: Option<u64>) -> Result<Vec<Figure>, Error> {
    let largest = backlog.unwrap_or(LARGEST);
    let mut figure = Figure::new(
        "mysql-growth",
        "Growth of the backlog on MySQL",
        "A drain of each backlog by the relay, and by the bare loop for comparison. What is published is deleted, and the table \
         shrinks, so the tenths are alike only if neither what is left nor what was deleted matters. The largest backlog is several \
         times as large as the server's buffer pool.",
        &setting(BinaryLog::AsByDefault),
        &[RATE, SECOND_TENTH, NINTH_TENTH, MEMORY],
    );
    for server in SERVERS {
        let of_smaller = match largest > SMALLER {
            true => Some(grown(&mut figure, server, SMALLER)?),
            false => None,
        };
        let of_largest = grown(&mut figure, server, largest)?;
        if let Some(of_smaller) = of_smaller {
            let (largest, smaller) = (count(largest), count(SMALLER));
            let what = format!("draining on {server}: {largest} events / {smaller} events");
            figure.ratio(&what, of_largest / of_smaller, AT_LEAST(0.9));
        }
    }
    Ok(vec![figure])
}

/// Returns the relay's events a second.
fn grown(figure: &mut Figure, server: MySqlServer, events: u64) -> Result<f64, Error> {
    let bench = Bench::start_mysql(server, BinaryLog::AsByDefault)?;
    create_topic(&bench)?;
    bench.run::<()>(&Part::Fill { events })?;
    let [_, ours] = turns(0, |contender| {
        let drained: Drained = bench.run(&Part::Drain { contender, events })?;
        let row = format!("{server}, {} events: {}", count(events), name(contender));
        let rate = events as f64 / drained.seconds;
        figure.push(&row, &[(RATE, rate), (MEMORY, drained.peak_mib)]);
        if let Some(tenths) = drained.tenths {
            figure.push(&row, &[(SECOND_TENTH, tenths.second), (NINTH_TENTH, tenths.ninth)]);
            let what = format!(
                "{} events on {server}, {}: ninth tenth / second tenth",
                count(events),
                name(contender)
            );
            let budget = AT_LEAST(0.9).filter(|_| contender == Contender::Outbox);
            figure.ratio(&what, tenths.ninth / tenths.second, budget);
        }
        Ok(drained)
    })?;
    Ok(events as f64 / ours.seconds)
}

fn create_topic(bench: &Bench) -> Result<(), Error> {
    bench.run::<Waited>(&Part::Wait { topic: "orders".to_owned(), until: 0 }).map(drop)
}

/// The bare loop and the relay. In each second round, the relay is the first.
fn turns(
    round: usize,
    mut drain: impl FnMut(Contender) -> Result<Drained, Error>,
) -> Result<[Drained; 2], Error> {
    if round.is_multiple_of(2) {
        let bare = drain(Contender::BareLoop)?;
        return Ok([bare, drain(Contender::Outbox)?]);
    }
    let ours = drain(Contender::Outbox)?;
    Ok([drain(Contender::BareLoop)?, ours])
}

fn name(contender: Contender) -> &'static str {
    if contender == Contender::BareLoop { BARE_LOOP } else { OUTBOX }
}

fn row(server: MySqlServer, contender: Contender) -> String {
    format!("{server}: {}", name(contender))
}

pub(super) fn writers() -> Result<Vec<Figure>, Error> {
    let Plan { least, most, within, slice_millis } = CERTAIN;
    let mut figure = Figure::new(
        "mysql-writers",
        "Business transactions on MySQL",
        &format!(
            "16 writers: one insert into a table, and an event by `#[transactional_outbox]` or by a hand-written insert of the same \
             columns in a plain transaction. With a relay beside them, in a process of its own on the same two cores, and without. \
             The two ways take turns of {slice_millis} ms (A, B, B, A is a round) over one pool, for {least} to {most} rounds, until \
             the mean of the rounds' ratios is known within ±{within}, at 95 %. The mean is the geometric one."
        ),
        &setting(BinaryLog::AsByDefault),
        &[super::writers::RATE],
    );
    let ways = [Way::Outbox, Way::ByHand { rings: false }];
    for server in SERVERS {
        let bench = Bench::start_mysql(server, BinaryLog::AsByDefault)?;
        create_topic(&bench)?;
        for (beside, with, budget) in [
            (Beside::RelayProcess, "relay beside", AT_LEAST(0.9)),
            (Beside::Nobody, "read by nobody", None),
        ] {
            bench.run::<()>(&Part::FillOutbox { events: 0 })?;
            let part = Part::Write { ways, connections: 16, beside, plan: CERTAIN };
            let pairs: Pairs = bench.run(&part)?;
            for round in &pairs.rounds {
                for (by, rate) in [("outbox", round.first), ("by hand", round.second)] {
                    let row = format!("{server}, {with}: {by}");
                    figure.push(&row, &[(super::writers::RATE, rate)]);
                }
            }
            let what =
                format!("transactions/s of 16 writers on {server}, {with}: outbox / by hand");
            figure.mean_ratio(&what, &pairs, budget);
        }
    }
    Ok(vec![figure])
}

pub(super) fn latency() -> Result<Vec<Figure>, Error> {
    let mut figure = Figure::new(
        "mysql-latency",
        "From the commit to a consumer on MySQL",
        &format!(
            "Milliseconds; {LATENCY_ROUNDS} rounds of {LATENCY_SECONDS} s; 16 writers and a consumer in one process. The relay in the process of \
             the writers is rung by each commit. In a process of its own it polls: 5 ms after it has found something, then \
             half as often each time, and every 250 ms at last. Debezium, tuned, reads the inserts into the outbox's own table from the binary log, and skips deletes; \
             it has its turns between those of the relay. Lost: committed, and not arrived a second after the end."
        ),
        &setting(BinaryLog::On),
        &latency::COLUMNS,
    );
    figure.draws(&latency::DRAWN, "ms");
    for server in SERVERS {
        let bench = Bench::start_mysql(server, BinaryLog::On)?;
        measure_latency(&bench, server, &mut figure)?;
    }
    Ok(vec![figure])
}

const RELAYS: [(Contender, &str); 2] = [
    (Contender::Outbox, "outbox, rung"),
    (Contender::OutboxElsewhere, "outbox, in another process"),
];

/// The relay, Debezium twice, and the relay again.
fn measure_latency(bench: &Bench, server: MySqlServer, figure: &mut Figure) -> Result<(), Error> {
    let mut timed = |contender, called: &str| {
        let mut at_rates = Vec::new();
        for (rate, at) in RATES {
            let latencies = latency_of(bench, contender, rate, LATENCY_SECONDS)?;
            latency::push(figure, &format!("{server}, {at}: {called}"), &latencies);
            at_rates.push(latencies);
        }
        Ok::<_, Error>(at_rates)
    };
    let mut ours = Vec::new();
    let mut debezium = Vec::new();
    for round in 0..LATENCY_ROUNDS {
        bench.run::<()>(&Part::FillOutbox { events: 0 })?;
        for (contender, called) in RELAYS {
            let latencies = timed(contender, called)?;
            if contender == Contender::OutboxElsewhere {
                ours.push(latencies);
            }
        }
        if round == 0 {
            bench.run::<()>(&Part::FillOutbox { events: 0 })?;
            let connect = bench.connect("orders", "unused", Setup::Tuned)?;
            until_it_follows(bench, &connect)?;
            for _ in 0..LATENCY_ROUNDS {
                debezium.push(timed(Contender::Debezium, "Debezium tuned")?);
            }
            drop(connect);
        }
    }
    for (ours, debezium) in ours.iter().zip(&debezium) {
        for (place, (_, at)) in RATES.iter().enumerate() {
            let what = |which| {
                format!(
                    "latency {which} at {at} on {server}: outbox, in another process / Debezium tuned"
                )
            };
            figure.ratio(&what("p50"), ours[place].p50 / debezium[place].p50, None);
            figure.ratio(&what("p99"), ours[place].p99 / debezium[place].p99, AT_MOST(1.0));
        }
    }
    Ok(())
}

fn latency_of(
    bench: &Bench,
    contender: Contender,
    rate: u64,
    seconds: u64,
) -> Result<Latencies, Error> {
    let load = Load { rate: Some(rate), seconds };
    bench.run(&Part::Latency { contender, load, disturbance: None })
}

/// It begins at the end of the log, wherever that is when it has started.
fn until_it_follows(bench: &Bench, connect: &Connect) -> Result<(), Error> {
    let begin = Instant::now();
    while begin.elapsed() < FOLLOWS_WITHIN {
        // An error: nothing arrives yet.
        if let Ok(Latencies { lost: 0, .. }) = latency_of(bench, Contender::Debezium, 100, 3) {
            return Ok(());
        }
    }
    Err(connect.error(&format!(
        "Debezium does not publish all that is committed, {FOLLOWS_WITHIN:?} after its start"
    )))
}
