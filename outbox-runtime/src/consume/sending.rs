//! Sending an event to a retry topic or to the dead letters until it is written, and what the log
//! says while it cannot be.

use super::forward::{Forward, OurHeaders, PAYLOAD_LEFT_OUT, Place, Unsent, without_payload};
use super::message::Message;
use super::policy::AWAY_PAUSES;
use super::route::Incoming;
use super::worker::{GroupWorker, Unsettled, log_event};
use crate::backoff::Backoff;
use crate::observe::target;
use crate::store::OutboxDatabase;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    Written(Place),
    /// The topic takes nothing that large.
    TooLarge,
}

impl<DB: OutboxDatabase, F: Forward> GroupWorker<DB, F> {
    /// Sends a message until it is written, or is too large.
    pub(super) async fn send(
        &self,
        to: &str,
        incoming: &Incoming<'_, DB>,
        ours: &OurHeaders,
    ) -> Result<Sent, Unsettled> {
        let mut away = Backoff::new(AWAY_PAUSES.0, AWAY_PAUSES.1);
        loop {
            let unsent = match self.send_once(to, incoming.message, ours).await? {
                Ok(place) => return Ok(Sent::Written(place)),
                Err(unsent) if unsent.too_large => return Ok(Sent::TooLarge),
                Err(unsent) => unsent,
            };
            self.log_unsent(to, incoming, &unsent);
            self.sleep(away.pause()).await?;
        }
    }

    /// Sends a dead letter until it is written: the offset of its partition stays until then. One
    /// that is too large is written without its payload. Returns where it is.
    pub(super) async fn send_dead_letter(
        &self,
        to: &str,
        incoming: &Incoming<'_, DB>,
        mut ours: OurHeaders,
    ) -> Result<Place, Unsettled> {
        if let Sent::Written(place) = self.send(to, incoming, &ours).await? {
            return Ok(place);
        }
        let bytes = incoming.message.payload.as_ref().map_or(0, Vec::len);
        log_event!(
            error,
            self,
            incoming,
            to,
            bytes,
            "a dead letter is larger than its topic's `max.message.bytes`, and is written without its payload: that is at its place \
             on the topic it came from, until Kafka deletes it there. Raise the limit (`kafka-configs.sh --alter --entity-type \
             topics`)"
        );
        ours.push((PAYLOAD_LEFT_OUT, bytes.to_string()));
        let short = without_payload(incoming.message);
        let mut away = Backoff::new(AWAY_PAUSES.0, AWAY_PAUSES.1);
        loop {
            match self.send_once(to, &short, &ours).await? {
                Ok(place) => return Ok(place),
                Err(unsent) => self.log_unsent(to, incoming, &unsent),
            }
            self.sleep(away.pause()).await?;
        }
    }

    async fn send_once(
        &self,
        to: &str,
        message: &Message,
        ours: &OurHeaders,
    ) -> Result<Result<Place, Unsent>, Unsettled> {
        let sent = tokio::select! {
            sent = self.forward.send(to, message, ours) => sent,
            () = self.stopped() => return Err(Unsettled::Stopped),
        };
        if sent.is_ok() && self.unwritten.written(to) {
            tracing::info!(
                target: target::CONSUMER,
                to,
                "events can be written to a topic for retries or dead letters again"
            );
        }
        Ok(sent)
    }

    fn log_unsent(&self, to: &str, incoming: &Incoming<'_, DB>, unsent: &Unsent) {
        let Unsent { code, error, remedy, .. } = unsent;
        if !self.unwritten.refused(to, *code) {
            return;
        }
        log_event!(
            error,
            self,
            incoming,
            to,
            error,
            "an event cannot be written to a topic for retries or dead letters. Its partition waits until it can, and nothing is \
             dropped. {remedy}"
        );
    }
}
