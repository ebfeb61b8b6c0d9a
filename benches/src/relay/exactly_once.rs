//! The relay that delivers exactly once.

use std::time::Instant;

use outbox::publish::kafka::KafkaPublisher;
use outbox::{ExactlyOnce, Outbox, Relay};
use outbox_bench_report::{Drained, Waves};
use sqlx::{Executor, Postgres};

use crate::{Failure, brokers, drain, outbox as open, peak_mib};

/// From the beginning of the backlog. Neither what was delivered exactly once before counts, nor
/// that it was.
pub(crate) async fn drain(events: u64) -> Result<Drained, Failure> {
    let outbox = open(2).await?;
    drain::rewind(&outbox).await?;
    let relay = Relay::builder(outbox.clone(), KafkaPublisher::new(brokers()?)?)
        .build_exactly_once(ExactlyOnce::new())?;
    let begin = Instant::now();
    let published = relay.drain().await?;
    let seconds = begin.elapsed().as_secs_f64();
    forget(&outbox).await?;
    if published != events {
        return Err(format!("{published} events of {events} were published").into());
    }
    Ok(Drained { seconds, peak_mib: peak_mib(), tenths: None })
}

async fn forget(outbox: &Outbox<Postgres>) -> Result<(), Failure> {
    outbox.pool().execute("delete from outbox_group; delete from outbox_witness").await?;
    Ok(())
}

/// How many transactions were committed since it was last asked; the next relay begins anew.
pub(crate) async fn waves() -> Result<Waves, Failure> {
    let outbox = open(2).await?;
    let of_claims = "\
select coalesce(sum(waves), 0)::bigint
from (select max(wave) as waves from outbox_progress where claim is not null group by claim) claims";
    let committed: i64 = sqlx::query_scalar(of_claims).fetch_one(outbox.pool()).await?;
    outbox.pool().execute("update outbox_progress set claim = null, wave = null").await?;
    forget(&outbox).await?;
    Ok(Waves { committed })
}
