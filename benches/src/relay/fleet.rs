//! Relays as processes, and what they cost a database.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outbox::publish::kafka::KafkaPublisher;
use outbox::{Outbox, Relay};
use sqlx::Postgres;

use crate::topic::Ends;
use crate::{Failure, TOPIC, brokers, drain, outbox, peak_mib};

/// A relay until its standard input ends.
pub(crate) async fn run() -> Result<(), Failure> {
    let relay = Relay::new(outbox(2).await?, KafkaPublisher::new(brokers()?)?);
    let end = async {
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    };
    relay.run(end).await?;
    println!(r#"{{"peak_mib": {:.1}}}"#, peak_mib());
    Ok(())
}

/// Runs `relays` relays on one backlog.
pub(crate) async fn scale_out(relays: u64, events: u64) -> Result<(), Failure> {
    drain::rewind(&outbox(1).await?).await?;
    let ends = Ends::of(TOPIC)?;
    let before = ends.sum()?;
    let begin = Instant::now();
    let relays = (0..relays)
        .map(|_| {
            Command::new(std::env::current_exe()?)
                .arg("run")
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
        })
        .collect::<Result<Vec<Child>, _>>()?;
    let (_, _) = ends.wait(before + events)?;
    let seconds = begin.elapsed().as_secs_f64();
    let mut peak: f64 = 0.0;
    for relay in relays {
        // This closes its input.
        let output = relay.wait_with_output()?;
        let printed: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        peak = peak.max(printed["peak_mib"].as_f64().ok_or("a relay printed no memory")?);
    }
    let again = ends.sum()? - before - events;
    println!(r#"{{"seconds": {seconds:.4}, "peak_mib": {peak:.1}, "again": {again}}}"#);
    Ok(())
}

/// The disk space and the dead rows of the outbox's tables, after what reclaiming gives back if
/// `reclaim`.
pub(crate) async fn sizes(reclaim: bool) -> Result<(), Failure> {
    let outbox = outbox(1).await?;
    if reclaim {
        // The last leaf is in use, and so stays.
        sqlx::query("select setval('outbox_seq', ((last_value >> 20) + 2) << 20) from outbox_seq")
            .execute(outbox.pool())
            .await?;
        outbox.reclaim(Duration::ZERO).await?;
    }
    let (mib, dead): (f64, i64) = sqlx::query_as(
        "select (sum(pg_total_relation_size(relid)) / 1048576.0)::float8, sum(n_dead_tup)::int8
         from (select relid, n_dead_tup, pg_stat_clear_snapshot() from pg_stat_user_tables
               where relname like 'outbox%') t",
    )
    .fetch_one(outbox.pool())
    .await?;
    println!(r#"{{"mib": {mib:.2}, "dead": {dead}}}"#);
    Ok(())
}

/// A relay with nothing to do, that looks often: the processor time of its session at the database,
/// and what it adds to the log and to the transaction ids.
pub(crate) async fn idle(seconds: u64) -> Result<(), Failure> {
    let outbox = outbox(1).await?;
    let publisher = KafkaPublisher::new(brokers()?)?;
    let relay = Relay::builder(outbox.clone(), publisher)
        .poll_interval(Duration::from_millis(5))
        .retention(Duration::from_secs(24 * 3600))
        .build()?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relay = tokio::spawn(relay.run(async { _ = stopped.await }));
    tokio::time::sleep(Duration::from_secs(2)).await;
    let before = Idle::now(&outbox).await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = Idle::now(&outbox).await?;
    drop(stop);
    relay.await??;
    let looks = after.transactions - before.transactions;
    println!(
        r#"{{"wal": {}, "xids": {}, "looks": {looks}, "ms_a_look": {:.4}}}"#,
        after.wal - before.wal,
        after.xids - before.xids,
        (after.nanos - before.nanos) / 1e6 / looks as f64
    );
    Ok(())
}

struct Idle {
    wal: i64,
    xids: i64,
    /// Each look is one.
    transactions: i64,
    /// Processor time of the sessions that are not ours.
    nanos: f64,
}

impl Idle {
    async fn now(outbox: &Outbox<Postgres>) -> Result<Self, Failure> {
        let (wal, xids, transactions, sessions): (i64, i64, i64, Vec<i32>) = sqlx::query_as(
            "select (pg_current_wal_lsn() - '0/0')::int8, pg_snapshot_xmax(pg_current_snapshot())::text::int8,
                    (select xact_commit from pg_stat_database where datname = current_database()),
                    (select array_agg(pid) from pg_stat_activity
                     where backend_type = 'client backend' and pid <> pg_backend_pid())",
        )
        .fetch_one(outbox.pool())
        .await?;
        let nanos = |pid: &i32| {
            let stat =
                std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
            stat.split_whitespace()
                .next()
                .and_then(|nanos| nanos.parse::<f64>().ok())
                .unwrap_or(f64::NAN)
        };
        Ok(Self { wal, xids, transactions, nanos: sessions.iter().map(nanos).sum() })
    }
}
