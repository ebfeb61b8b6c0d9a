//! The requests in what a Kafka client sends: each has its length, then its kind (the API key).

/// EndTxn, by which a producer asks the coordinator to commit or abort.
pub const END_TXN: i16 = 26;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passed {
    /// The kind of a request is known, which is not complete yet.
    Begin(i16),
    /// Its last byte has passed.
    End(i16),
}

/// A stream from its beginning, however it is cut into pieces.
#[derive(Default)]
pub struct Requests {
    /// The length and the kind, as far as they have come.
    header: Vec<u8>,
    kind: i16,
    /// Number of bytes until the request's end.
    left: usize,
}

impl Requests {
    /// What is passed with these bytes.
    pub fn read(&mut self, mut bytes: &[u8]) -> Vec<Passed> {
        const HEADER: usize = 6;

        let mut passed = Vec::new();
        while !bytes.is_empty() {
            if self.left == 0 {
                let missing = (HEADER - self.header.len()).min(bytes.len());
                self.header.extend_from_slice(&bytes[..missing]);
                bytes = &bytes[missing..];
                let [a, b, c, d, e, f] = self.header[..] else { break };
                self.header.clear();
                self.kind = i16::from_be_bytes([e, f]);
                // Of a shorter one, which no client of Kafka's sends, the end is that of the kind.
                self.left = (u32::from_be_bytes([a, b, c, d]) as usize).saturating_sub(2);
                passed.push(Passed::Begin(self.kind));
            }
            let rest = self.left.min(bytes.len());
            self.left -= rest;
            bytes = &bytes[rest..];
            if self.left == 0 {
                passed.push(Passed::End(self.kind));
            }
        }
        passed
    }
}
