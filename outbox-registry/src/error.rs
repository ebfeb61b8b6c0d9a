//! What went wrong with a registry.

use std::fmt;

/// A registry was not asked, did not answer, or does not have what a process needs of it.
///
/// The text says what that means for events, and what to do. It has no credentials in it.
#[derive(Debug)]
pub struct RegistryError {
    kind: RegistryErrorKind,
    text: String,
}

/// What a [`RegistryError`] is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegistryErrorKind {
    /// A setting is not what it should be.
    Config,
    /// No registry answers in time, or none can. Another try may help.
    Unreachable,
    /// The registry refuses the credentials, or what they may do.
    Denied,
    /// The registry does not have the schema, or its subject.
    NotRegistered,
    /// The registry refuses a new version, since readers of the older ones could not read it.
    Incompatible,
    /// The schema of the event, or that of the registry, is not one that can be used.
    Schema,
    /// The registry answers otherwise than the API of schema registries says.
    Answer,
}

impl RegistryError {
    pub(crate) fn new(kind: RegistryErrorKind, text: impl Into<String>) -> Self {
        Self { kind, text: text.into() }
    }

    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> RegistryErrorKind {
        self.kind
    }

    /// The same, with what it is about before it.
    #[must_use]
    pub fn about(self, what: impl fmt::Display) -> Self {
        Self { text: format!("{what}: {}", self.text), ..self }
    }
}

impl fmt::Display for RegistryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for RegistryError {}
