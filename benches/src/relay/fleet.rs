//! Relays as processes, and what they cost a database.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use outbox::admin::PauseScope;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{Outbox, OutboxDatabase, Relay};
use outbox_bench_report::{DrainedByRelays, Idled, Part, Relayed, Sizes, Watched};
use sqlx::{Postgres, Row as _};

use crate::topic::Ends;
use crate::{Failure, TOPIC, brokers, drain, outbox, peak_mib};

const LANES: u64 = 16;
/// Longer than the leases of relays of the run before, which have been handed back.
const SHARED_WITHIN: Duration = Duration::from_secs(60);

/// A relay in a process of its own, until its standard input ends. It holds all lanes when this
/// returns, so that its start is not part of what is measured beside it.
pub(crate) async fn started<DB: OutboxDatabase>(outbox: &Outbox<DB>) -> Result<Child, Failure> {
    let relay = start()?;
    shared(outbox, 1).await?;
    Ok(relay)
}

fn start() -> Result<Child, Failure> {
    let relay = Command::new(std::env::current_exe()?)
        .arg(Part::Relay.argument())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    Ok(relay)
}

/// Ends such a relay by the end of its input.
pub(crate) fn end(relay: Child) -> Result<Relayed, Failure> {
    let ended = relay.wait_with_output()?;
    if !ended.status.success() {
        return Err(format!("the relay failed: {}", ended.status).into());
    }
    Ok(serde_json::from_slice(&ended.stdout)?)
}

/// A relay until its standard input ends.
pub(crate) async fn run<DB: OutboxDatabase>(outbox: Outbox<DB>) -> Result<Relayed, Failure> {
    let relay = Relay::new(outbox, KafkaPublisher::new(brokers()?)?);
    let end = async {
        let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new())).await;
    };
    relay.run(end).await?;
    Ok(Relayed { peak_mib: peak_mib() })
}

/// Runs `relays` relays on one backlog, and lets them idle afterwards. They share the lanes while
/// everything is paused, so that neither the start of their processes nor the handing over of lanes
/// is timed.
pub(crate) async fn drain(
    relays: u64,
    events: u64,
    idle_seconds: u64,
) -> Result<DrainedByRelays, Failure> {
    // One session, which is not theirs.
    let outbox = outbox(1).await?;
    drain::rewind(&outbox).await?;
    outbox.pause(&PauseScope::All, "until all relays run", "bench").await?;
    let ends = Ends::of(TOPIC)?;
    let before = ends.sum()?;
    let processes = (0..relays).map(|_| start()).collect::<Result<Vec<Child>, _>>()?;
    let busy = shared(&outbox, relays).await?;
    let begin = Instant::now();
    outbox.resume(&PauseScope::All).await?;
    ends.wait(before + events)?;
    let seconds = begin.elapsed().as_secs_f64();
    let idle_ms_a_second = idle_sessions(&outbox, idle_seconds).await?;
    let mut peak_mib: f64 = 0.0;
    for relay in processes {
        peak_mib = peak_mib.max(end(relay)?.peak_mib);
    }
    let again = ends.sum()? - before - events;
    Ok(DrainedByRelays { seconds, peak_mib, again, busy, idle_ms_a_second })
}

/// Waits until so many relays are alive and have shared all lanes evenly. Returns how many hold
/// lanes.
async fn shared<DB: OutboxDatabase>(outbox: &Outbox<DB>, relays: u64) -> Result<u64, Failure> {
    let until = Instant::now() + SHARED_WITHIN;
    let busy = relays.min(LANES);
    while Instant::now() < until {
        let alive = outbox.status().await?.relays.into_iter().filter(|relay| relay.is_alive);
        let lanes: Vec<u64> = alive.map(|relay| relay.lanes.len() as u64).collect();
        let even = lanes.iter().filter(|lanes| **lanes == LANES / busy).count() as u64;
        if lanes.len() as u64 == relays && even == busy {
            return Ok(busy);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Err(format!("{relays} relays did not share the lanes in {SHARED_WITHIN:?}").into())
}

/// The processor time of all sessions but ours, in milliseconds a second.
async fn idle_sessions(outbox: &Outbox<Postgres>, seconds: u64) -> Result<f64, Failure> {
    // What was published last is saved meanwhile.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before = Idle::now(outbox).await?;
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let after = Idle::now(outbox).await?;
    Ok((after.nanos - before.nanos) / 1e6 / seconds as f64)
}

/// Disk space and dead rows of the outbox's tables; after reclaiming, if `reclaim`.
pub(crate) async fn sizes(reclaim: bool) -> Result<Sizes, Failure> {
    let outbox = outbox(1).await?;
    if reclaim {
        // The last leaf is in use, and is not reclaimed.
        sqlx::query("select setval('outbox_seq', ((last_value >> 20) + 2) << 20) from outbox_seq")
            .execute(outbox.pool())
            .await?;
        outbox.reclaim(Duration::ZERO).await?;
    }
    let row = sqlx::query(
        "select (sum(pg_total_relation_size(relid)) / 1048576.0)::float8 as mib,
                sum(n_dead_tup)::int8 as dead
         from (select relid, n_dead_tup, pg_stat_clear_snapshot() from pg_stat_user_tables
               where relname like 'outbox%') t",
    )
    .fetch_one(outbox.pool())
    .await?;
    Ok(Sizes { mib: row.try_get("mib")?, dead: row.try_get("dead")? })
}

/// The processor time at the database of looks at the state of the outbox.
pub(crate) async fn watch(looks: u32) -> Result<Watched, Failure> {
    // One session: it has what the looks cost.
    let outbox = outbox(1).await?;
    let session: i32 =
        sqlx::query_scalar("select pg_backend_pid()").fetch_one(outbox.pool()).await?;
    // The first one reads the catalog.
    outbox.status().await?;
    let begin = processor_nanos(&session);
    for _ in 0..looks {
        outbox.status().await?;
    }
    let between = processor_nanos(&session);
    let mut gauges = outbox.gauges();
    for _ in 0..looks {
        gauges.set().await?;
    }
    let end = processor_nanos(&session);
    let ms = |nanos: f64| nanos / 1e6 / f64::from(looks);
    Ok(Watched { status_ms: ms(between - begin), gauges_ms: ms(end - between) })
}

/// A relay with nothing to do, and a short poll interval: the processor time of its session at the
/// database, and how much write-ahead log and how many transaction ids it uses.
pub(crate) async fn idle(seconds: u64) -> Result<Idled, Failure> {
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
    Ok(Idled {
        wal: after.wal - before.wal,
        xids: after.xids - before.xids,
        ms_a_look: (after.nanos - before.nanos) / 1e6 / looks as f64,
    })
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
        let row = sqlx::query(
            "select (pg_current_wal_lsn() - '0/0')::int8 as wal,
                    pg_snapshot_xmax(pg_current_snapshot())::text::int8 as xids,
                    (select xact_commit from pg_stat_database
                     where datname = current_database()) as transactions,
                    (select array_agg(pid) from pg_stat_activity
                     where backend_type = 'client backend' and pid <> pg_backend_pid()) as sessions",
        )
        .fetch_one(outbox.pool())
        .await?;
        let sessions: Vec<i32> = row.try_get("sessions")?;
        Ok(Self {
            wal: row.try_get("wal")?,
            xids: row.try_get("xids")?,
            transactions: row.try_get("transactions")?,
            nanos: sessions.iter().map(processor_nanos).sum(),
        })
    }
}

/// Processor time of a process so far. NaN: this machine does not say.
fn processor_nanos(pid: &i32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|nanos| nanos.parse::<f64>().ok());
    nanos.unwrap_or(f64::NAN)
}
