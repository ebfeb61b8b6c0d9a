//! What of an event must stay as it is.

use std::fmt;
use std::str::FromStr;

/// Who must be able to read whose events, without a new version.
///
/// Consumers of an outbox read history: a new group begins at the first event of its topics, and a
/// replay publishes what was emitted under every state of the code. And for as long as a deployment
/// takes, consumers read events that are newer than they are. So the default is
/// [`FullTransitive`](Self::FullTransitive), and each other mode is a promise less.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Mode {
    /// A consumer with the new type reads what was emitted with the one directly before it. Consumers
    /// are deployed before the services that emit.
    Backward,
    /// As [`Backward`](Self::Backward), with every type of the version that there ever was.
    BackwardTransitive,
    /// A consumer with the type directly before reads what is emitted with the new one. The services
    /// that emit are deployed first.
    Forward,
    /// As [`Forward`](Self::Forward), for a consumer with any type of the version that there ever was.
    ForwardTransitive,
    /// [`Backward`](Self::Backward) and [`Forward`](Self::Forward): deployed in any order.
    Full,
    /// [`BackwardTransitive`](Self::BackwardTransitive) and
    /// [`ForwardTransitive`](Self::ForwardTransitive): any consumer reads any event of the version.
    #[default]
    FullTransitive,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Backward,
        Self::BackwardTransitive,
        Self::Forward,
        Self::ForwardTransitive,
        Self::Full,
        Self::FullTransitive,
    ];

    /// Its name, such as `full-transitive`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backward => "backward",
            Self::BackwardTransitive => "backward-transitive",
            Self::Forward => "forward",
            Self::ForwardTransitive => "forward-transitive",
            Self::Full => "full",
            Self::FullTransitive => "full-transitive",
        }
    }

    /// Whether consumers with the new type must read earlier events.
    #[must_use]
    pub const fn new_readers_read_old_events(self) -> bool {
        !matches!(self, Self::Forward | Self::ForwardTransitive)
    }

    /// Whether consumers with an earlier type must read new events.
    #[must_use]
    pub const fn old_readers_read_new_events(self) -> bool {
        !matches!(self, Self::Backward | Self::BackwardTransitive)
    }

    /// Whether each state that there ever was counts, or only the one before.
    #[must_use]
    pub const fn is_transitive(self) -> bool {
        matches!(self, Self::BackwardTransitive | Self::ForwardTransitive | Self::FullTransitive)
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Mode {
    type Err = UnknownMode;

    fn from_str(text: &str) -> Result<Self, UnknownMode> {
        let known = Self::ALL.into_iter().find(|mode| mode.name() == text);
        known.ok_or_else(|| UnknownMode(text.to_owned()))
    }
}

/// A text that is the name of no [`Mode`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnknownMode(String);

impl fmt::Display for UnknownMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = Mode::ALL.map(Mode::name).join(", ");
        write!(f, "there is no mode `{}`: it is one of {known}", self.0)
    }
}

impl std::error::Error for UnknownMode {}
