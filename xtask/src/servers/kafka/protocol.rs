//! Requests of Kafka's protocol, by hand: what its own tools do takes a Java of seconds.

use std::io::{self, Read, Write};

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
    pub(super) fn send(self, port: u16) -> io::Result<Vec<u8>> {
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

/// What is left to read of an answer.
pub(super) struct Answer(Vec<u8>);

impl Answer {
    pub(super) fn new(answer: Vec<u8>) -> Self {
        Self(answer)
    }

    pub(super) fn int8(&mut self) -> io::Result<i8> {
        self.take().map(i8::from_be_bytes)
    }

    pub(super) fn int16(&mut self) -> io::Result<i16> {
        self.take().map(i16::from_be_bytes)
    }

    pub(super) fn int32(&mut self) -> io::Result<i32> {
        self.take().map(i32::from_be_bytes)
    }

    /// A text; empty if there is none.
    pub(super) fn string(&mut self) -> io::Result<String> {
        let length = usize::try_from(self.int16()?).unwrap_or(0);
        if length > self.0.len() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let rest = self.0.split_off(length);
        let text = std::mem::replace(&mut self.0, rest);
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// A list of what `element` reads.
    pub(super) fn array<T>(
        &mut self,
        mut element: impl FnMut(&mut Self) -> io::Result<T>,
    ) -> io::Result<Vec<T>> {
        // The elements are asked for one by one: a number that is wrong ends at the answer's end.
        (0..self.int32()?).map(|_| element(self)).collect()
    }

    fn take<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let rest = self.0.split_off(self.0.len().min(N));
        let bytes = std::mem::replace(&mut self.0, rest);
        bytes.try_into().map_err(|_| io::ErrorKind::UnexpectedEof.into())
    }
}
