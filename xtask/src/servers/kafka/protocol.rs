//! Requests of Kafka's protocol, by hand: what its own tools do takes a Java of seconds.

use std::io::{Read, Write};

use crate::net;

/// A request of one of the versions whose header has no tagged fields.
pub(super) struct Request(Vec<u8>);

const CORRELATION: i32 = 1;

impl Request {
    pub(super) fn new(key: i16, version: i16) -> Self {
        let request = Self(Vec::new()).int16(key).int16(version).int32(CORRELATION);
        // No client id.
        request.int16(-1)
    }

    pub(super) fn int8(mut self, value: i8) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn int16(mut self, value: i16) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn int32(mut self, value: i32) -> Self {
        self.0.extend(value.to_be_bytes());
        self
    }

    pub(super) fn string(self, value: &str) -> Self {
        let length = i16::try_from(value.len()).unwrap_or(i16::MAX);
        let mut request = self.int16(length);
        request.0.extend(value.as_bytes());
        request
    }

    /// Sends it over a connection of its own, and returns the answer without its header.
    pub(super) fn send(self, port: u16) -> std::io::Result<Vec<u8>> {
        let mut stream = net::connect(port)?;
        let length = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        stream.write_all(&[&length.to_be_bytes(), self.0.as_slice()].concat())?;
        let mut length = [0; 4];
        stream.read_exact(&mut length)?;
        let mut answer = Vec::new();
        stream.take(u32::from_be_bytes(length).into()).read_to_end(&mut answer)?;
        // The correlation.
        Ok(answer.split_off(answer.len().min(4)))
    }
}

/// The number of four bytes at a place of an answer.
pub(super) fn int32(answer: &[u8], at: usize) -> i32 {
    let bytes = answer.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    bytes.map_or(0, i32::from_be_bytes)
}

/// Asks for metadata without topics. Returns whether it lists a broker. A broker that is starting
/// is not listed until its controller lets it lead partitions.
pub(super) fn has_live_broker(port: u16) -> std::io::Result<bool> {
    const METADATA: i16 = 3;
    const VERSION: i16 = 4;

    // No topics, and none to create.
    let answer = Request::new(METADATA, VERSION).int32(0).int8(0).send(port)?;
    // After the throttle time, the number of brokers.
    Ok(int32(&answer, 4) > 0)
}
