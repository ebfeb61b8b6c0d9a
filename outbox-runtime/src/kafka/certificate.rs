//! What is wrong with a broker's certificate. librdkafka says only that it could not be verified,
//! so this makes a handshake of its own and looks.

use std::net::{IpAddr, TcpStream, ToSocketAddrs as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVerifyMode};
use openssl::x509::store::X509StoreBuilder;
use openssl::x509::{X509, X509NameRef, X509StoreContextRef};

use super::Properties;

/// Time-out of the connection, and of each reading from it.
const WITHIN: Duration = Duration::from_secs(3);

/// What OpenSSL found wrong.
struct Fault {
    /// As `X509_V_ERR_…` numbers it.
    code: i32,
    words: String,
    subject: String,
    issuer: String,
    not_before: String,
    not_after: String,
}

/// Cause and remedy, by the error in which librdkafka names the broker. `None`: nothing was found.
pub(super) fn found(reason: &str, properties: &Properties) -> Option<(String, String)> {
    let (host, port) = broker_in(reason)?;
    let checks_host =
        properties.get("ssl.endpoint.identification.algorithm").is_none_or(|alg| alg != "none");
    let fault = fault_of(host, port, checks_host, properties)?;
    Some(in_words(&fault, host))
}

/// Of `sasl_ssl://host:port/1: …`.
fn broker_in(reason: &str) -> Option<(&str, u16)> {
    let (_, rest) = reason.split_once("ssl://")?;
    let (address, _) = rest.split_once('/')?;
    let (host, port) = address.rsplit_once(':')?;
    Some((host.trim_start_matches('[').trim_end_matches(']'), port.parse().ok()?))
}

fn fault_of(host: &str, port: u16, checks_host: bool, properties: &Properties) -> Option<Fault> {
    let seen = Arc::<Mutex<Option<Fault>>>::default();
    let kept = Arc::clone(&seen);
    let mut context = trusting(properties).ok()?;
    context.set_verify_callback(SslVerifyMode::PEER, move |valid, chain| {
        if !valid {
            *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(Fault::in_chain(chain));
        }
        valid
    });
    let mut tls = Ssl::new(&context.build()).ok()?;
    tls.set_hostname(host).ok()?;
    if checks_host {
        match host.parse::<IpAddr>() {
            Ok(ip) => tls.param_mut().set_ip(ip).ok()?,
            Err(_) => tls.param_mut().set_host(host).ok()?,
        }
    }
    let address = (host, port).to_socket_addrs().ok()?.next()?;
    let socket = TcpStream::connect_timeout(&address, WITHIN).ok()?;
    socket.set_read_timeout(Some(WITHIN)).ok()?;
    socket.set_write_timeout(Some(WITHIN)).ok()?;
    let _ = tls.connect(socket);
    seen.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// Trusts whom librdkafka trusts.
fn trusting(properties: &Properties) -> Result<SslContextBuilder, ErrorStack> {
    let mut context = SslContext::builder(SslMethod::tls_client())?;
    match (properties.get("ssl.ca.location"), properties.get("ssl.ca.pem")) {
        (Some("probe"), _) | (None, None) => context.set_default_verify_paths()?,
        (Some(path), _) if Path::new(path).is_dir() => {
            context.load_verify_locations(None, Some(Path::new(path)))?;
        }
        (Some(path), _) => context.set_ca_file(path)?,
        (None, Some(pem)) => {
            let mut store = X509StoreBuilder::new()?;
            for certificate in X509::stack_from_pem(pem.as_bytes())? {
                store.add_cert(certificate)?;
            }
            context.set_cert_store(store.build());
        }
    }
    Ok(context)
}

impl Fault {
    fn in_chain(chain: &X509StoreContextRef) -> Self {
        let error = chain.error();
        let of = |what: fn(&X509) -> String| {
            chain.current_cert().map(|certificate| what(&certificate.to_owned()))
        };
        Self {
            code: error.as_raw(),
            words: error.error_string().to_owned(),
            subject: of(|certificate| name(certificate.subject_name())).unwrap_or_default(),
            issuer: of(|certificate| name(certificate.issuer_name())).unwrap_or_default(),
            not_before: of(|certificate| certificate.not_before().to_string()).unwrap_or_default(),
            not_after: of(|certificate| certificate.not_after().to_string()).unwrap_or_default(),
        }
    }
}

/// `CN=…, O=…`.
fn name(name: &X509NameRef) -> String {
    let entries = name.entries().map(|entry| {
        let value = entry.data().to_string().unwrap_or_default();
        format!("{}={value}", entry.object().nid().short_name().unwrap_or("?"))
    });
    entries.collect::<Vec<_>>().join(", ")
}

fn in_words(fault: &Fault, host: &str) -> (String, String) {
    let Fault { code, words, subject, issuer, not_before, not_after } = fault;
    match code {
        // X509_V_ERR_CERT_HAS_EXPIRED
        10 => (
            format!("the broker's certificate `{subject}` has expired ({not_after})"),
            "Renew it on the broker; this client continues without help".to_owned(),
        ),
        // X509_V_ERR_CERT_NOT_YET_VALID
        9 => (
            format!("the broker's certificate `{subject}` is valid only from {not_before} on"),
            "Set the clock of this machine, or wait".to_owned(),
        ),
        // Of an issuer that is unknown, or that is itself in no list.
        2 | 18..=21 => (
            format!(
                "the broker's certificate `{subject}` is signed by an authority that this client does not trust: `{issuer}`"
            ),
            "Name the authority of the cluster with `ssl.ca.location=FILE`, a file with its certificate in PEM".to_owned(),
        ),
        // X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        62 | 64 => (
            format!("the broker's certificate `{subject}` is not for `{host}`, to which this client has connected"),
            "Connect to a name that is in the certificate (`bootstrap.servers`, and the broker's `advertised.listeners`), or have \
             it issued for this one"
                .to_owned(),
        ),
        _ => (
            format!("the broker's certificate `{subject}` is not valid for this client: {words}"),
            "Correct that on the broker, or what this client trusts (`ssl.ca.location`)".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_broker_is_found_in_librdkafkas_words() {
        for (reason, broker) in [
            ("ssl://a.b:9093/bootstrap: SSL handshake failed", Some(("a.b", 9093))),
            ("sasl_ssl://[::1]:9094/1: SSL handshake failed", Some(("::1", 9094))),
            ("a:9093/bootstrap: Disconnected", None),
            ("ssl://nothing", None),
        ] {
            assert_eq!(broker_in(reason), broker, "{reason}");
        }
    }
}
