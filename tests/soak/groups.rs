//! The events of the soak, and the groups that handle them.

use std::time::Duration;

use outbox::DomainEvent;

pub(crate) const PARTITIONS: i32 = 6;

event_on_topic!(Ordered, "soak-orders");
event_on_topic!(Paid, "soak-payments");

/// Group, its topics, and whether it promises the order of each key.
pub(crate) const GROUPS: [(&str, &[&str], bool); 3] = [
    ("stock", &[Ordered::TOPIC, Paid::TOPIC], true),
    ("mail", &[Ordered::TOPIC], true),
    ("stats", &[Ordered::TOPIC, Paid::TOPIC], false),
];

pub(crate) const RUNGS: &[Duration] =
    &[Duration::from_millis(300), Duration::from_millis(600), Duration::from_secs(1)];
/// As the names of retry topics have them.
pub(crate) const RUNG_NAMES: [&str; 3] = ["300ms", "600ms", "1s"];

/// An event in its headers only.
#[derive(serde::Serialize, DomainEvent)]
#[event(topic = "soak-orders", name = "order.created", version = 3, duplicate)]
pub(crate) struct Garbage {
    #[event(key)]
    #[serde(skip)]
    pub(crate) customer: String,
}
