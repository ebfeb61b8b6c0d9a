//! Every option means what the method of `HandlerOptions` means.
use std::time::Duration;

use outbox::consume::{EventHandler, ForeignId, HandlerOptions, LaterEvents};
use outbox::{DomainEvent, OutboxTx, event_handler};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

#[derive(Serialize, Deserialize, DomainEvent)]
#[event(topic = "t")]
struct Created(#[event(key)] u64);

macro_rules! handlers {
    ($($name:ident($($options:tt)*);)*) => {$(
        #[event_handler($($options)*)]
        async fn $name(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
            Ok(())
        }
    )*};
}
handlers! {
    none();
    group(group = "inventory.v2_a-b");
    attempts(attempts = 3);
    forever(attempts = "unlimited");
    pauses(pause = "50ms", longest_pause = "2 s");
    pause(pause = "1ms");
    long_pause(pause = "1m");
    longest_pause(longest_pause = "1m");
    short_longest_pause(longest_pause = "50ms");
    waits(retry_topics = ["10s", "5m", "2h", "1d"], later_events = "wait");
    overtakes(later_events = "overtake", retry_topics = ["1500ms",],);
    timeout(timeout = "30s");
    place(foreign = "place");
    key(foreign = "key");
    header(foreign = "header x-request-id");
    shared(shared_transaction = 50);
    all(
        group = "g",
        attempts = 2,
        pause = "1s",
        longest_pause = "1s",
        retry_topics = ["1s"],
        later_events = "wait",
        timeout = "1s",
        foreign = "key",
        shared_transaction = 1_000,
        crate = outbox,
    );
}

fn expect(handler: impl EventHandler<Sqlite>, options: HandlerOptions) {
    assert_eq!(format!("{:?}", handler.options()), format!("{options:?}"));
}

fn main() {
    const NEW: HandlerOptions = HandlerOptions::new();
    const MILLIS: fn(u64) -> Duration = Duration::from_millis;
    const SECS: fn(u64) -> Duration = Duration::from_secs;
    expect(none(), NEW);
    expect(group(), NEW.group("inventory.v2_a-b"));
    expect(attempts(), NEW.attempts(3));
    expect(forever(), NEW.retry_forever());
    expect(pauses(), NEW.backoff(MILLIS(50), SECS(2)));
    // One alone leaves the other at its default, unless that would be wrong.
    expect(pause(), NEW.backoff(MILLIS(1), SECS(10)));
    expect(long_pause(), NEW.backoff(SECS(60), SECS(60)));
    expect(longest_pause(), NEW.backoff(MILLIS(100), SECS(60)));
    expect(short_longest_pause(), NEW.backoff(MILLIS(50), MILLIS(50)));
    const DELAYS: &[Duration] = &[
        Duration::from_secs(10),
        Duration::from_secs(300),
        Duration::from_secs(7_200),
        Duration::from_secs(86_400),
    ];
    expect(waits(), NEW.retry_topics(DELAYS, LaterEvents::Wait));
    const DELAY: &[Duration] = &[Duration::from_millis(1_500)];
    expect(overtakes(), NEW.retry_topics(DELAY, LaterEvents::Overtake));
    expect(timeout(), NEW.timeout(SECS(30)));
    expect(place(), NEW.foreign(ForeignId::Place));
    expect(key(), NEW.foreign(ForeignId::Key));
    expect(header(), NEW.foreign(ForeignId::Header("x-request-id")));
    expect(shared(), NEW.shared_transaction(50));
    const SECOND: &[Duration] = &[Duration::from_secs(1)];
    expect(
        all(),
        NEW.group("g")
            .attempts(2)
            .backoff(SECS(1), SECS(1))
            .retry_topics(SECOND, LaterEvents::Wait)
            .timeout(SECS(1))
            .foreign(ForeignId::Key)
            .shared_transaction(1_000),
    );
}
