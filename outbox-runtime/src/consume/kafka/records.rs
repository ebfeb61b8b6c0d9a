//! Turns Kafka's records into [`Message`]s.

use rdkafka::Message as _;
use rdkafka::message::{BorrowedHeaders, BorrowedMessage, Headers as _};

use crate::consume::envelope::Opened;
use crate::consume::message::Message;
use crate::user_code::caught;

pub(super) fn owned(message: &BorrowedMessage<'_>) -> Message {
    Message { payload: message.payload().map(<[u8]>::to_vec), ..without_payload(message) }
}

pub(super) fn without_payload(message: &BorrowedMessage<'_>) -> Message {
    let (headers, unreadable_headers) = message.headers().map(owned_headers).unwrap_or_default();
    Message {
        topic: message.topic().to_owned(),
        partition: message.partition(),
        offset: message.offset(),
        timestamp: message.timestamp().to_millis(),
        key: message.key().map(<[u8]>::to_vec),
        headers,
        unreadable_headers,
        payload: None,
        kept: false,
        opened: Opened::default(),
    }
}

type OwnedHeader = (String, Option<Vec<u8>>);

/// All headers that can be read, and the number of the others. rdkafka panics on a header whose
/// name is not UTF-8.
fn owned_headers(headers: &BorrowedHeaders) -> (Vec<OwnedHeader>, usize) {
    let mut owned = Vec::with_capacity(headers.count());
    for i in 0..headers.count() {
        let header = caught(|| {
            let header = headers.get(i);
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        });
        owned.extend(header);
    }
    let unreadable = headers.count() - owned.len();
    (owned, unreadable)
}
