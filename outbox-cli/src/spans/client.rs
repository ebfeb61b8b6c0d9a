//! How spans get to the collector: HTTP, with TLS if the command has it.

use std::error::Error;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::failure::Failure;

#[cfg(feature = "tls")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;

/// Most bytes of an answer. It says how many spans were refused, and why.
const LARGEST_ANSWER: usize = 64 * 1024;

/// Why the last request failed: what the exporter itself calls a network error and no more.
pub type Cause = Arc<Mutex<Option<String>>>;

/// A client whose requests run on the runtime: the thread that sends spans has none.
#[derive(Debug)]
pub struct Client {
    inner: legacy::Client<Connector, Full<Bytes>>,
    within: Duration,
    runtime: Handle,
    cause: Cause,
}

impl Client {
    /// `within`: longest time for a request, with its answer.
    pub fn new(within: Duration, cause: Cause) -> Result<Self, Failure> {
        let inner = legacy::Client::builder(TokioExecutor::new()).build(connector()?);
        Ok(Self { inner, within, runtime: Handle::current(), cause })
    }
}

#[async_trait::async_trait]
impl HttpClient for Client {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let answer = self.inner.request(request.map(Full::new));
        let answer = async move {
            let (head, body) = answer.await?.into_parts();
            let body = Limited::new(body, LARGEST_ANSWER).collect().await?.to_bytes();
            Ok(Response::from_parts(head, body))
        };
        let within = self.within;
        let sent = self.runtime.spawn(async move {
            timeout(within, answer)
                .await
                .unwrap_or_else(|_| Err("it did not answer in time".into()))
        });
        let sent: Result<_, HttpError> = sent.await?;
        let cause = sent.as_ref().err().map(|error| with_sources(&**error));
        *self.cause.lock().unwrap_or_else(PoisonError::into_inner) = cause;
        sent
    }
}

fn with_sources(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let _ = write!(words, ": {error}");
        source = error.source();
    }
    words
}

#[cfg(not(feature = "tls"))]
fn connector() -> Result<Connector, Failure> {
    Ok(HttpConnector::new())
}

#[cfg(feature = "tls")]
fn connector() -> Result<Connector, Failure> {
    let https = hyper_rustls::HttpsConnectorBuilder::new().with_tls_config(tls::config()?);
    Ok(https.https_or_http().enable_http1().build())
}

/// The roots of Mozilla, or those of the file that the variable of OpenTelemetry names; and the
/// certificate of this client, if there is one.
#[cfg(feature = "tls")]
mod tls {
    use std::fmt::Display;
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, RootCertStore};

    use crate::failure::Failure;
    use crate::file::read_bounded;

    pub(super) fn config() -> Result<ClientConfig, Failure> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(Failure::failed)?
            .with_root_certificates(roots()?);
        let Some(certificate) = variable("CLIENT_CERTIFICATE") else {
            return Ok(config.with_no_client_auth());
        };
        let Some(key) = variable("CLIENT_KEY") else {
            return Err(Failure::configuration(
                "`--otlp`: OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE is set, and OTEL_EXPORTER_OTLP_CLIENT_KEY is not. Nothing was \
                 started",
            ));
        };
        let key_pem = read(&key)?;
        let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes())
            .map_err(|error| unreadable(&key, error))?;
        config
            .with_client_auth_cert(certificates(&certificate)?, key)
            .map_err(|error| unreadable(&certificate, error))
    }

    fn roots() -> Result<RootCertStore, Failure> {
        let Some(file) = variable("CERTIFICATE") else {
            return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
        };
        let mut roots = RootCertStore::empty();
        for certificate in certificates(&file)? {
            roots.add(certificate).map_err(|error| unreadable(&file, error))?;
        }
        Ok(roots)
    }

    /// By the name for traces, or by that for all.
    fn variable(name: &str) -> Option<String> {
        ["OTEL_EXPORTER_OTLP_TRACES_", "OTEL_EXPORTER_OTLP_"].iter().find_map(|begins| {
            std::env::var(format!("{begins}{name}")).ok().filter(|value| !value.is_empty())
        })
    }

    fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
        let text = read(file)?;
        let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
        match parsed {
            Ok(found) if found.is_empty() => Err(unreadable(file, "it has no certificate")),
            parsed => parsed.map_err(|error| unreadable(file, error)),
        }
    }

    fn read(file: &str) -> Result<String, Failure> {
        read_bounded(file.as_ref()).map_err(|error| unreadable(file, error))
    }

    fn unreadable(file: &str, error: impl Display) -> Failure {
        Failure::configuration(format!(
            "`--otlp`: cannot use {file}, which a variable OTEL_EXPORTER_OTLP_… names: {error}. Nothing was started"
        ))
    }
}
