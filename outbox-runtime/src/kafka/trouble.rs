//! Why brokers and this client do not come together: what librdkafka's errors mean, and what to do.

use rdkafka::error::RDKafkaErrorCode as Code;

/// What is wrong between a client and a broker that can be reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// SASL: the user or its password.
    Credentials,
    Mechanism,
    /// OAUTHBEARER: there is none to send.
    NoToken,
    TokenRefused,
    /// TLS: the broker's certificate, in the eyes of this client.
    BrokerCertificate,
    /// TLS: this client's certificate, in the eyes of the broker.
    OwnCertificate,
    /// TLS, in some other way.
    Handshake,
    /// The client speaks TLS, and the broker's port does not.
    NoTls,
    /// The client speaks neither TLS nor SASL, and the broker's port may.
    Listener,
}

impl Trouble {
    /// What an error of librdkafka's means. `None`: it is none of these.
    pub(crate) fn of(code: Option<Code>, reason: &str) -> Option<Self> {
        let reason = reason.to_ascii_lowercase();
        let says = |words: &[&str]| words.iter().any(|words| reason.contains(words));
        let of_sasl = || {
            if says(&["failed to acquire"]) {
                Self::NoToken
            } else if says(&["unsupported sasl mechanism", "mechanism handshake failed"]) {
                Self::Mechanism
            } else if says(&["oauthbearer", "token"]) {
                Self::TokenRefused
            } else {
                Self::Credentials
            }
        };
        match code? {
            Code::Authentication
            | Code::SaslAuthenticationFailed
            | Code::UnsupportedSASLMechanism
            | Code::IllegalSASLState => Some(of_sasl()),
            Code::SSL | Code::BrokerTransportFailure if says(&["certificate verify failed"]) => {
                Some(Self::BrokerCertificate)
            }
            // Only the broker's alerts are about this client's certificate.
            Code::SSL | Code::BrokerTransportFailure
                if says(&["alert"])
                    && says(&["certificate", "unknown ca", "handshake failure"]) =>
            {
                Some(Self::OwnCertificate)
            }
            Code::SSL | Code::BrokerTransportFailure
                if says(&[
                    "wrong version number",
                    "plaintext broker listener",
                    "packet length too long",
                ]) =>
            {
                Some(Self::NoTls)
            }
            Code::SSL => Some(Self::Handshake),
            // Before the broker has answered anything.
            Code::BrokerTransportFailure
                if says(&["disconnected"]) && says(&["in state apiversion_query"]) =>
            {
                Some(Self::Listener)
            }
            _ => None,
        }
    }

    /// Whether it is certain that waiting does not help. A broker that stops closes connections,
    /// too.
    pub(crate) fn is_certain(self) -> bool {
        !matches!(self, Self::NoTls | Self::Listener)
    }

    /// What is wrong.
    pub(crate) fn cause(self) -> &'static str {
        match self {
            Self::Credentials => "the brokers refuse this user or its password",
            Self::Mechanism => "the brokers do not offer this `sasl.mechanisms`",
            Self::NoToken => "there is no token for OAUTHBEARER to send to the brokers",
            Self::TokenRefused => "the brokers refuse the token for OAUTHBEARER",
            Self::BrokerCertificate => {
                "the broker's certificate is not valid for this client: it has expired, is for another host, or is signed by an \
                 authority that this client does not trust"
            }
            Self::OwnCertificate => {
                "the broker refuses this client's certificate: there is none, it has expired, or it is signed by an authority \
                 that the broker does not trust"
            }
            Self::Handshake => "the broker and this client do not agree on TLS",
            Self::NoTls => {
                "the broker closes the connection at once: this client speaks TLS, and the port does not, perhaps"
            }
            Self::Listener => {
                "the broker closes the connection at once: its port expects TLS or SASL, perhaps, and `security.protocol` says \
                 otherwise"
            }
        }
    }

    /// What to do about it.
    pub(crate) fn remedy(self) -> &'static str {
        match self {
            Self::Credentials => {
                "Correct `sasl.username` and `sasl.password`, or create the user for this mechanism (`kafka-configs.sh --alter \
                 --entity-type users --entity-name USER --add-config 'SCRAM-SHA-512=[password=…]'`)"
            }
            Self::Mechanism => "Set `sasl.mechanisms` to one of those that the reason names",
            Self::NoToken => {
                "See that the callback of `KafkaConfig::access_token`, or the file of `token_file`, has one"
            }
            Self::TokenRefused => {
                "See what the brokers' own log says: its issuer, audience, scope or time may be wrong"
            }
            Self::BrokerCertificate => {
                "Renew it on the broker, connect to a name that is in it, or name the cluster's authority with \
                 `ssl.ca.location=FILE`"
            }
            Self::OwnCertificate => {
                "Set `ssl.certificate.location` and `ssl.key.location` to a certificate that is valid now and of an authority in \
                 the broker's truststore"
            }
            Self::Handshake => {
                "See that the port is one of Kafka's with TLS, and compare the protocols and ciphers of both sides"
            }
            Self::NoTls => {
                "Connect to the port of a listener with TLS, or set `security.protocol` to `plaintext` or `sasl_plaintext`"
            }
            Self::Listener => {
                "Set `security.protocol` as the listener has it (`ssl`, `sasl_ssl`, `sasl_plaintext`), or connect to another port"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // In librdkafka's own words; those of this version are met in `tests/it/secured_faults.rs`.
    #[test]
    fn a_refusal_is_told_from_its_code_and_its_words() {
        for (code, reason, trouble) in [
            (
                Code::Authentication,
                "sasl_ssl://a:9093/bootstrap: SASL authentication error: Authentication failed during authentication due to \
                 invalid credentials with SASL mechanism SCRAM-SHA-512 (after 305ms in state AUTH_REQ)",
                Some(Trouble::Credentials),
            ),
            (
                Code::Authentication,
                "SASL GSSAPI mechanism handshake failed: Broker: Unsupported SASL mechanism: broker's supported mechanisms: PLAIN",
                Some(Trouble::Mechanism),
            ),
            (
                Code::Authentication,
                "Failed to acquire SASL OAUTHBEARER token: the login server is away",
                Some(Trouble::NoToken),
            ),
            (
                Code::SSL,
                "ssl://a:9093/bootstrap: SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker \
                 certificate could not be verified",
                Some(Trouble::BrokerCertificate),
            ),
            (
                Code::SSL,
                "SSL handshake failed: error:0A000416:SSL routines::sslv3 alert certificate unknown: SSL alert number 46",
                Some(Trouble::OwnCertificate),
            ),
            (
                Code::SSL,
                "SSL handshake failed: error:0A00010B:SSL routines::wrong version number",
                Some(Trouble::NoTls),
            ),
            (Code::SSL, "SSL handshake failed: error:0A000102", Some(Trouble::Handshake)),
            (
                Code::BrokerTransportFailure,
                "a:9093/bootstrap: Disconnected (after 3ms in state APIVERSION_QUERY)",
                Some(Trouble::Listener),
            ),
            (Code::BrokerTransportFailure, "a:9092/1: Connect failed: Connection refused", None),
            (Code::AllBrokersDown, "1/1 brokers are down", None),
        ] {
            assert_eq!(Trouble::of(Some(code), reason), trouble, "{reason}");
        }
        assert_eq!(Trouble::of(None, "certificate verify failed"), None);
    }
}
