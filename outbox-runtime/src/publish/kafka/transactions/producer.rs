//! One of a group's producers. Its calls block, so they run on threads of their own, and each has a
//! bound.

use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::producer::Producer as _;

use super::config::TransactionalConfig;
use super::told::{End, Told};
use crate::error::OutboxError;
use crate::kafka::aside;
use crate::observe::target;
use crate::publish::kafka::Producers;
use crate::publish::kafka::producer::{Client, Kind, Producer};

/// Time-out of the call that fences another process. If that one has a transaction open, the
/// coordinator aborts it first.
const INIT_WITHIN: Duration = Duration::from_secs(30);
/// Time-out of the call that begins a transaction, which asks nobody.
const BEGIN_WITHIN: Duration = Duration::from_secs(5);
/// Time that a call may take beyond its time-out before it is given up.
const GRACE: Duration = Duration::from_secs(5);

pub(super) struct GroupProducer {
    pub(super) producer: Arc<Producer>,
    pub(super) transactional_id: String,
    told: Arc<Told>,
    repeats_after: Duration,
}

/// Why it is not certain whether a transaction has ended as it was asked to.
#[derive(Debug)]
pub(super) enum Unclear {
    Failed(KafkaError),
    /// It succeeded, but the request may have been sent twice.
    Repeated,
    /// It succeeded, but librdkafka did not say how.
    Untold,
}

impl GroupProducer {
    pub(super) fn start(
        producers: &Producers,
        config: &TransactionalConfig,
        transactional_id: String,
    ) -> Result<Self, OutboxError> {
        let told = Arc::<Told>::default();
        let producer = Producer::start(
            &config.of(&transactional_id),
            producers.brokers.clone(),
            Arc::clone(&producers.stalls),
            Kind::Transactional(Arc::clone(&told)),
        );
        let producer = producer.map_err(|error| producers.config.properties.no_client(error))?;
        Ok(Self {
            producer: Arc::new(producer),
            transactional_id,
            told,
            repeats_after: config.repeats_after,
        })
    }

    /// Fences whoever had this id, and ends what that one had open. It begins at once.
    pub(super) fn init(&self) -> impl Future<Output = KafkaResult<()>> + Send + use<> {
        self.call(INIT_WITHIN, |client| client.init_transactions(INIT_WITHIN))
    }

    pub(super) async fn begin(&self) -> KafkaResult<()> {
        self.told.forget();
        self.call(BEGIN_WITHIN, Client::begin_transaction).await
    }

    pub(super) async fn commit(&self) -> Result<(), Unclear> {
        let within = self.repeats_after;
        let begun = Instant::now();
        let asked = self.call(within, move |client| {
            empty_queue(client);
            client.commit_transaction(within)
        });
        asked.await.map_err(Unclear::Failed)?;
        let took = begun.elapsed();
        plainly(&self.told.ends().await, &[End::Done], took, within)
    }

    pub(super) async fn abort(&self) -> Result<(), Unclear> {
        let within = self.repeats_after;
        let begun = Instant::now();
        let asked = self.call(within, move |client| client.abort_transaction(within));
        asked.await.map_err(Unclear::Failed)?;
        let took = begun.elapsed();
        plainly(&self.told.ends().await, &[End::Done, End::Needless], took, within)
    }

    /// Aborts what is open before the client is closed. Nobody waits for it.
    pub(super) fn abort_aside(self) {
        let Some(client) = self.producer.client() else { return };
        let within = self.repeats_after;
        drop(aside("outbox-kafka-abort", move || {
            // Without it, the coordinator aborts when the transaction's time is over.
            if let Err(error) = client.abort_transaction(within) {
                tracing::debug!(target: target::PUBLISHER, %error, "a transaction could not be aborted");
            }
            drop(self);
        }));
    }

    /// Begins a call at once.
    fn call<F>(
        &self,
        within: Duration,
        blocks: F,
    ) -> impl Future<Output = KafkaResult<()>> + Send + use<F>
    where
        F: FnOnce(&Client) -> KafkaResult<()> + Send + 'static,
    {
        let client = self.producer.client();
        let called =
            aside("outbox-kafka-txn", move || blocks(client.as_ref().ok_or(KafkaError::Canceled)?));
        async move {
            match tokio::time::timeout(within + GRACE, called).await {
                Ok(result) => result.unwrap_or(Err(KafkaError::Canceled)),
                Err(_) => Err(KafkaError::Global(Code::OperationTimedOut)),
            }
        }
    }
}

/// rdkafka flushes before it commits, and if anything is queued then, it polls for 100 ms, even if
/// that is gone at once. All records are reported by now: what is queued are lines of the log.
fn empty_queue(client: &Client) {
    const AT_MOST: Duration = Duration::from_millis(100);
    const PAUSE: Duration = Duration::from_micros(100);
    let begun = Instant::now();
    while client.in_flight_count() > 0 && begun.elapsed() < AT_MOST {
        client.poll(Duration::ZERO);
        std::thread::sleep(PAUSE);
    }
}

/// Whether the coordinator was asked once and answered once. `repeats_after`: time after which
/// librdkafka asks again.
fn plainly(
    ends: &[End],
    wanted: &[End],
    took: Duration,
    repeats_after: Duration,
) -> Result<(), Unclear> {
    match ends {
        [end] if wanted.contains(end) && took < repeats_after => Ok(()),
        [] => Err(Unclear::Untold),
        _ => Err(Unclear::Repeated),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_single_answer_in_time_is_plain() {
        let limit = Duration::from_secs(5);
        let commit = |ends: &[End], took| plainly(ends, &[End::Done], took, limit);
        let soon = Duration::from_millis(2);
        assert!(commit(&[End::Done], soon).is_ok());
        assert!(matches!(commit(&[End::Done], limit), Err(Unclear::Repeated)));
        assert!(matches!(commit(&[End::Other, End::Done], soon), Err(Unclear::Repeated)));
        assert!(matches!(commit(&[End::Needless], soon), Err(Unclear::Repeated)));
        assert!(matches!(commit(&[], soon), Err(Unclear::Untold)));
    }
}
