//! For tests of your own service, without Kafka.
//!
//! | what | shows |
//! |---|---|
//! | [`emitted`] | which events a service has emitted, decoded |
//! | [`at_every_await`] | that a call which is dropped leaves no event without its rows, and no row without its event |
//! | [`HandlerTest`] | what handlers do with an event, the first time and when it comes again |
//! | [`HandlerTest::disturbed`] | that handlers are right when they are killed, fail, run at the same time, and get events again |
//! | [`MemoryPublisher`], [`FaultyPublisher`] | what a relay publishes, also to a broker that fails |
//!
//! ```
//! # async fn example<E: outbox::DomainEvent>(
//! #     outbox: outbox::Outbox<sqlx::Sqlite>, order_created: E,
//! # ) -> Result<(), Box<dyn std::error::Error>> {
//! use outbox::Relay;
//! use outbox::testing::{MemoryPublisher, emitted};
//!
//! let mut tx = outbox.begin().await?;
//! tx.emit(order_created)?;
//! tx.commit().await?;
//! assert_eq!(emitted(&outbox).await?.names(), ["order.created"]);
//!
//! let kafka = MemoryPublisher::new();
//! Relay::new(outbox, kafka.clone()).drain().await?;
//! assert_eq!(kafka.published()[0].name, "order.created");
//! # Ok(())
//! # }
//! ```

mod awaits;
mod disturbed;
mod emitted;
mod faulty;
mod finding;
mod handler;
mod memory;
mod message;
mod seed;

pub use awaits::{AtEveryAwait, Dropped, at_every_await};
pub use disturbed::{Disturbed, GivenUp, Handled};
pub use emitted::{Emitted, emitted};
pub use faulty::{Faults, FaultyPublisher};
pub use finding::Finding;
pub use handler::{Delivery, HandlerTest};
pub use memory::MemoryPublisher;
pub use message::TestMessage;
pub use seed::Seed;
