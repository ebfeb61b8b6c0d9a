//! A value of a setting, and where it is from.

use std::fmt;
use std::path::PathBuf;

use crate::args::Secret;

/// Where a value is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    Option,
    /// A variable, by its name.
    Variable(String),
    File(PathBuf),
    Default,
}

/// A value, and where it is from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    pub value: T,
    pub source: Source,
}

/// Where the database is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Database {
    Url(Secret),
    /// As the variables of libpq say.
    Libpq,
}

pub fn by_default<T>(value: T) -> Setting<T> {
    Setting { value, source: Source::Default }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Option => f.write_str("option"),
            Self::Variable(name) => write!(f, "variable {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

/// Without passwords.
impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Libpq => f.write_str("as the variables of libpq say"),
            Self::Url(Secret(url)) => f.write_str(&masked(url)),
        }
    }
}

/// A URL without its password, wherever that is.
fn masked(url: &str) -> String {
    let (base, query) =
        url.split_once('?').map_or((url, None), |(base, query)| (base, Some(query)));
    let mut shown = match base.split_once("://") {
        None => base.to_owned(),
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            None => base.to_owned(),
            Some((user, host)) => {
                let user =
                    user.split_once(':').map_or(user.to_owned(), |(user, _)| format!("{user}:…"));
                format!("{scheme}://{user}@{host}")
            }
        },
    };
    for (i, pair) in query.into_iter().flat_map(|query| query.split('&')).enumerate() {
        shown.push(if i == 0 { '?' } else { '&' });
        match pair.split_once('=') {
            Some((name, _)) if name.contains("password") => {
                shown.push_str(name);
                shown.push_str("=…");
            }
            _ => shown.push_str(pair),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown_wherever_a_url_has_it() {
        for (url, shown) in [
            ("postgres://me:a@b:c@db/orders", "postgres://me:…@db/orders"),
            (
                "postgres://db/orders?sslmode=require&password=a",
                "postgres://db/orders?sslmode=require&password=…",
            ),
            ("postgres://me@db/orders", "postgres://me@db/orders"),
            ("sqlite:orders.db", "sqlite:orders.db"),
        ] {
            assert_eq!(masked(url), shown);
        }
    }
}
