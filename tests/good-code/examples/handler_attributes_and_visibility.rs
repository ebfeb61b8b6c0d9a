#![deny(deprecated, dead_code)]

mod inventory {
    use outbox::{DomainEvent, OutboxTx, event_handler};
    use serde::{Deserialize, Serialize};
    use sqlx::Sqlite;

    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(topic = "t")]
    pub struct Created(#[event(key)] u64);

    /// Documented.
    #[event_handler]
    #[doc(alias = "book")]
    pub async fn public(tx: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
        sqlx::query("select 1").execute(tx).await?;
        Ok(())
    }

    #[event_handler]
    pub(crate) async fn of_the_crate(
        _: &mut OutboxTx<'_, Sqlite>,
        _: Created,
        _: &String,
    ) -> sqlx::Result<()> {
        Ok(())
    }

    #[event_handler]
    pub(in crate::inventory) async fn of_the_module(
        _: &mut OutboxTx<'_, Sqlite>,
        _: Created,
        _: &String,
    ) -> sqlx::Result<()> {
        Ok(())
    }

    #[event_handler]
    #[deprecated = "use another one"]
    pub async fn old(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
        Ok(())
    }

    #[deprecated]
    #[event_handler]
    pub async fn older(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
        Ok(())
    }

    #[event_handler]
    #[allow(dead_code)]
    async fn unused(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
        Ok(())
    }

    #[event_handler]
    #[cfg(any())]
    async fn absent(_: &mut OutboxTx<'_, NoDatabase>, _: NoEvent) -> NoResult {}

    #[cfg(any())]
    #[event_handler]
    async fn absent_too(_: &mut OutboxTx<'_, NoDatabase>, _: NoEvent) -> NoResult {}

    // Two handlers of one name, of which one is there.
    #[event_handler]
    #[cfg(not(any()))]
    pub async fn chosen(_: &mut OutboxTx<'_, Sqlite>, _: Created) -> sqlx::Result<()> {
        Ok(())
    }

    #[event_handler]
    #[cfg(any())]
    pub async fn chosen(_: &mut OutboxTx<'_, Sqlite>, _: Created, _: &String) -> sqlx::Result<()> {
        Ok(())
    }

    pub fn inside() {
        let _ = of_the_module(String::new());
    }
}

fn main() {
    use outbox::{OutboxTx, event_handler};

    #[event_handler]
    async fn in_a_function(
        _: &mut OutboxTx<'_, sqlx::Sqlite>,
        _: inventory::Created,
    ) -> sqlx::Result<()> {
        Ok(())
    }

    let _ = (
        inventory::public(),
        inventory::of_the_crate(String::new()),
        inventory::chosen(),
        in_a_function(),
    );
    #[allow(deprecated)]
    let _ = (inventory::old(), inventory::older());
    inventory::inside();
}
