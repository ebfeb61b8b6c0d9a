//! What is wrong when TLS with a database fails: sqlx and rustls say it in words only.

use std::io;

/// The meaning of an error of sqlx, and what to do; `None` if it is not about TLS.
pub(crate) fn trouble(error: &sqlx::Error) -> Option<&'static str> {
    match error {
        sqlx::Error::Tls(error) => Some(of_sqlx(&error.to_string())),
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            of_rustls(&error.to_string().to_ascii_lowercase())
        }
        // No socket of TCP gives this one.
        sqlx::Error::Io(error) if error.kind() == io::ErrorKind::NotFound => Some(
            "a file is missing that the connection needs: one of those that `sslrootcert`, `sslcert` and `sslkey` of the URL \
             (PGSSLROOTCERT, PGSSLCERT, PGSSLKEY) name, or the server's socket. Nothing was written, and no event",
        ),
        _ => None,
    }
}

fn of_sqlx(words: &str) -> &'static str {
    if words.contains("built without TLS") {
        "the URL asks for TLS (`sslmode`), and this program is built without. Nothing was written, and no event: turn on the \
         feature `tls` of the crate `outbox` in its Cargo.toml"
    } else if words.contains("does not support TLS") {
        "the URL asks for TLS (`sslmode`), and the database server offers none. Nothing was written, and no event: set `ssl = on` \
         at the server, with a certificate"
    } else {
        "TLS with the database could not begin. Nothing was written, and no event: correct `sslrootcert`, `sslcert` and `sslkey` of \
         the URL, which are files in PEM"
    }
}

fn of_rustls(words: &str) -> Option<&'static str> {
    let says = |any: &[&str]| any.iter().any(|word| words.contains(word));
    if says(&["fatal alert"]) {
        return Some(
            "the database server refuses the TLS of this client, or its certificate. Nothing was written, and no event: set \
             `sslcert` and `sslkey` of the URL to a certificate that is valid now and of an authority that the server trusts \
             (`ssl_ca_file`)",
        );
    }
    if !says(&["certificate"]) {
        return None;
    }
    Some(if says(&["expired"]) {
        "the certificate of the database server has expired. Nothing was written, and no event: renew it at the server, and this \
         program continues without help"
    } else if says(&["not valid yet", "notvalidyet"]) {
        "the certificate of the database server is not valid yet. Nothing was written, and no event: set the clock of this \
         machine, or wait"
    } else if says(&["valid for name", "validforname"]) {
        "the certificate of the database server is for another host. Nothing was written, and no event: connect to a name that is \
         in it, or have it issued for this one. `sslmode=verify-ca` does not check the name"
    } else {
        "the certificate of the database server is signed by an authority that this program does not trust. Nothing was written, \
         and no event: name the authority's certificate with `sslrootcert=FILE` in the URL (or PGSSLROOTCERT)"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn io(kind: io::ErrorKind, words: &str) -> sqlx::Error {
        sqlx::Error::Io(io::Error::new(kind, words.to_owned()))
    }

    // In the words of rustls and sqlx; those of these versions are met in `tests/it/secured.rs`.
    #[test]
    fn what_is_wrong_with_tls_is_told_with_its_remedy() {
        use io::ErrorKind::{ConnectionRefused, InvalidData, NotFound};
        for (error, remedy) in [
            (io(InvalidData, "invalid peer certificate: UnknownIssuer"), "`sslrootcert=FILE`"),
            (io(InvalidData, "invalid peer certificate: certificate expired: …"), "renew it"),
            (io(InvalidData, "invalid peer certificate: NotValidYet"), "clock"),
            (io(InvalidData, "certificate not valid for name \"a\"; …"), "a name that is in it"),
            (io(InvalidData, "received fatal alert: UnknownCA"), "`sslkey`"),
            (io(NotFound, "No such file or directory"), "`sslrootcert`"),
            (sqlx::Error::Tls("server does not support TLS".into()), "`ssl = on`"),
            (sqlx::Error::Tls("SQLx was built without TLS support enabled".into()), "`tls`"),
        ] {
            let trouble = trouble(&error).unwrap();
            assert!(trouble.contains(remedy) && trouble.contains("no event"), "{error}: {trouble}");
        }
        for error in
            [io(ConnectionRefused, "refused"), io(InvalidData, "x"), sqlx::Error::PoolTimedOut]
        {
            assert_eq!(trouble(&error), None, "{error}");
        }
    }
}
