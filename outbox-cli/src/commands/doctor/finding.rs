//! What the doctor finds: a verdict, what is so, and what to do.

use clap::ValueEnum;
use serde::Serialize;

use crate::output::Row;
use crate::text::{ABSENT, one_line};

/// What is examined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Area {
    /// The server, and what this user may do
    Db,
    /// The outbox's tables, its lanes and relays
    Schema,
    /// The brokers
    Kafka,
    /// The topics of events, and those for retries and dead letters
    Topics,
    /// The clocks of this host and the database
    Clock,
}

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Ok,
    /// Events arrive, but it may go wrong, or is slower than it could be.
    Warn,
    /// Events do not arrive, or may be lost.
    Fail,
}

/// One thing that was examined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub area: Area,
    pub check: &'static str,
    pub verdict: Verdict,
    /// What is so, and what it means.
    pub found: String,
    /// What to do. `None`: nothing.
    pub fix: Option<String>,
}

impl Finding {
    pub fn ok(area: Area, check: &'static str, found: impl Into<String>) -> Self {
        Self { area, check, verdict: Verdict::Ok, found: found.into(), fix: None }
    }

    pub fn warn(
        area: Area,
        check: &'static str,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Warn, fix: Some(fix.into()), ..Self::ok(area, check, found) }
    }

    pub fn fail(
        area: Area,
        check: &'static str,
        found: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { verdict: Verdict::Fail, ..Self::warn(area, check, found, fix) }
    }
}

impl Row for Finding {
    const COLUMNS: &'static [&'static str] = &["VERDICT", "AREA", "CHECK", "FOUND", "FIX"];

    fn cells(&self) -> Vec<String> {
        let verdict = match self.verdict {
            Verdict::Ok => "ok",
            Verdict::Warn => "WARN",
            Verdict::Fail => "FAIL",
        };
        let area = match self.area {
            Area::Db => "db",
            Area::Schema => "schema",
            Area::Kafka => "kafka",
            Area::Topics => "topics",
            Area::Clock => "clock",
        };
        vec![
            verdict.to_owned(),
            area.to_owned(),
            self.check.to_owned(),
            one_line(&self.found),
            self.fix.as_deref().map_or_else(|| ABSENT.to_owned(), one_line),
        ]
    }
}
