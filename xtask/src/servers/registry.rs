//! A schema registry: Apicurio's, which has the API of Confluent's too. That one is not on Maven
//! Central.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::wait_until_ready;
use crate::fetch::{Artifact, Goal, dist};
use crate::paths::create_dir_all;
use crate::process::Daemon;
use crate::tools::Tool;
use crate::{Certificates, Error, net};

/// The last whose deserializers have the framing of Confluent's clients as an option.
pub(crate) const APICURIO: &str = "2.6.13.Final";

const ANSWERS_WITHIN: Duration = Duration::from_secs(10);

/// A running schema registry, with its schemas in memory. Dropped, it is killed.
pub struct SchemaRegistry {
    port: u16,
    secure_port: u16,
    certificates: Certificates,
    _daemon: Daemon,
}

impl SchemaRegistry {
    /// Starts one, with its log in `dir/registry.log`, and waits until it answers.
    ///
    /// The first start fetches it: 142 MB.
    ///
    /// # Errors
    ///
    /// Java is missing, the download fails, or it does not start; the message has the end of its log.
    pub fn start(dir: &Path) -> Result<Self, Error> {
        let program = fetch()?;
        create_dir_all(dir)?;
        let [port, secure_port] = net::free_ports()?;
        let certificates = Certificates::make(&dir.join("tls"))?;
        let identity = certificates.server();
        let mut java = Tool::Java.command()?;
        java.args(["-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xmx256m", "-jar"]);
        java.arg(program.join(format!("apicurio-registry-app-{APICURIO}-runner.jar")));
        java.env("QUARKUS_HTTP_HOST", "127.0.0.1").env("QUARKUS_HTTP_PORT", port.to_string());
        java.env("QUARKUS_HTTP_SSL_PORT", secure_port.to_string());
        java.env("QUARKUS_HTTP_SSL_CERTIFICATE_FILES", identity.certificate);
        java.env("QUARKUS_HTTP_SSL_CERTIFICATE_KEY_FILES", identity.key);
        let log = dir.join("registry.log");
        let mut daemon = Daemon::spawn(java, &log, "KILL")?;
        let answers = || {
            let answer = net::ask(port, ANSWERS_WITHIN, "GET /apis/ccompat/v7/subjects", "");
            answer.is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
        };
        wait_until_ready(&mut daemon, answers).map_err(|reason| {
            Error::server(format_args!("the schema registry on port {port} {reason}"), &log)
        })?;
        Ok(Self { port, secure_port, certificates, _daemon: daemon })
    }

    /// Where its API is that is Confluent's.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/ccompat/v7", self.port)
    }

    /// The same with TLS.
    pub fn secure_url(&self) -> String {
        format!("https://127.0.0.1:{}/apis/ccompat/v7", self.secure_port)
    }

    /// Who has signed its certificate, and another authority, which has not.
    pub fn certificates(&self) -> &Certificates {
        &self.certificates
    }

    /// Where its own API is.
    pub fn own_url(&self) -> String {
        format!("http://127.0.0.1:{}/apis/registry/v2", self.port)
    }

    /// Sets what new versions of a subject have to be compatible with, such as `BACKWARD_TRANSITIVE`.
    ///
    /// # Errors
    ///
    /// It does not answer, or refuses: a subject without a version has no such setting.
    pub fn set_compatibility(&self, subject: &str, mode: &str) -> Result<(), Error> {
        let request = format!("PUT /apis/ccompat/v7/config/{subject}");
        let body = format!("{{\"compatibility\":\"{mode}\"}}");
        match net::ask(self.port, ANSWERS_WITHIN, &request, &body) {
            Ok(answer) if answer.starts_with("HTTP/1.1 200") => Ok(()),
            Ok(answer) => {
                Err(Error::new(format!("the schema registry refuses {request}: {answer}")))
            }
            Err(error) => Err(Error::io("ask the schema registry", error)),
        }
    }
}

impl fmt::Debug for SchemaRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "schema registry at {}", self.url())
    }
}

pub(crate) fn fetch() -> Result<PathBuf, Error> {
    let app = Artifact { group: "io.apicurio", name: "apicurio-registry-app", version: APICURIO };
    dist(&format!("apicurio-{APICURIO}"), &[app], Goal::UnpackProgram, |unpacked| {
        Ok(unpacked.to_owned())
    })
}
