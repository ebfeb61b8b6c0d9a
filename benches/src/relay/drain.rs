//! A backlog, and the relay that publishes it.

use std::time::Instant;

use outbox::Relay;
use outbox::publish::kafka::KafkaPublisher;
use sqlx::Executor;

use crate::{Failure, OrderCreated, brokers, outbox, peak_mib};

const IN_ONE_TRANSACTION: u64 = 10_000;

/// A backlog of so many events, through the outbox, and the same in the table of the bare loop.
pub(crate) async fn fill(events: u64) -> Result<(), Failure> {
    let outbox = outbox(2).await?;
    outbox.pool().execute("drop schema public cascade; create schema public").await?;
    outbox.migrate().await?;
    for first in (0..events).step_by(IN_ONE_TRANSACTION as usize) {
        let mut tx = outbox.begin().await?;
        for n in first..events.min(first + IN_ONE_TRANSACTION) {
            tx.emit(OrderCreated::new(n % 10_000, n))?;
        }
        tx.commit().await?;
    }
    outbox
        .pool()
        .execute(
            "create table bare_event (
               seq bigserial primary key, id uuid not null, topic text not null, key bytea, name text not null,
               version integer not null, content_type text not null, headers json not null, payload bytea not null,
               occurred_at timestamptz not null);
             create table bare_progress (seq bigint not null);
             insert into bare_progress values (0);
             insert into bare_event
             select seq, id, topic, key, name, version, content_type, headers, payload, occurred_at
             from outbox_event order by seq;",
        )
        .await?;
    outbox.pool().execute("vacuum analyze").await?;
    outbox.pool().execute("checkpoint").await?;
    println!("{{}}");
    Ok(())
}

/// The relay from the beginning of the backlog.
pub(crate) async fn drain(events: u64) -> Result<(), Failure> {
    let outbox = outbox(2).await?;
    outbox
        .pool()
        .execute(
            "update outbox_lane set prev = '3:3:', prev_floor = 0, prev_h = '3', cur = null, cur_floor = null,
                                    cur_h = null, last_seq = 0",
        )
        .await?;
    let relay = Relay::new(outbox, KafkaPublisher::new(brokers()?)?);
    let begin = Instant::now();
    let published = relay.drain().await?;
    let seconds = begin.elapsed().as_secs_f64();
    if published != events {
        return Err(format!("{published} events of {events} were published").into());
    }
    println!(r#"{{"events": {events}, "seconds": {seconds:.4}, "peak_mib": {:.1}}}"#, peak_mib());
    Ok(())
}
