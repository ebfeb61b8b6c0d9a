//! What an event is to the crate [`outbox`](https://docs.rs/outbox): depend on that one, whose
//! documentation is the manual.
//!
//! A crate of nothing but events needs no more than this, so nothing here names a database, a
//! broker or an async runtime.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Whatever a user does, it is an error, not a panic.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]

mod codec;
mod content_type;
mod event;
mod handled;
mod header;
mod inner;
mod json;
mod key;
mod topic;
mod variant;

pub use codec::{Codec, CodecError, Decode, Encode, Variant};
pub use event::{DomainEvent, EventDescriptor, EventId, EventKind, EventTime};
pub use handled::HandlerEvent;
pub use header::{HeaderValue, Headers};
pub use json::Json;
pub use key::{EventKey, event_key};
pub use variant::{NotReadOnly, UpcastFrom};

/// What `#[derive(DomainEvent)]` expands to, and what the runtime shares with it. Not for you: it
/// changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use uuid::Uuid;

    pub use crate::content_type::WITH_SCHEMA_ID;
    pub use crate::inner::{
        DecodeInner, Inner, InnerEvent, Joined, Readable, Transparent, Unreachable, are_distinct,
        read_inner,
    };
    pub use crate::topic::problem as topic_problem;
    pub use crate::variant::{decode_own, decode_variant, is_next_version, read_own, upcast};
    pub use crate::{
        Codec, CodecError, Decode, DomainEvent, Encode, EventDescriptor, EventId, EventKey,
        EventKind, EventTime, HeaderValue, Headers, Json, NotReadOnly, UpcastFrom, Variant,
        event_key,
    };
}
