//! Log lines about the brokers, one for each change and not one for each attempt, and what they
//! mean for those who wait for an answer.

use crate::observe::target;

use std::error::Error;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::Statistics;
use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::metadata::Metadata;
use rdkafka::producer::ProducerContext;

use super::{Properties, Trouble, aside};

/// Time after which the same trouble is logged again, if brokers have answered in between: of
/// several brokers, one may always refuse.
const LOGGED_AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Time for which a client that was refused is heard.
const LISTENED_FOR: Duration = Duration::from_millis(50);
/// Time-outs of the two questions for topics: after the first one, a refusal is known.
const ANSWER_WITHIN: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(9)];

/// The brokers as they were last heard of. It is librdkafka's context for clients that need no
/// other one: rdkafka's own context logs an error for every attempt to connect.
#[derive(Clone)]
pub(crate) struct Brokers(Arc<Inner>);

struct Inner {
    properties: Properties,
    /// What it means for the events when no broker answers, in the words of the log.
    meaning: &'static str,
    /// Whether `heard` is anything but an answer.
    troubled: AtomicBool,
    /// Whether they have ever answered.
    worked: AtomicBool,
    heard: Mutex<Heard>,
}

#[derive(Default)]
struct Heard {
    away: bool,
    refusal: Option<Refusal>,
    /// Whether the log waits for the line that they answer again.
    told: bool,
    logged: Vec<(Trouble, Instant)>,
}

/// What a broker refused, in librdkafka's words.
#[derive(Clone)]
struct Refusal {
    trouble: Trouble,
    reason: String,
    /// Cause and remedy, once they are found.
    words: Option<(String, String)>,
}

impl Brokers {
    pub(crate) fn new(properties: &Properties, meaning: &'static str) -> Self {
        Self(Arc::new(Inner {
            properties: properties.clone(),
            meaning,
            troubled: AtomicBool::new(false),
            worked: AtomicBool::new(false),
            heard: Mutex::default(),
        }))
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        self.0.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records an error of the client itself.
    pub(crate) fn failed(&self, error: &KafkaError, reason: &str) {
        let code = error.rdkafka_error_code();
        if let Some(trouble) = Trouble::of(code, reason) {
            self.refused(Refusal { trouble, reason: reason.to_owned(), words: None });
        } else if code == Some(RDKafkaErrorCode::AllBrokersDown) {
            self.away(reason);
        }
        tracing::debug!(target: target::LIBRDKAFKA, %error, reason);
    }

    /// Passes on a line of librdkafka's own log. That a port speaks another protocol than the
    /// client is said there alone.
    pub(crate) fn logged(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!(target: target::LIBRDKAFKA, ?level, facility, "{message}");
        let code = Some(RDKafkaErrorCode::BrokerTransportFailure);
        if facility == "FAIL"
            && let Some(trouble @ Trouble::Listener) = Trouble::of(code, message)
        {
            self.refused(Refusal { trouble, reason: message.to_owned(), words: None });
        }
    }

    fn away(&self, reason: &str) {
        let mut heard = self.heard();
        // After a refusal it is no news.
        if heard.away || heard.refusal.is_some() {
            return;
        }
        (heard.away, heard.told) = (true, true);
        self.0.troubled.store(true, Ordering::Relaxed);
        drop(heard);
        let (brokers, meaning) = (self.0.properties.brokers(), self.0.meaning);
        tracing::warn!(
            target: target::KAFKA,
            brokers,
            reason,
            "no Kafka broker answers: {meaning}. Is the address right?"
        );
    }

    fn refused(&self, refusal: Refusal) {
        // The settings were right before: it is a broker that stops, and closes its connections.
        if !refusal.trouble.is_certain() && self.0.worked.load(Ordering::Relaxed) {
            return self.away(&refusal.reason);
        }
        let mut heard = self.heard();
        self.0.troubled.store(true, Ordering::Relaxed);
        // librdkafka repeats itself.
        if heard.refusal.as_ref().is_none_or(|last| last.trouble != refusal.trouble) {
            heard.refusal = Some(refusal.clone());
        }
        let is_old = |(trouble, when): &(Trouble, Instant)| {
            *trouble == refusal.trouble && when.elapsed() < LOGGED_AGAIN_AFTER
        };
        // While nothing answers, each is logged once.
        let same = heard.logged.iter().any(|(trouble, _)| *trouble == refusal.trouble);
        if heard.logged.iter().any(is_old) || same && heard.told {
            return;
        }
        heard.logged.retain(|(trouble, _)| *trouble != refusal.trouble);
        heard.logged.push((refusal.trouble, Instant::now()));
        heard.told = true;
        drop(heard);
        let this = self.clone();
        if refusal.trouble != Trouble::BrokerCertificate {
            return this.log(&refusal);
        }
        // To find out why takes a connection, and this may be a thread of the runtime.
        drop(aside("outbox-kafka-tls", move || this.log(&refusal)));
    }

    fn log(&self, refusal: &Refusal) {
        let Inner { properties, meaning, .. } = &*self.0;
        let (cause, remedy) = refusal.in_words(properties);
        tracing::error!(
            target: target::KAFKA,
            brokers = properties.brokers(),
            reason = refusal.reason,
            "{cause}: {meaning}. {remedy}"
        );
    }

    /// What a broker refused, and what to do about it; `None` if they answer, or are away. It may
    /// block for some seconds when it is first asked.
    pub(crate) fn refusal(&self) -> Option<String> {
        let mut refusal = self.heard().refusal.clone()?;
        let words = refusal.in_words(&self.0.properties);
        let said = format!("{} ({}). {}", words.0, refusal.reason, words.1);
        refusal.words = Some(words);
        if let Some(last) = self.heard().refusal.as_mut() {
            *last = refusal;
        }
        Some(said)
    }

    /// Polls a client that tells only then why it is refused.
    pub(crate) fn listen(client: &BaseConsumer<Self>) {
        while client.poll(LISTENED_FOR).is_some() {}
    }

    /// Has a client that failed say why brokers refuse it, if they do, before the error is handed
    /// on.
    pub(crate) fn heard_by(&self, client: &BaseConsumer<Self>, error: KafkaError) -> KafkaError {
        Self::listen(client);
        let _ = self.refusal();
        error
    }

    /// Whether waiting would not change what they refuse.
    pub(crate) fn refuses_for_good(&self) -> bool {
        self.heard().refusal.as_ref().is_some_and(|refusal| refusal.trouble.is_certain())
    }

    /// What the cluster says of its topics. It ends early if the brokers refuse this client, and
    /// [`refusal`](Self::refusal) then says why. `listen` polls a client that tells only then.
    pub(crate) fn metadata(
        &self,
        ask: impl Fn(Duration) -> KafkaResult<Metadata>,
        listen: impl Fn(),
    ) -> KafkaResult<Metadata> {
        let mut asked = Err(KafkaError::Canceled);
        for within in ANSWER_WITHIN {
            asked = ask(within);
            if asked.is_ok() {
                self.answered();
                break;
            }
            listen();
            if self.refusal().is_some() && self.refuses_for_good() {
                break;
            }
        }
        asked
    }

    /// Records that a broker answered.
    pub(crate) fn answered(&self) {
        let Inner { troubled, worked, .. } = &*self.0;
        // Most of the time it is: a write would take the cache line from others.
        if !worked.load(Ordering::Relaxed) {
            worked.store(true, Ordering::Relaxed);
        }
        if !troubled.load(Ordering::Relaxed) || !troubled.swap(false, Ordering::Relaxed) {
            return;
        }
        let mut heard = self.heard();
        (heard.away, heard.refusal) = (false, None);
        if std::mem::take(&mut heard.told) {
            let brokers = self.0.properties.brokers();
            tracing::info!(target: target::KAFKA, brokers, "Kafka answers again");
        }
    }

    /// A token for OAUTHBEARER, which librdkafka has asked for.
    pub(crate) fn token(&self) -> Result<OAuthToken, Box<dyn Error>> {
        match self.0.properties.tokens() {
            Some(tokens) => tokens.current(),
            // Then librdkafka makes its own: see `Properties::client`.
            None => Err("nothing says where tokens come from".into()),
        }
    }
}

impl Refusal {
    /// The cause, and what to do about it.
    fn in_words(&self, properties: &Properties) -> (String, String) {
        if let Some(words) = &self.words {
            return words.clone();
        }
        #[cfg(feature = "kafka-ssl")]
        if self.trouble == Trouble::BrokerCertificate
            && let Some(found) = super::certificate::found(&self.reason, properties)
        {
            return found;
        }
        let _ = properties;
        (self.trouble.cause().to_owned(), self.trouble.remedy().to_owned())
    }
}

impl fmt::Debug for Brokers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Brokers").field(&self.0.properties).finish()
    }
}

impl ClientContext for Brokers {
    /// If tokens come from elsewhere, librdkafka's own callback runs after ours has failed.
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    /// rdkafka would log them.
    fn stats(&self, _: Statistics) {}

    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.logged(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.failed(&error, reason);
    }

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        self.token()
    }
}

impl ConsumerContext for Brokers {}

impl ProducerContext for Brokers {
    type DeliveryOpaque = ();

    fn delivery(&self, _: &DeliveryResult<'_>, (): ()) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_that_stops_is_not_taken_for_a_port_of_another_protocol() {
        let brokers =
            Brokers::new(&Properties::new("localhost:9092"), "events stay where they are");
        let closes = || {
            let error = KafkaError::Global(RDKafkaErrorCode::BrokerTransportFailure);
            brokers.failed(&error, "Disconnected (after 1ms in state APIVERSION_QUERY)");
        };

        closes();
        assert!(brokers.refusal().is_some_and(|said| said.contains("security.protocol")));
        brokers.answered();
        closes();
        assert_eq!(brokers.refusal(), None);
        assert!(brokers.heard().away);
    }
}
