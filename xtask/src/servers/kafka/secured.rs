//! Listeners with TLS and SASL, and rights for those who come over them.

use std::fmt;
use std::path::{Path, PathBuf};

use super::node::Listener;
use crate::certificates::Certificates;
use crate::{Error, net};

/// The secured listeners of a [`Kafka`](super::Kafka).
///
/// Who comes over its plain listener may do everything; `User:admin` and `User:CN=admin` may, too.
/// Others have the rights that [`Kafka::allow`](super::Kafka::allow) grants.
pub struct Secured {
    certificates: Certificates,
    tls: u16,
    sasl: u16,
    expired: u16,
}

/// Arguments of Kafka's tool that formats its data directory.
pub(super) const USERS_AT_FORMAT: [&str; 4] = [
    "--add-scram",
    "SCRAM-SHA-256=[name=admin,password=admin-secret]",
    "--add-scram",
    "SCRAM-SHA-512=[name=admin,password=admin-secret]",
];

impl Secured {
    /// A user who may do everything.
    pub(crate) const USER: &str = "admin";
    /// The user's password, by PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512.
    pub(crate) const PASSWORD: &str = "admin-secret";

    /// The certificate of the authority of a server with its files in `dir`.
    pub(crate) fn authority(dir: &Path) -> PathBuf {
        Certificates::authority_in(&certificates_dir(dir))
    }

    pub(super) fn make(dir: &Path, sasl: Option<u16>) -> Result<Self, Error> {
        let certificates = Certificates::make(&certificates_dir(dir))?;
        let [tls, free, expired] = net::free_ports()?;
        Ok(Self { certificates, tls, sasl: sasl.unwrap_or(free), expired })
    }

    /// The authority that has signed the server's certificate, and signs those of clients.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// The listener with TLS, which takes only clients with a certificate (mTLS). A client is
    /// `User:CN=…`.
    pub fn tls(&self) -> String {
        address(self.tls)
    }

    /// The listener with TLS and SASL: PLAIN and SCRAM for the user `admin`, and OAUTHBEARER with
    /// any unsigned token.
    pub fn sasl(&self) -> String {
        address(self.sasl)
    }

    /// A listener with TLS whose certificate expired in 2021.
    pub fn expired(&self) -> String {
        address(self.expired)
    }

    /// The password of the user `admin`.
    pub fn password(&self) -> &'static str {
        Self::PASSWORD
    }

    /// Its listeners beside the plain one.
    pub(super) fn listeners(&self) -> [Listener; 3] {
        [
            Listener::new("TLS", "SSL", self.tls),
            Listener::new("SASL", "SASL_SSL", self.sasl),
            Listener::new("EXPIRED", "SSL", self.expired),
        ]
    }

    /// The lines of the property file, beside the listeners.
    pub(super) fn properties(&self) -> String {
        let certificates = &self.certificates;
        let [store, expired_store, authority] = [
            certificates.server_store(),
            certificates.expired_server_store(),
            certificates.authority(),
        ]
        .map(|path| path.display().to_string());
        let sasl = "listener.name.sasl";
        let module = "org.apache.kafka.common.security";
        let password = Self::PASSWORD;
        format!(
            "\
ssl.keystore.type=PEM
ssl.keystore.location={store}
ssl.truststore.type=PEM
ssl.truststore.location={authority}
listener.name.tls.ssl.client.auth=required
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location={expired_store}
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,SCRAM-SHA-512,OAUTHBEARER
{sasl}.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_admin=\"{password}\";
{sasl}.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;
{sasl}.scram-sha-512.sasl.jaas.config={module}.scram.ScramLoginModule required;
{sasl}.oauthbearer.sasl.jaas.config={module}.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:admin;User:CN=admin
"
        )
    }
}

fn certificates_dir(dir: &Path) -> PathBuf {
    dir.join("tls")
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Secured").finish_non_exhaustive()
    }
}
