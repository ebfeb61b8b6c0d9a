//! The runtime of the crate [`outbox`](https://docs.rs/outbox): depend on that one, whose
//! documentation is the manual.

#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
// Whatever a user, a database or a broker does, it is an error, not a panic.
#![cfg_attr(not(test), deny(clippy::unwrap_used, clippy::expect_used, clippy::panic))]
// Without a database there is nothing that uses most of it.
#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite", feature = "mysql")),
    allow(dead_code, unused_imports, unused_macros)
)]

mod backoff;
mod check;
pub mod consume;
mod doorbell;
mod durations;
mod error;
mod failpoint;
mod hashes;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod observe;
mod outbox;
pub mod publish;

mod record;
mod relay;

mod store;
pub mod testing;

pub mod trace;
mod transactional;
mod tx;
mod user_code;

#[doc(no_inline)]
pub use outbox_event::{
    Codec, CodecError, Decode, DomainEvent, Encode, EventDescriptor, EventId, EventKey, EventKind,
    EventTime, HeaderValue, Headers, Json, Variant, event_key,
};

pub use error::{ErrorKind, OutboxError, is_conflict};
#[cfg(feature = "postgres")]
pub use outbox::HandOff;
pub use outbox::{
    DEFAULT_MAX_EVENT_BYTES, EventTail, Outbox, OutboxBuilder, OutboxGauges, TailLook,
};
pub use record::{EventRecord, LANES, Lane, StoredEvent};
pub use relay::{ExactlyOnce, ExactlyOnceRelay, MemoryBudget, Relay, RelayBuilder};
pub use store::admin::{DiscardedEvent, ParkedEvent, Replay, ReplayPlan};
pub use store::diagnosis::{Connections, Diagnosis, LackingRight, OpenTransaction, Unfit};
pub use store::events::{
    EventCopy, EventFilter, EventState, FoundEvent, GroupEvent, GroupState, ListedEvent,
};
pub use store::inbox::{InboxStats, WaitingKeys};
pub use store::migrate::{AppliedMigration, Direction, Migrate, MigrationStatus, MigrationStep};
pub use store::parked_filter::{ParkedFilter, ParkedGroup, ParkedGrouping};
pub use store::relays::RelayStatus;
pub use store::status::{DeliveryStatus, GroupStatus, LaneStatus, Status};
pub use store::tail::TailedEvent;
pub use store::{OutboxDatabase, Pause, PauseScope};
pub use transactional::{Outcome, RetryArgument};
pub use tx::{BeginOutbox, BeginTransaction, Isolation, Lend, OutboxTx, TxOptions};

/// What expansions of the macros name beside the events' own: `outbox_event::__private`. Not for
/// you: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::consume::class::{ByClassify, ByDefault, Classified};
    pub use crate::consume::{
        Classify, ErrorClass, EventContext, EventHandler, ForeignId, FunctionHandler,
        HandlerOptions, HandlerResult, HandlerTypes, LaterEvents,
    };
    pub use crate::transactional::{Attempts, Outcome, RetryArgument, body, finish};
    pub use crate::tx::{BeginOutbox, BeginTransaction, Isolation, Lend, OutboxTx, TxOptions};
}
