//! Requests to a registry, each within its deadline and with a bounded answer.

use std::time::{Duration, Instant};

use serde_json::Value;
use ureq::Agent;

use crate::config::RegistryConfig;
use crate::error::{RegistryError, RegistryErrorKind};

const MEDIA_TYPE: &str = "application/vnd.schemaregistry.v1+json";
const ACCEPTED: &str = "application/vnd.schemaregistry.v1+json, application/json";
/// Longest answer that is read. Confluent's registry takes schemas of 1 MB at most.
const LONGEST_ANSWER: u64 = 8 << 20;
/// Longest part of what a registry says that is in an error.
const LONGEST_WORDS: usize = 300;

pub(crate) struct Client {
    agent: Agent,
    urls: Vec<String>,
    authorization: Option<String>,
    timeout: Duration,
}

/// What a registry said, if it is one that other registries of the deployment would say, too.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
}

impl Answer {
    /// The registry's own words on a refusal.
    pub(crate) fn words(&self) -> String {
        let words = self.body.get("message").and_then(Value::as_str).unwrap_or("nothing more");
        words.chars().filter(|c| !c.is_control()).take(LONGEST_WORDS).collect()
    }
}

impl Client {
    pub(crate) fn new(config: &RegistryConfig) -> Result<Self, RegistryError> {
        config.check()?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // A redirect could take the credentials elsewhere.
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("outbox-registry/", env!("CARGO_PKG_VERSION")));
        #[cfg(feature = "tls")]
        let agent = agent.tls_config(trusting(config.certificates.as_deref())?);
        Ok(Self {
            agent: agent.build().new_agent(),
            urls: config.urls.clone(),
            authorization: config.authorization.clone(),
            timeout: config.timeout,
        })
    }

    /// Asks each URL in turn, until one answers. `body`: it is a `POST`.
    pub(crate) fn ask(&self, path: &str, body: Option<&Value>) -> Result<Answer, RegistryError> {
        self.ask_until(self.deadline(), path, body)
    }

    /// When a question that is asked now has to be answered.
    pub(crate) fn deadline(&self) -> Instant {
        Instant::now() + self.timeout
    }

    /// The same, for one of several questions that have one deadline.
    pub(crate) fn ask_until(
        &self,
        deadline: Instant,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Answer, RegistryError> {
        let (mut why, mut untrusted) = (Vec::new(), 0);
        for (tried, url) in self.urls.iter().enumerate() {
            let left = u32::try_from(self.urls.len() - tried).unwrap_or(1);
            let share = deadline.saturating_duration_since(Instant::now()) / left;
            match self.ask_one(url, path, body, share) {
                // It is overloaded, or has lost its leader: another may not have.
                Ok(answer) if answer.status == 429 || answer.status >= 500 => {
                    why.push(format!("{url} answers {} ({})", answer.status, answer.words()));
                }
                Ok(answer) if matches!(answer.status, 401 | 403) => {
                    return Err(RegistryError::new(
                        RegistryErrorKind::Denied,
                        format!(
                            "the registry at {url} answers {} ({}): check the credentials, and that they may read the \
                             subject",
                            answer.status,
                            answer.words()
                        ),
                    ));
                }
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let error = error.to_string();
                    // The words of rustls. Its type is one of a package that may not be there.
                    untrusted += usize::from(error.contains("invalid peer certificate"));
                    why.push(format!("{url}: {error}"));
                }
            }
        }
        if untrusted == self.urls.len() {
            return Err(RegistryError::new(
                RegistryErrorKind::Config,
                format!(
                    "the certificate of the registry is not trusted ({}), and nothing was sent to it. If its authority is \
                     your own, give the certificate of that: `RegistryConfig::certificates`, or --registry-ca of the \
                     command. If it is not, check the name in the URL, and whether the certificate has expired",
                    why.join("; ")
                ),
            ));
        }
        Err(RegistryError::new(
            RegistryErrorKind::Unreachable,
            format!(
                "no registry answers within {} s ({}). Check the URLs, and that the registry runs",
                self.timeout.as_secs_f32(),
                why.join("; ")
            ),
        ))
    }

    fn ask_one(
        &self,
        url: &str,
        path: &str,
        body: Option<&Value>,
        share: Duration,
    ) -> Result<Answer, ureq::Error> {
        // A time-out of 0 would be none.
        let share = Some(share.max(Duration::from_millis(1)));
        let url = format!("{url}{path}");
        let authorization = self.authorization.as_deref();
        let mut response = match body {
            None => {
                let request = self.agent.get(url).config().timeout_global(share).build();
                let request = request.header("accept", ACCEPTED);
                match authorization {
                    Some(secret) => request.header("authorization", secret),
                    None => request,
                }
                .call()?
            }
            Some(body) => {
                let request = self.agent.post(url).config().timeout_global(share).build();
                let request = request.header("accept", ACCEPTED).header("content-type", MEDIA_TYPE);
                match authorization {
                    Some(secret) => request.header("authorization", secret),
                    None => request,
                }
                .send(body.to_string())?
            }
        };
        let status = response.status().as_u16();
        let bytes = response.body_mut().with_config().limit(LONGEST_ANSWER).read_to_vec()?;
        // A proxy's page, for one, is not JSON. Its status says enough.
        let body = serde_json::from_slice(&bytes).unwrap_or(Value::Null);
        Ok(Answer { status, body })
    }
}

#[cfg(feature = "tls")]
fn trusting(pem: Option<&[u8]>) -> Result<ureq::tls::TlsConfig, RegistryError> {
    use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};

    let Some(pem) = pem else { return Ok(TlsConfig::builder().build()) };
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        match item {
            Ok(PemItem::Certificate(certificate)) => certificates.push(certificate),
            Ok(_) => {}
            Err(error) => {
                let text = format!("the certificates for the registry are not PEM: {error}");
                return Err(RegistryError::new(RegistryErrorKind::Config, text));
            }
        }
    }
    if certificates.is_empty() {
        let text = "there is no certificate in the PEM for the registry";
        return Err(RegistryError::new(RegistryErrorKind::Config, text));
    }
    Ok(TlsConfig::builder().root_certs(RootCerts::new_with_certs(&certificates)).build())
}
