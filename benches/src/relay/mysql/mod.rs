//! The same on MySQL and MariaDB, for a `DATABASE_URL` that leads there.

mod backlog;
mod bare;
mod writers;

use std::collections::HashSet;

use outbox::Outbox;
use outbox_bench_report::{Contender, Drained, Latencies, Load, Part, print};
use sqlx::MySql;
use sqlx::mysql::MySqlPoolOptions;

use crate::latency::{self, CONNECTIONS};
use crate::{Failure, drain, fleet, topic};

pub(crate) fn is_asked_for() -> Result<bool, Failure> {
    Ok(std::env::var("DATABASE_URL")?.starts_with("mysql:"))
}

pub(crate) async fn run(part: Part) -> Result<(), Failure> {
    match part {
        Part::Fill { events } => print(&backlog::fill(events).await?),
        Part::FillOutbox { events } => print(&backlog::fill_outbox(events).await.map(drop)?),
        Part::Drain { contender, events } => print(&drained_by(contender, events).await?),
        Part::Wait { topic, until } => print(&topic::wait(&topic, until).await?),
        Part::Relay => print(&fleet::run(open(2).await?).await?),
        Part::Latency { contender, load, disturbance: None } => {
            print(&latency_of(contender, load).await?)
        }
        Part::Write { ways, connections, beside, plan } => {
            print(&writers::measure(ways, connections, beside, plan).await?)
        }
        part => Err(format!("it is not measured on MySQL: {}", part.argument())),
    }?;
    Ok(())
}

async fn open(connections: u32) -> Result<Outbox<MySql>, Failure> {
    let pool = MySqlPoolOptions::new()
        .max_connections(connections)
        .connect(&std::env::var("DATABASE_URL")?)
        .await?;
    Ok(Outbox::new(pool))
}

/// What the server does later about the deleted rows is not timed, but it is part of its processor
/// time.
async fn drained_by(contender: Contender, events: u64) -> Result<Drained, Failure> {
    let outbox = open(2).await?;
    let drained = match contender {
        Contender::BareLoop => bare::drain(events).await?,
        Contender::Outbox => drain::publish_all(outbox.clone(), events).await?,
        _ => return Err("it drains nothing from MySQL".into()),
    };
    backlog::settled(&outbox).await?;
    Ok(drained)
}

async fn latency_of(contender: Contender, load: Load) -> Result<Latencies, Failure> {
    let outbox = open(CONNECTIONS).await?;
    match contender {
        Contender::Outbox => latency::with_relay(outbox, load, async { Ok(HashSet::new()) }).await,
        Contender::OutboxElsewhere => {
            let relay = fleet::started(&outbox).await?;
            let latencies = latency::emitted(outbox, load).await;
            fleet::end(relay)?;
            latencies
        }
        Contender::Debezium => latency::emitted(outbox, load).await,
        _ => Err("its latency is not measured on MySQL".into()),
    }
}
