//! The measurements, one after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use outbox::event::EventRecord;
use outbox::publish::kafka::KafkaPublisher;
use outbox::{DomainEvent, Outbox, Relay};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::Args;
use super::place::Place;
use super::publisher::{Delivered, Target, Timed};
use super::report::{Latency, Report};
use crate::context::Context;
use crate::failure::Failure;
use crate::progress;

/// Longest time in which what was emitted at a rate must arrive, once nothing more is emitted.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "outbox_bench", name = "outbox.bench", keyless, unlocked)]
struct Emitted {}

/// Makes events of the size that was asked for.
#[derive(Clone)]
struct Maker {
    topic: String,
    payload: Vec<u8>,
    keys: u64,
}

impl Maker {
    fn event(&self, number: u64) -> Result<EventRecord, Failure> {
        let mut event = EventRecord::from_event(&Emitted {})?;
        event.topic = self.topic.clone().into();
        event.key = Some(format!("key-{}", number % self.keys).into_bytes());
        event.payload = Some(self.payload.clone());
        Ok(event)
    }
}

pub(super) async fn all<DB: Place>(
    args: &Args,
    context: &Context,
    outbox: &Outbox<DB>,
    topic: &str,
) -> Result<Report, Failure> {
    let payload = vec![b'x'; args.size as usize];
    let maker = Maker { topic: topic.to_owned(), payload, keys: args.keys };
    let emitted = Arc::new(AtomicU64::new(0));
    let emit = emit(args, outbox, &maker, &emitted);
    let counted = || (emitted.load(Ordering::Relaxed), args.events);
    let emit_took = progress::counted("emitting", counted, Box::pin(emit)).await?;
    let drain_took = drain(args, context, outbox).await?;
    let latency = match args.duration {
        Duration::ZERO => None,
        _ => Some(latency(args, context, outbox, &maker).await?),
    };
    Ok(Report::new::<DB>(args, emit_took, drain_took, latency))
}

/// Emits all events, over several connections, and says how long that took.
async fn emit<DB: Place>(
    args: &Args,
    outbox: &Outbox<DB>,
    maker: &Maker,
    emitted: &Arc<AtomicU64>,
) -> Result<Duration, Failure> {
    let next = Arc::new(AtomicU64::new(0));
    let begun = Instant::now();
    let mut writers = JoinSet::new();
    for _ in 0..args.writers {
        let (outbox, maker) = (outbox.clone(), maker.clone());
        let (next, emitted) = (Arc::clone(&next), Arc::clone(emitted));
        let (events, at_once) = (args.events, args.per_transaction);
        writers.spawn(async move {
            loop {
                let from = next.fetch_add(at_once, Ordering::Relaxed);
                let to = events.min(from.saturating_add(at_once));
                if from >= to {
                    return Ok::<_, Failure>(());
                }
                let mut tx = outbox.begin().await?;
                for number in from..to {
                    tx.emit_record(maker.event(number)?)?;
                }
                tx.commit().await?;
                emitted.fetch_add(to - from, Ordering::Relaxed);
            }
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.map_err(Failure::failed)??;
    }
    Ok(begun.elapsed())
}

fn publisher(args: &Args, context: &Context, delivered: &Delivered) -> Result<Timed, Failure> {
    let target = match args.without_kafka {
        true => Target::Nowhere,
        false => {
            let kafka = KafkaPublisher::builder(context.kafka()?);
            Target::Kafka(kafka.topic_prefix(context.topic_prefix()).build()?)
        }
    };
    Ok(Timed { target, delivered: delivered.clone() })
}

/// Publishes all that was emitted, and says how long that took.
async fn drain<DB: Place>(
    args: &Args,
    context: &Context,
    outbox: &Outbox<DB>,
) -> Result<Duration, Failure> {
    let delivered = Delivered::default();
    let relay = Relay::new(outbox.clone(), publisher(args, context, &delivered)?);
    let begun = Instant::now();
    let counted = || (delivered.events(), args.events);
    let published = progress::counted("draining", counted, Box::pin(relay.drain())).await?;
    let took = begun.elapsed();
    if published != args.events {
        return Err(Failure::failed(format!(
            "the relay published {published} of {} events: there are no results. What Kafka refused is in the log (`-v`)",
            args.events
        )));
    }
    Ok(took)
}

/// Emits at a rate while a relay runs, and says how long each event took.
async fn latency<DB: Place>(
    args: &Args,
    context: &Context,
    outbox: &Outbox<DB>,
    maker: &Maker,
) -> Result<Latency, Failure> {
    let delivered = Delivered::default();
    let relay = Relay::new(outbox.clone(), publisher(args, context, &delivered)?);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let relayed = Box::pin(relay.run(async { _ = stopped.await }));
    let emitted = async {
        let begun = Instant::now();
        at_rate(args, outbox, maker, &delivered).await?;
        let took = begun.elapsed();
        let arrived = timeout(ARRIVES_WITHIN, delivered.all()).await;
        let _ = stop.send(());
        arrived.map_err(|_| {
            Failure::failed("not all events arrived: there are no results. What was refused is in the log (`-v`)")
        })?;
        Ok::<_, Failure>(took)
    };
    let counted = || {
        let whole = args.rate * args.duration.as_secs_f64();
        (delivered.events(), whole as u64)
    };
    let both = async { tokio::try_join!(Box::pin(emitted), async { Ok(relayed.await?) }) };
    let (took, _) = progress::counted("latency", counted, Box::pin(both)).await?;
    Ok(Latency::new(delivered.taken(), took))
}

/// Each writer emits its part of the rate. One that is late does not catch up: the rate that was
/// reached is reported.
async fn at_rate<DB: Place>(
    args: &Args,
    outbox: &Outbox<DB>,
    maker: &Maker,
    delivered: &Delivered,
) -> Result<(), Failure> {
    let every = Duration::from_secs_f64(f64::from(args.writers) / args.rate);
    let until = Instant::now() + args.duration;
    let mut writers = JoinSet::new();
    for writer in 0..u64::from(args.writers) {
        let (outbox, maker, delivered) = (outbox.clone(), maker.clone(), delivered.clone());
        writers.spawn(async move {
            let mut tick = interval(every);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let mut number = writer;
            while Instant::now() < until {
                tick.tick().await;
                let mut tx = outbox.begin().await?;
                let event = maker.event(number)?;
                let id = event.id;
                tx.emit_record(event)?;
                delivered.begins(id);
                tx.commit().await?;
                number += 1;
            }
            Ok::<_, Failure>(())
        });
    }
    while let Some(ended) = writers.join_next().await {
        ended.map_err(Failure::failed)??;
    }
    Ok(())
}
