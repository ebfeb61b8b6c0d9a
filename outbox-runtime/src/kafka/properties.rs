//! The properties of librdkafka for a client. Some are secret, and a mistyped name hides which. So
//! no value is shown anywhere, except for a few names.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use rdkafka::ClientConfig;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::error::KafkaError;

use super::token::Tokens;
use crate::error::OutboxError;

const BOOTSTRAP_SERVERS: &str = "bootstrap.servers";

/// librdkafka has several names for one property, and takes the value that is set last. So one name
/// is kept.
const ALIASES: &[(&str, &str)] = &[
    ("metadata.broker.list", BOOTSTRAP_SERVERS),
    ("max.in.flight", "max.in.flight.requests.per.connection"),
    ("sasl.mechanism", "sasl.mechanisms"),
    ("sasl.oauthbearer.client.credentials.client.id", "sasl.oauthbearer.client.id"),
    ("sasl.oauthbearer.client.credentials.client.secret", "sasl.oauthbearer.client.secret"),
    ("fetch.message.max.bytes", "max.partition.fetch.bytes"),
    ("queue.buffering.max.ms", "linger.ms"),
    ("message.send.max.retries", "retries"),
    ("compression.codec", "compression.type"),
    ("request.required.acks", "acks"),
    ("delivery.timeout.ms", "message.timeout.ms"),
];

/// Names of properties whose values may be shown.
const SHOWN: &[&str] =
    &[BOOTSTRAP_SERVERS, "client.id", "group.id", "sasl.mechanisms", "security.protocol"];

/// What begins the properties that say how to reach the brokers.
const OF_CONNECTIONS: [&str; 14] = [
    "bootstrap.",
    "metadata.broker.list",
    "metadata.recovery.",
    "security.",
    "sasl.",
    "ssl.",
    "https.",
    "enable.ssl",
    "enable.sasl",
    "socket.",
    "client.",
    "broker.",
    "reconnect.",
    "connections.",
];

/// Properties by name, and what cannot be said by one. Each name has one spelling, and the value
/// that was set last.
#[derive(Clone)]
pub(crate) struct Properties {
    by_name: BTreeMap<String, String>,
    /// Where tokens for OAUTHBEARER come from.
    tokens: Option<Arc<Tokens>>,
}

impl Properties {
    pub(crate) fn new(bootstrap_servers: impl Into<String>) -> Self {
        let mut properties = Self { by_name: BTreeMap::new(), tokens: None };
        properties.set(BOOTSTRAP_SERVERS, bootstrap_servers);
        properties
    }

    /// These, and `defaults` for names that are not among them.
    pub(crate) fn or<'d>(
        &self,
        defaults: impl IntoIterator<Item = &'d (&'d str, &'d str)>,
    ) -> Self {
        let mut all = self.clone();
        for (name, value) in defaults {
            all.by_name.entry(one_name((*name).to_owned())).or_insert_with(|| (*value).to_owned());
        }
        all
    }

    /// These, but for some names.
    pub(crate) fn without(mut self, names: &[&str]) -> Self {
        self.by_name.retain(|name, _| !names.contains(&name.as_str()));
        self
    }

    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.by_name.insert(one_name(name.into()), value.into());
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.by_name.get(name).map(String::as_str)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.by_name.iter().map(|(name, value)| (&**name, &**value))
    }

    pub(crate) fn set_tokens(&mut self, tokens: Tokens) {
        self.tokens = Some(Arc::new(tokens));
    }

    pub(crate) fn tokens(&self) -> Option<&Arc<Tokens>> {
        self.tokens.as_ref()
    }

    pub(crate) fn brokers(&self) -> &str {
        self.get(BOOTSTRAP_SERVERS).unwrap_or_default()
    }

    /// The configuration for librdkafka. `refusal` returns why a property is refused, by its name
    /// and value.
    pub(crate) fn client(
        &self,
        refusal: impl Fn(&str, &str) -> Option<&'static str>,
    ) -> Result<ClientConfig, OutboxError> {
        if self.brokers().trim().is_empty() {
            return Err(OutboxError::config(
                "no Kafka brokers given: name at least one as `host:port` (is KAFKA_BROKERS set?)",
            ));
        }
        if let Some(why) = self.lacks_tokens() {
            return Err(OutboxError::config(why));
        }
        let mut client = new_client_config();
        for (name, value) in self.iter() {
            if let Some(why) = refusal(name, value) {
                let value = if SHOWN.contains(&name) { format!("={value}") } else { String::new() };
                return Err(OutboxError::config(format!(
                    "the Kafka property `{name}{value}` is refused: {why}. Leave it out"
                )));
            }
            client.set(name, value);
        }
        Ok(client)
    }

    /// Whether nothing says where tokens come from. librdkafka would wait for one, without a word.
    fn lacks_tokens(&self) -> Option<&'static str> {
        let is =
            |name, value| self.get(name).is_some_and(|set| set.trim().eq_ignore_ascii_case(value));
        let comes = self.tokens.is_some()
            || is("sasl.oauthbearer.method", "oidc")
            || is("enable.sasl.oauthbearer.unsecure.jwt", "true");
        (is("sasl.mechanisms", "OAUTHBEARER") && !comes).then_some(
            "`sasl.mechanisms=OAUTHBEARER` takes tokens, and nothing says where they come from: nothing was started. Set \
             `KafkaConfig::access_token` or `token_file` (for the command, OUTBOX_KAFKA_TOKEN_FILE)",
        )
    }

    /// The error of a client that could not be created: librdkafka's message, without the values in
    /// it.
    pub(crate) fn no_client(&self, error: KafkaError) -> OutboxError {
        let words = match error {
            KafkaError::ClientConfig(_, words, name, _) => words.replace(&name, shown(&name)),
            KafkaError::ClientCreation(words) => words,
            KafkaError::Nul(_) => "a property has a zero byte in its name or value".to_owned(),
            other => other.to_string(),
        };
        // Of `sasl.oauthbearer.config`, librdkafka quotes what it does not understand.
        let words = words.split("beginning at:").next().unwrap_or_default().trim_end();
        let mut words = words.to_owned();
        for (name, value) in
            self.iter().filter(|(name, value)| !SHOWN.contains(name) && !value.is_empty())
        {
            words = words.replace(&format!("\"{value}\""), "\"…\"");
            // A short value may be part of any word.
            if value.len() >= 4 && ["sasl.", "ssl."].iter().any(|of| name.starts_with(of)) {
                words = words.replace(value, "…");
            }
        }
        OutboxError::config(format!(
            "librdkafka refused the settings; nothing was started: {words}{}",
            remedy(&words)
        ))
    }
}

impl fmt::Debug for Properties {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |(name, value)| (shown(name), if SHOWN.contains(&name) { value } else { "…" });
        f.debug_map().entries(self.iter().map(shown)).finish()
    }
}

/// A configuration whose client logs what [`Brokers`](super::Brokers) reads there.
fn new_client_config() -> ClientConfig {
    let mut client = ClientConfig::new();
    client.set_log_level(RDKafkaLogLevel::Info);
    client
}

/// For a client that reaches the same brokers.
pub(crate) fn connection(properties: &Properties) -> ClientConfig {
    let mut client = new_client_config();
    for (name, value) in
        properties.iter().filter(|(name, _)| OF_CONNECTIONS.iter().any(|of| name.starts_with(of)))
    {
        client.set(name, value);
    }
    client
}

fn one_name(name: String) -> String {
    // librdkafka reads `topic.acks` as `acks`.
    let of_topics = name
        .strip_prefix("topic.")
        .filter(|rest| !rest.starts_with("metadata.") && *rest != "blacklist");
    let name = of_topics.unwrap_or(&name);
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name);
    alias.map_or(name, |(_, name)| *name).to_owned()
}

/// A name without what cannot be part of one: who writes `sasl.password=…` as a name does not find
/// it in the log.
fn shown(name: &str) -> &str {
    let of_a_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    name.split(|c| !of_a_name(c)).next().unwrap_or_default()
}

/// What to do about what this build of librdkafka lacks.
fn remedy(words: &str) -> String {
    let lacks =
        ["not available at build time", "not supported in this build", "recompile librdkafka"];
    if !lacks.iter().any(|lacks| words.contains(lacks)) {
        return String::new();
    }
    let lower = words.to_ascii_lowercase();
    let of_rdkafka = [("gssapi", "gssapi"), ("cyrus", "gssapi"), ("curl", "curl")]
        .into_iter()
        .find(|(word, _)| lower.contains(word));
    match of_rdkafka {
        Some((_, feature)) => format!(
            ". Turn it on with a feature of the crate `rdkafka`: `rdkafka = {{ version = \"0.39\", default-features = false, \
             features = [\"{feature}\"] }}` in your Cargo.toml"
        ),
        None => {
            let feature = if lower.contains("zstd") { "zstd" } else { "kafka-ssl" };
            format!(". Turn on the feature `{feature}` of the crate `outbox` in your Cargo.toml")
        }
    }
}

#[cfg(test)]
mod tests {
    use rdkafka::producer::BaseProducer;

    use super::*;

    fn told(name: &str, value: &str) -> String {
        let mut properties = Properties::new("localhost:9092");
        properties.set(name, value);
        let debug = format!("{properties:?}");
        assert!(!debug.contains("hunter2"), "{debug}");
        match properties.client(|_, _| None).unwrap().create::<BaseProducer>() {
            Ok(_) => String::new(),
            Err(error) => format!("{:?}", properties.no_client(error)),
        }
    }

    #[test]
    fn no_value_is_in_debug_or_in_an_error_however_its_name_is_spelt() {
        for name in [
            "sasl.password",
            "sasl.pasword",
            "sasl.password=hunter2",
            "topic.sasl.password",
            "ssl.key.password",
            "linger.ms",
            "enable.idempotence",
            "sasl.oauthbearer.client.secret",
        ] {
            let told = told(name, "hunter2");
            assert!(!told.contains("hunter2"), "{told}");
        }
        let told = told("sasl.password", "hunter2\0");
        assert!(!told.contains("hunter2") && told.contains("zero byte"), "{told}");
        let mut properties = Properties::new("localhost:9092").or(&[("sasl.pasword", "hunter2")]);
        properties.set("sasl.mechanism", "PLAIN");
        let error = properties.client(|_, _| None).unwrap().create::<BaseProducer>().err().unwrap();
        let told = properties.no_client(error).to_string();
        assert!(told.contains("sasl.pasword") && !told.contains("hunter2"), "{told}");
    }

    // In librdkafka's words, for the tests are built with all features.
    #[test]
    fn what_this_build_lacks_is_named_with_the_feature_that_has_it() {
        for (words, feature) in [
            (
                "Unsupported value \"zstd\" for configuration property \"compression.type\": \
                 libzstd not available at build time",
                "`zstd` of the crate `outbox`",
            ),
            (
                "Unsupported value \"ssl\" for configuration property \"security.protocol\": \
                 OpenSSL not available at build time",
                "`kafka-ssl` of the crate `outbox`",
            ),
            (
                "Configuration property \"ssl.ca.location\" not supported in this build: OpenSSL \
                 not available at build time",
                "`kafka-ssl` of the crate `outbox`",
            ),
            (
                "No provider for SASL mechanism GSSAPI: recompile librdkafka with libsasl2 or \
                 openssl support",
                "\"gssapi\"",
            ),
        ] {
            let told = remedy(words);
            assert!(told.contains(feature), "{words}: {told}");
        }
        assert_eq!(remedy("No such configuration property: \"linger\""), "");
    }

    #[test]
    fn oauthbearer_without_a_source_of_tokens_is_refused() {
        let mut properties = Properties::new("localhost:9092");
        properties.set("sasl.mechanism", "OAuthBearer");
        let error = properties.client(|_, _| None).unwrap_err().to_string();
        assert!(error.contains("OAUTHBEARER") && error.contains("access_token"), "{error}");
        properties.set("sasl.oauthbearer.method", "oidc");
        properties.client(|_, _| None).unwrap();
        properties.set("sasl.oauthbearer.method", "default");
        properties.set_tokens(Tokens::new(|| Err("none".into())));
        properties.client(|_, _| None).unwrap();
    }

    #[test]
    fn a_property_has_one_name_and_the_last_value() {
        let mut properties = Properties::new("a:1");
        properties.set("queue.buffering.max.ms", "6");
        properties.set("queue.buffering.max.ms", "7");
        properties.set("metadata.broker.list", "b:2");
        properties.set("topic.metadata.refresh.interval.ms", "5");
        let properties = properties.or(&[("linger.ms", "2"), ("topic.acks", "1")]);
        let all: Vec<_> = properties.iter().collect();
        assert_eq!(
            all,
            [
                ("acks", "1"),
                ("bootstrap.servers", "b:2"),
                ("linger.ms", "7"),
                ("topic.metadata.refresh.interval.ms", "5")
            ]
        );
    }
}
