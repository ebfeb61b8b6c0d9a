//! The file that has the wire identity of each event: `events.lock`.

mod accept;
mod error;
mod payload;
mod read;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

pub use error::LockError;
pub(crate) use read::{Source, Table, integer, table};

use crate::mode::Mode;
use crate::shape::Payload;

/// The version of the format that this version of outbox writes.
const FORMAT: i64 = 1;

/// The events of a project.
#[derive(Debug, Clone, Default)]
pub struct Lock {
    /// What may change of an event that says nothing itself.
    pub mode: Mode,
    /// By what consumers tell them apart.
    pub events: BTreeMap<EventName, Contract>,
    /// Where each is in the file that was read.
    lines: BTreeMap<EventName, Lines>,
}

/// What consumers tell an event from others by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventName {
    /// The Kafka topic.
    pub topic: String,
    /// The name on the wire: the CloudEvents `type`.
    pub name: String,
    /// The version of the payload's schema, from 1.
    pub version: u32,
}

impl EventName {
    /// The event of this name and version on this topic.
    pub fn new(topic: impl Into<String>, name: impl Into<String>, version: u32) -> Self {
        Self { topic: topic.into(), name: name.into(), version }
    }
}

impl fmt::Display for EventName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` version {} of topic `{}`", self.name, self.version, self.topic)
    }
}

/// What consumers rely on of an event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Contract {
    /// The media type of the payload.
    pub content_type: String,
    /// The fields that make the key, in order; empty for a keyless event.
    pub key: Vec<String>,
    /// The names of the event's own headers.
    pub headers: BTreeSet<String>,
    /// What may change, if that is not the lock's.
    pub mode: Option<Mode>,
    /// The older versions that consumers with the type of this one read, by `upcast_from`.
    pub reads: BTreeSet<u32>,
    /// Whether nothing of it is left that could come again, so that it may be deleted.
    pub retired: bool,
    /// What is known of the payload. `None`: nothing.
    pub payload: Option<Payload>,
}

/// The lines of an event's keys, such as `fields.customer`; the event's own by the empty key.
type Lines = BTreeMap<String, usize>;

/// What is in the lock; the places in a file are not.
impl PartialEq for Lock {
    fn eq(&self, other: &Self) -> bool {
        (self.mode, &self.events) == (other.mode, &other.events)
    }
}

impl Lock {
    /// Most bytes of its file: some thousand events.
    pub const MOST_BYTES: u64 = 16 << 20;

    /// The text of its file. No more is read than a lock may have, whatever is at the path.
    ///
    /// # Errors
    /// `NotFound`: there is no such file. `FileTooLarge` or `InvalidData`: it is no lock.
    pub fn text_of(path: &Path) -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(Self::MOST_BYTES + 1).read_to_string(&mut text)?;
        if text.len() as u64 > Self::MOST_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok(text)
    }

    /// Reads a lock.
    ///
    /// # Errors
    /// If the text is none, with the line on which it is not.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        read::lock(text)
    }

    /// What may change of an event.
    #[must_use]
    pub fn mode_of(&self, event: &EventName) -> Mode {
        self.events.get(event).and_then(|contract| contract.mode).unwrap_or(self.mode)
    }

    /// The line of an event in the file that was read, or that of one of its keys, such as
    /// `fields.customer`, if it has one of its own.
    #[must_use]
    pub fn line(&self, event: &EventName, key: &str) -> Option<usize> {
        let lines = self.lines.get(event)?;
        lines.get(key).or_else(|| lines.get("")).copied()
    }
}

/// The text of the file.
impl fmt::Display for Lock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write::lock(self, f)
    }
}
