//! The record of progress: the last one of each wave.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::{ErrorKind, OutboxError};
use crate::record::Lane;
use crate::store::groups::Wave;

/// Of the form below. One of another form was written by another version.
const VERSION: u8 = 1;

/// Up to where a group is published, and on what that rests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ProgressRecord {
    /// The claim under which it was written, and the wave that it ends.
    pub(super) wave: Wave,
    /// The highest transaction id that was seen since the claim.
    pub(super) need: u64,
    /// The cursor of each lane, as text.
    pub(super) lanes: BTreeMap<Lane, String>,
    /// Numbers of parked events that are published, and perhaps not deleted.
    pub(super) settled: Vec<i64>,
}

#[derive(Serialize, Deserialize)]
struct Json {
    version: u8,
    claim: String,
    wave: i64,
    need: u64,
    lanes: BTreeMap<i16, String>,
    settled: Vec<i64>,
}

impl ProgressRecord {
    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, OutboxError> {
        let json = Json {
            version: VERSION,
            claim: self.wave.claim.to_string(),
            wave: self.wave.number,
            need: self.need,
            lanes: self.lanes.iter().map(|(lane, at)| (lane.number(), at.clone())).collect(),
            settled: self.settled.clone(),
        };
        serde_json::to_vec(&json).map_err(|error| {
            OutboxError::new(ErrorKind::Kafka, "progress has no JSON").with_source(error)
        })
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, OutboxError> {
        let json: Json =
            serde_json::from_slice(bytes).map_err(|error| unreadable(error.to_string()))?;
        if json.version != VERSION {
            return Err(unreadable(format!("it has the version {}, not {VERSION}", json.version)));
        }
        let claim: Uuid =
            json.claim.parse().map_err(|_| unreadable("its claim is no UUID".into()))?;
        let lane = |(number, at)| {
            let lane =
                Lane::new(number).ok_or_else(|| unreadable(format!("there is no lane {number}")));
            Ok::<_, OutboxError>((lane?, at))
        };
        Ok(Self {
            wave: Wave { claim, number: json.wave },
            need: json.need,
            lanes: json.lanes.into_iter().map(lane).collect::<Result<_, _>>()?,
            settled: json.settled,
        })
    }
}

fn unreadable(why: String) -> OutboxError {
    OutboxError::config(format!(
        "the last record of the progress topic cannot be read: {why}. The relay did not start: all events are in the outbox. \
         Was it written by a later version, or by another program? Run the version that wrote it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_read_as_it_was_written_and_anything_else_is_refused() {
        let lane = |number| Lane::new(number).unwrap();
        let record = ProgressRecord {
            wave: Wave { claim: Uuid::from_u128(7), number: 3 },
            need: u64::MAX,
            lanes: [(lane(0), "3:3:/0/3;;0".to_owned()), (lane(15), "a".to_owned())].into(),
            settled: vec![1, -1],
        };
        let bytes = record.to_bytes().unwrap();
        assert_eq!(ProgressRecord::from_bytes(&bytes).unwrap(), record);
        let text = String::from_utf8(bytes).unwrap();
        for (from, to) in
            [("\"version\":1", "\"version\":2"), ("\"15\":", "\"16\":"), ("00000000-", "-")]
        {
            let other = text.replacen(from, to, 1);
            assert_ne!(other, text);
            let error = ProgressRecord::from_bytes(other.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("progress topic"), "{error}");
        }
        ProgressRecord::from_bytes(b"").unwrap_err();
    }
}
