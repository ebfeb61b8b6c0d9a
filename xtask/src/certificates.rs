//! Certificates for servers with TLS and for their clients, of an authority that is made with them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::Error;
use crate::paths::create_dir_all;

/// A new authority, and what it has signed. All files are PEM, in one directory.
pub struct Certificates {
    dir: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its private key, as files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// The key, in PKCS#8.
    pub key: PathBuf,
}

/// When a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Validity {
    Now,
    /// Until 2021.
    Over,
}

/// Of the servers, and the only one for which their certificates are valid.
const HOST: &str = "127.0.0.1";

impl Certificates {
    /// Makes an authority in `dir`, unless one is there, another one that has signed nothing, and
    /// certificates for servers on 127.0.0.1.
    pub(crate) fn make(dir: &Path) -> Result<Self, Error> {
        create_dir_all(dir)?;
        let key = authority_key(&dir.join("authority.key"))?;
        let (certificate, issuer) = authority("outbox test authority", key)?;
        let made = Self { dir: dir.to_owned(), issuer };
        write(&made.authority(), &certificate)?;
        let key = KeyPair::generate().map_err(unmade)?;
        write(&made.other_authority(), &authority("another authority", key)?.0)?;
        let usage = ExtendedKeyUsagePurpose::ServerAuth;
        for (name, validity) in [("server", Validity::Now), ("expired-server", Validity::Over)] {
            let Identity { certificate, key } =
                made.sign(name, Some(HOST), usage.clone(), validity)?;
            // Java reads both from one file.
            let both = read(&key)? + &read(&certificate)?;
            write(&made.dir.join(format!("{name}.store.pem")), &both)?;
        }
        Ok(made)
    }

    /// The certificate of the authority that has signed all others.
    pub fn authority(&self) -> PathBuf {
        Self::authority_in(&self.dir)
    }

    /// The same, of those that were made in `dir`.
    pub(crate) fn authority_in(dir: &Path) -> PathBuf {
        dir.join("authority.pem")
    }

    /// The certificate of an authority that has signed none of them.
    pub fn other_authority(&self) -> PathBuf {
        self.dir.join("other-authority.pem")
    }

    /// A new certificate for a client. Its subject is `CN=<name>`.
    ///
    /// # Errors
    ///
    /// The files cannot be written.
    pub fn client(&self, name: &str) -> Result<Identity, Error> {
        self.sign(name, None, ExtendedKeyUsagePurpose::ClientAuth, Validity::Now)
    }

    /// The same, which expired in 2021.
    ///
    /// # Errors
    ///
    /// As [`client`](Self::client).
    pub fn expired_client(&self, name: &str) -> Result<Identity, Error> {
        self.sign(name, None, ExtendedKeyUsagePurpose::ClientAuth, Validity::Over)
    }

    pub(crate) fn server(&self) -> Identity {
        self.identity("server")
    }

    /// A file with the key and the certificate of the server.
    pub(crate) fn server_store(&self) -> PathBuf {
        self.dir.join("server.store.pem")
    }

    pub(crate) fn expired_server_store(&self) -> PathBuf {
        self.dir.join("expired-server.store.pem")
    }

    fn identity(&self, name: &str) -> Identity {
        let file = |ending| self.dir.join(format!("{name}.{ending}"));
        Identity { certificate: file("pem"), key: file("key") }
    }

    fn sign(
        &self,
        name: &str,
        host: Option<&str>,
        usage: ExtendedKeyUsagePurpose,
        validity: Validity,
    ) -> Result<Identity, Error> {
        let hosts: Vec<String> = host.into_iter().map(str::to_owned).collect();
        let mut params = CertificateParams::new(hosts).map_err(unmade)?;
        params.distinguished_name = Default::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![usage];
        if validity == Validity::Over {
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2021, 1, 1);
        }
        let key = KeyPair::generate().map_err(unmade)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(unmade)?;
        let identity = self.identity(name);
        write(&identity.certificate, &certificate.pem())?;
        write_key(&identity.key, &key)?;
        Ok(identity)
    }
}

/// The key that an authority in this place had, or a new one. With its key and its name, a new
/// authority is the same one to whoever trusts it: clients outlive a restart of their server.
fn authority_key(path: &Path) -> Result<KeyPair, Error> {
    if path.exists() {
        return KeyPair::from_pem(&read(path)?).map_err(unmade);
    }
    let key = KeyPair::generate().map_err(unmade)?;
    write_key(path, &key)?;
    Ok(key)
}

fn authority(name: &str, key: KeyPair) -> Result<(String, Issuer<'static, KeyPair>), Error> {
    let mut params = CertificateParams::new(Vec::new()).map_err(unmade)?;
    params.distinguished_name = Default::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(unmade)?;
    Ok((certificate.pem(), Issuer::new(params, key)))
}

fn unmade(error: rcgen::Error) -> Error {
    Error::new(format!("cannot make a certificate: {error}"))
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    fs::write(path, text)
        .map_err(|error| Error::io(format_args!("write {}", path.display()), error))
}

/// Postgres reads no key that others may read.
fn write_key(path: &Path, key: &KeyPair) -> Result<(), Error> {
    write(path, &key.serialize_pem())?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(|error| Error::io(format_args!("close {}", path.display()), error))
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path)
        .map_err(|error| Error::io(format_args!("read {}", path.display()), error))
}
