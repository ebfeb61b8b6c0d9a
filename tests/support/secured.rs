//! A Kafka with TLS, SASL and rights, which tests share.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use outbox::kafka::{AccessToken, KafkaConfig};
use xtask::servers::{Kafka, KafkaOptions, Secured};
use xtask::{Identity, ScratchDir};

/// The server. It stops with the process.
pub fn secured_kafka() -> &'static Kafka {
    static KAFKA: OnceLock<(Kafka, ScratchDir)> = OnceLock::new();
    let start = || {
        let scratch = ScratchDir::new("secured").unwrap();
        let options =
            KafkaOptions { auto_create_topics: false, secured: true, ..KafkaOptions::default() };
        (Kafka::start(&scratch.path().join("kafka"), options).unwrap(), scratch)
    };
    &KAFKA.get_or_init(start).0
}

pub fn secured() -> &'static Secured {
    secured_kafka().secured().unwrap()
}

/// Trusts the servers' authority.
pub fn trusting(brokers: String, protocol: &str) -> KafkaConfig {
    let authority = secured().certificates().authority();
    KafkaConfig::new(brokers)
        .property("security.protocol", protocol)
        .property("ssl.ca.location", authority.to_str().unwrap())
}

/// With a certificate of one's own.
pub fn with_certificate(identity: &Identity) -> KafkaConfig {
    trusting(secured().tls(), "ssl")
        .property("ssl.certificate.location", identity.certificate.to_str().unwrap())
        .property("ssl.key.location", identity.key.to_str().unwrap())
}

/// As the user `admin`, who may do everything.
pub fn with_password(mechanism: &str, password: &str) -> KafkaConfig {
    trusting(secured().sasl(), "sasl_ssl")
        .property("sasl.mechanisms", mechanism)
        .property("sasl.username", "admin")
        .property("sasl.password", password)
}

/// With an unsigned token, which this Kafka believes.
pub fn with_token(user: &'static str) -> KafkaConfig {
    trusting(secured().sasl(), "sasl_ssl").access_token(move || Ok(unsigned_token(user)))
}

fn unsigned_token(user: &str) -> AccessToken {
    let lasts = Duration::from_secs(3600);
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let (now, end) = (since.as_secs(), (since + lasts).as_secs());
    let claims = format!(r#"{{"sub":"{user}","iat":{now},"exp":{end}}}"#);
    let token = format!("{}.{}.", base64_url(r#"{"alg":"none"}"#), base64_url(&claims));
    AccessToken::from_jwt(token).unwrap()
}

fn base64_url(text: &str) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut encoded = String::new();
    for three in text.as_bytes().chunks(3) {
        let bits = three.iter().fold(0_u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - three.len()));
        for n in 0..=three.len() {
            encoded.push(char::from(DIGITS[(bits >> (18 - 6 * n) & 63) as usize]));
        }
    }
    encoded
}
