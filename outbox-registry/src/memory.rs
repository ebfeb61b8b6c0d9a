//! A registry in the process, for tests.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::backend::Registered;
use crate::schema::Schema;

/// It takes each schema that it is asked for.
#[derive(Default)]
pub(crate) struct Memory(Mutex<BTreeMap<String, Vec<Registered>>>);

impl Memory {
    fn subjects(&self) -> MutexGuard<'_, BTreeMap<String, Vec<Registered>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn lookup(&self, subject: &str, schema: &Schema) -> Registered {
        let format = schema.format.as_str();
        let registered = Registered {
            id: id_of(format, &schema.text),
            format: Some(format.to_owned()),
            text: schema.text.clone(),
            references: schema.references.clone(),
        };
        let mut subjects = self.subjects();
        let versions = subjects.entry(subject.to_owned()).or_default();
        if !versions.contains(&registered) {
            versions.push(registered.clone());
        }
        registered
    }

    pub(crate) fn versions(&self, subject: &str) -> Vec<i32> {
        let len = self.subjects().get(subject).map_or(0, Vec::len);
        (1..=i32::try_from(len).unwrap_or(i32::MAX)).collect()
    }

    pub(crate) fn version(&self, subject: &str, version: i32) -> Option<Registered> {
        let index = usize::try_from(version).ok()?.checked_sub(1)?;
        self.subjects().get(subject)?.get(index).cloned()
    }

    pub(crate) fn by_id(&self, id: i32) -> Option<Registered> {
        self.subjects().values().flatten().find(|registered| registered.id == id).cloned()
    }
}

/// FNV-1a, without its sign. The tests of a program are one process and each may have a registry of
/// its own, but a type has one id in a process: so a schema has the same in all of them.
fn id_of(format: &str, text: &str) -> i32 {
    let hash = format
        .bytes()
        .chain(text.bytes())
        .fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    i32::try_from(hash >> 1).unwrap_or_default()
}
