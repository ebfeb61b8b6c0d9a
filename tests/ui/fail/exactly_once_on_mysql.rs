//! MySQL keeps no position of what was delivered.

use outbox::publish::kafka::KafkaPublisher;
use outbox::{ExactlyOnce, Outbox, Relay};

fn exactly_once(outbox: Outbox<sqlx::MySql>, publisher: KafkaPublisher) {
    _ = Relay::builder(outbox, publisher).build_exactly_once(ExactlyOnce::new());
}

fn main() {}
