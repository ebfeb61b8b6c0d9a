//! How a registry is reached.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::error::{RegistryError, RegistryErrorKind};
use crate::subject::SubjectStrategy;

const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Registries of one deployment.
const MOST_URLS: usize = 16;

/// How a registry is reached, and under which subjects it keeps the schemas of events.
///
/// Proxies that the environment names (`HTTPS_PROXY`) are not used.
#[derive(Clone)]
pub struct RegistryConfig {
    pub(crate) urls: Vec<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) timeout: Duration,
    pub(crate) strategy: SubjectStrategy,
    pub(crate) topic_prefix: String,
    #[cfg(feature = "tls")]
    pub(crate) certificates: Option<Vec<u8>>,
}

impl RegistryConfig {
    /// A registry at this URL, or several of one deployment, separated by commas. They are tried in
    /// their order until one answers.
    #[must_use]
    pub fn new(urls: impl AsRef<str>) -> Self {
        let urls = urls.as_ref().split(',').map(|url| url.trim().trim_end_matches('/').to_owned());
        Self {
            urls: urls.filter(|url| !url.is_empty()).collect(),
            authorization: None,
            timeout: DEFAULT_TIMEOUT,
            strategy: SubjectStrategy::default(),
            topic_prefix: String::new(),
            #[cfg(feature = "tls")]
            certificates: None,
        }
    }

    /// User and password, or a key and its secret: HTTP's basic authentication. Replaces a token.
    #[must_use]
    pub fn basic_auth(mut self, user: impl fmt::Display, password: impl fmt::Display) -> Self {
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        self.authorization = Some(format!("Basic {credentials}"));
        self
    }

    /// A token that is sent as it is. Replaces a password.
    #[must_use]
    pub fn bearer_token(mut self, token: impl fmt::Display) -> Self {
        self.authorization = Some(format!("Bearer {token}"));
        self
    }

    /// Longest time for one answer, all URLs together. Default: 5 s; at most 60 s. A codec that meets
    /// a schema that is new to it waits as long, and its thread with it.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// How subjects are named. Default: [`SubjectStrategy::TopicName`].
    #[must_use]
    pub fn subjects(mut self, strategy: SubjectStrategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// The prefix that topics have on the brokers of this deployment, as publishers and consumers
    /// are given it. Subjects are named after topics as they are on the brokers. Default: none.
    #[must_use]
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.topic_prefix = prefix.into();
        self
    }

    /// Certificates in PEM of authorities that are trusted instead of Mozilla's.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn certificates(mut self, pem: impl Into<Vec<u8>>) -> Self {
        self.certificates = Some(pem.into());
        self
    }

    pub(crate) fn check(&self) -> Result<(), RegistryError> {
        let refused = |why: &str| Err(RegistryError::new(RegistryErrorKind::Config, why));
        if self.urls.is_empty() || self.urls.len() > MOST_URLS {
            return refused("a registry has 1 to 16 URLs, such as http://registry:8081");
        }
        for url in &self.urls {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            let Some(rest) = rest.filter(|rest| !rest.is_empty()) else {
                return refused(
                    "the URL of a registry begins with http:// or https://, and names a host",
                );
            };
            // Not shown: it may have the password in it.
            if rest.split('/').next().is_some_and(|authority| authority.contains('@')) {
                return refused(
                    "the URL of a registry has no user and no password in it: it is in logs. Use `basic_auth`",
                );
            }
            if rest.contains(['?', '#']) || rest.contains(char::is_whitespace) {
                return refused("the URL of a registry ends with a host, a port or a path");
            }
            if cfg!(not(feature = "tls")) && url.starts_with("https://") {
                return refused(
                    "https:// needs the feature `tls` of outbox-registry, which is not switched on",
                );
            }
        }
        if self.timeout.is_zero() || self.timeout > LONGEST_TIMEOUT {
            return refused("the timeout of a registry is more than 0 and at most 60 s");
        }
        let not_text = |value: &String| !value.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if self.authorization.as_ref().is_some_and(not_text) {
            return refused(
                "the token for the registry has characters that no HTTP header may have, such as a line break",
            );
        }
        Ok(())
    }
}

/// Without credentials.
impl fmt::Debug for RegistryConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A URL that is refused may have a password in it.
        let urls = if self.check().is_ok() { &*self.urls } else { &[] };
        f.debug_struct("RegistryConfig")
            .field("urls", &urls)
            .field("authorization", &self.authorization.as_ref().map(|_| "***"))
            .field("timeout", &self.timeout)
            .field("strategy", &self.strategy)
            .field("topic_prefix", &self.topic_prefix)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_registry_is_refused_before_it_is_asked() {
        for urls in ["", "registry:8081", "http://", "http://a,ftp://b", "http://a?b", "http://a b"]
        {
            let error = RegistryConfig::new(urls).check().unwrap_err();
            assert_eq!(error.kind(), RegistryErrorKind::Config, "{urls}");
        }
        RegistryConfig::new(" http://a:1/path/ , http://[::1]:2").check().unwrap();
        let slow = RegistryConfig::new("http://a").timeout(Duration::from_secs(61));
        assert!(slow.check().is_err());
    }

    #[test]
    fn credentials_are_neither_shown_nor_in_an_error() {
        let all = [
            RegistryConfig::new("http://registry").basic_auth("user", "s3cret"),
            RegistryConfig::new("http://registry").bearer_token("s3cret\n"),
            RegistryConfig::new("http://user:s3cret@registry"),
        ];
        for config in all {
            let error = config.check().err().map(|error| error.to_string());
            let shown = format!("{config:?} {error:?}");
            for secret in ["s3cret", "dXNlcjpzM2NyZXQ"] {
                assert!(!shown.contains(secret), "{shown}");
            }
        }
    }
}
