//! Java: which one is recent enough, and what Debian's package does after it is unpacked.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Error;
use crate::process::run;

/// What Kafka 4 asks for.
const OLDEST: u32 = 17;
const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

pub(crate) fn is_recent(java: &Path) -> bool {
    let mut version = Command::new(java);
    version.arg("-XshowSettings:properties").arg("-version");
    let output = version.output();
    output.is_ok_and(|output| {
        major_version(&String::from_utf8_lossy(&output.stderr)).is_some_and(|major| major >= OLDEST)
    })
}

/// Of `java.specification.version = 17`; versions up to 8 are called 1.8.
fn major_version(settings: &str) -> Option<u32> {
    let line = settings
        .lines()
        .find_map(|line| line.trim().strip_prefix("java.specification.version = "))?;
    line.split('.').next()?.parse().ok()
}

/// The home of the Java in an unpacked system.
pub(crate) fn home(root: &Path) -> Option<PathBuf> {
    let installed =
        fs::read_dir(root.join("usr/lib/jvm")).ok()?.flatten().map(|entry| entry.path());
    let mut homes: Vec<PathBuf> =
        installed.filter(|home| home.join("bin/java").is_file()).collect();
    homes.sort();
    homes.pop()
}

/// Gives an unpacked Java the certificate authorities that this machine trusts. Debian's script,
/// which does this when the package is installed, writes to `/etc`.
pub(crate) fn trust(root: &Path) -> Result<(), Error> {
    let Some(home) = home(root) else { return Ok(()) };
    let store = home.join("lib/security/cacerts");
    if store.exists() {
        return Ok(());
    }
    if store.is_symlink() {
        fs::remove_file(&store).map_err(|error| Error::io("replace Java's trust store", error))?;
    }
    eprintln!("giving Java the certificate authorities of this machine, about a minute");
    for (n, certificate) in certificates(root).iter().enumerate() {
        let file = root.join("certificate.pem");
        fs::write(&file, certificate).map_err(|error| Error::io("write a certificate", error))?;
        let mut keytool = Command::new(home.join("bin/keytool"));
        keytool.args([
            "-importcert",
            "-noprompt",
            "-trustcacerts",
            "-storepass",
            "changeit",
            "-alias",
        ]);
        keytool.arg(n.to_string()).arg("-file").arg(&file).arg("-keystore").arg(&store);
        // A certificate that this Java cannot read is skipped.
        let _ = run(keytool, "import a certificate");
    }
    Ok(())
}

fn certificates(root: &Path) -> Vec<String> {
    let bundle = fs::read_to_string("/etc/ssl/certs/ca-certificates.crt").unwrap_or_else(|_| {
        let mozilla = fs::read_dir(root.join("usr/share/ca-certificates/mozilla"));
        let files = mozilla.into_iter().flatten().flatten();
        files.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect()
    });
    let bodies = bundle.split(PEM_BEGIN).skip(1).filter_map(|rest| rest.split(PEM_END).next());
    bodies.map(|body| format!("{PEM_BEGIN}{body}{PEM_END}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_java_says_of_itself() {
        let settings =
            |version| format!("Property settings:\n    java.specification.version = {version}\n");
        assert_eq!(major_version(&settings("17")), Some(17));
        assert_eq!(major_version(&settings("1.8")), Some(1));
        assert_eq!(major_version("openjdk version"), None);
    }
}
