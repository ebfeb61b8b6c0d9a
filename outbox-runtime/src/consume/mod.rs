//! The consumer side: handlers that run in a database transaction, once per event and group.
//!
//! | what | |
//! |---|---|
//! | [`EventHandler`], `#[event_handler]`, [`handler_fn`] | what a user writes |
//! | [`HandlerOptions`], [`Classify`] | how often and when a failed event is tried again |
//! | [`Consumer`] (feature `kafka`) | runs handlers on topics |
//! | [`DeadLetters`] (feature `kafka`) | what was given up: listed, replayed, discarded |
//! | [`ConsumerGroups`] (feature `kafka`) | how far the groups of a cluster are |
//! | [`testing::HandlerTest`](crate::testing::HandlerTest) | runs handlers in a test, without Kafka |

pub(crate) mod attempt;
pub(crate) mod class;
mod context;
pub(crate) mod envelope;
mod erased;
#[cfg(feature = "kafka")]
mod forward;
pub(crate) mod function;
pub(crate) mod group_name;
mod handler;
#[cfg(feature = "kafka")]
mod kafka;
#[cfg(feature = "kafka")]
mod key_queue;
#[cfg(feature = "kafka")]
mod maintenance;
pub(crate) mod message;
#[cfg(feature = "kafka")]
mod offsets;
mod options;
#[cfg(feature = "kafka")]
mod policy;
mod prepare;
#[cfg(feature = "kafka")]
mod queued;
mod retry_schedule;
pub(crate) mod route;
mod schema_id;
#[cfg(feature = "kafka")]
mod sending;
#[cfg(feature = "kafka")]
mod settle;
#[cfg(feature = "kafka")]
mod shared;
#[cfg(feature = "kafka")]
mod sharing;
mod spans;
#[cfg(feature = "kafka")]
mod worker;

pub use class::{Classify, ErrorClass};
pub use context::EventContext;
pub use function::{FunctionHandler, HandlerTypes};
pub use handler::{
    EventHandler, HandlerError, HandlerEvent, HandlerFn, HandlerResult, WithOptions, handler_fn,
};
#[cfg(feature = "kafka")]
pub use kafka::{
    BulkOptions, ClusterDescription, Consumer, ConsumerBuilder, ConsumerGroups, DeadLetter,
    DeadLetterFilter, DeadLetterId, DeadLetterStream, DeadLetters, DeadLettersBuilder, GroupLag,
    GroupTopics, GroupTopicsBuilder, NotADeadLetterId, OpenDeadLetters, OpenOfGroup, PlannedTopic,
    Progress, Resolved, Selection, TailedItem, TailedMessage, TemporaryTopic, TopicDescription,
    TopicFault, TopicPlace, TopicPlaces, TopicPlan, TopicSearch, TopicTail, TopicTailBuilder,
};
pub use options::{ForeignId, HandlerOptions};
#[cfg(feature = "kafka")]
pub use policy::{Undecodable, UnknownEvents};
pub use retry_schedule::LaterEvents;
#[cfg(feature = "kafka")]
pub use worker::Consumed;

#[cfg(feature = "kafka")]
#[doc(no_inline)]
pub use crate::kafka::KafkaConfig;

pub(crate) use context::Named;
pub(crate) use erased::{EventOf, Handler, decoded};
