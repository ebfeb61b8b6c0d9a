//! The settings by which all clients of a program reach Kafka.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::Properties;
use super::token::{AccessToken, Tokens};

/// How to reach Kafka: the brokers, and properties of librdkafka by their own names.
///
/// A publisher, a consumer and the dead letters take the same value, so that a program says once
/// how to reach its cluster. Cloning it is cheap. `"host:port"` converts into one.
///
/// ```
/// use outbox::kafka::KafkaConfig;
/// use outbox::publish::kafka::KafkaPublisher;
///
/// # fn example() -> Result<(), outbox::OutboxError> {
/// let kafka = KafkaConfig::new("kafka-1:9092,kafka-2:9092")
///     .property("security.protocol", "sasl_plaintext")
///     .property("sasl.mechanisms", "PLAIN")
///     .property("sasl.username", "orders")
///     .property("sasl.password", std::env::var("KAFKA_PASSWORD").unwrap_or("secret".to_owned()));
///
/// // What only one client should have is set on a clone.
/// let publisher = KafkaPublisher::new(kafka.clone().property("linger.ms", "5"))?;
/// # Ok(())
/// # }
/// # example().unwrap();
/// ```
///
/// Nothing is checked here: the `build` of each client refuses a property that is unknown, or on
/// which one of its guarantees rests, and says why. A producer ignores the properties of consumers,
/// and a consumer those of producers.
///
/// Secrets belong neither into code nor into a program's arguments, which every user of a machine
/// can list: [`from_env`](Self::from_env) and [`from_file`](Self::from_file) take them from where
/// orchestrators put them.
///
/// `Debug` shows the names of all properties, and the values of those that cannot be secret.
#[derive(Clone)]
pub struct KafkaConfig {
    properties: Arc<Properties>,
}

impl KafkaConfig {
    /// The brokers to connect to first, as `host:port`, separated by commas. The cluster names the
    /// others.
    pub fn new(bootstrap_servers: impl Into<String>) -> Self {
        Self { properties: Arc::new(Properties::new(bootstrap_servers)) }
    }

    /// A property of [librdkafka], by its own name. Set twice, the last value counts; a property
    /// with two names is one.
    ///
    /// [librdkafka]: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
    #[must_use]
    pub fn property(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        Arc::make_mut(&mut self.properties).set(name, value);
        self
    }

    /// Several properties, as from a configuration file.
    #[must_use]
    pub fn properties<N: Into<String>, V: Into<String>>(
        self,
        properties: impl IntoIterator<Item = (N, V)>,
    ) -> Self {
        properties.into_iter().fold(self, |config, (name, value)| config.property(name, value))
    }

    /// Where tokens for SASL OAUTHBEARER come from, and `sasl.mechanisms=OAUTHBEARER`. All clients
    /// of this configuration and of its clones share a token. A new one is asked for when four
    /// fifths of its life have passed.
    ///
    /// `fetch` is called on a thread of its own, and may block: its answer is waited for 10 s.
    /// After an error, it is called again 10 s later; meanwhile events stay in the outbox, and
    /// consumers wait. The error is logged, so it must not contain a secret.
    ///
    /// ```
    /// use outbox::kafka::{AccessToken, KafkaConfig};
    ///
    /// # fn ask_the_login_server() -> Result<String, std::io::Error> { Ok(String::new()) }
    /// let kafka = KafkaConfig::new("kafka-1:9093")
    ///     .property("security.protocol", "sasl_ssl")
    ///     .access_token(|| Ok(AccessToken::from_jwt(ask_the_login_server()?)?));
    /// ```
    #[must_use]
    pub fn access_token(
        mut self,
        fetch: impl Fn() -> Result<AccessToken, Box<dyn Error + Send + Sync>> + Send + Sync + 'static,
    ) -> Self {
        self.take_tokens(Tokens::new(fetch));
        self
    }

    /// As [`access_token`](Self::access_token), from a file that something else keeps fresh, such
    /// as a token that an orchestrator projects. It has a JSON Web Token with the claim `exp`, and
    /// is read again for each new token.
    #[must_use]
    pub fn token_file(mut self, path: impl AsRef<Path>) -> Self {
        self.take_tokens(Tokens::from_file(path.as_ref()));
        self
    }

    fn take_tokens(&mut self, tokens: Tokens) {
        let properties = Arc::make_mut(&mut self.properties);
        properties.set("sasl.mechanisms", "OAUTHBEARER");
        properties.set_tokens(tokens);
    }

    /// What the user has set, and nothing else.
    pub(crate) fn set_by_user(&self) -> &Properties {
        &self.properties
    }
}

impl From<&str> for KafkaConfig {
    fn from(bootstrap_servers: &str) -> Self {
        Self::new(bootstrap_servers)
    }
}

impl From<&String> for KafkaConfig {
    fn from(bootstrap_servers: &String) -> Self {
        Self::new(bootstrap_servers)
    }
}

impl From<String> for KafkaConfig {
    fn from(bootstrap_servers: String) -> Self {
        Self::new(bootstrap_servers)
    }
}

impl From<&Self> for KafkaConfig {
    fn from(config: &Self) -> Self {
        config.clone()
    }
}

impl fmt::Debug for KafkaConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("KafkaConfig").field(&self.properties).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clone_is_changed_alone_and_shows_no_secret() {
        let shared = KafkaConfig::new("localhost:9092").property("sasl.password", "hunter2");
        let own = shared.clone().properties([("linger.ms", "5"), ("client.id", "orders")]);
        assert_eq!(shared.set_by_user().get("linger.ms"), None);
        assert_eq!(own.set_by_user().get("linger.ms"), Some("5"));
        assert_eq!(own.set_by_user().get("sasl.password"), Some("hunter2"));
        let debug = format!("{own:?}");
        assert!(debug.contains("sasl.password") && !debug.contains("hunter2"), "{debug}");
        assert!(debug.contains("localhost:9092") && debug.contains("orders"), "{debug}");
    }
}
