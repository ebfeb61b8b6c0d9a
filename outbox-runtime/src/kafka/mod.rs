//! What the publisher, the consumer and the dead letters have in common: how they are told of
//! Kafka, and what they say of it.

mod brokers;
mod closing;
mod properties;

pub(crate) use brokers::{Brokers, log};
pub(crate) use closing::{Client, aside};
pub(crate) use properties::Properties;
