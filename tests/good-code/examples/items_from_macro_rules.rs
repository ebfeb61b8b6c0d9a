use outbox::consume::{Classify, ErrorClass};
use outbox::testing::HandlerTest;
use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, event_handler, transactional_outbox};
use serde::{Deserialize, Serialize};
use sqlx::Sqlite;

macro_rules! event {
    ($(#[$meta:meta])* $vis:vis $name:ident, $topic:literal, $key:ident: $ty:ty) => {
        $(#[$meta])*
        #[derive(Serialize, Deserialize, DomainEvent)]
        #[event(topic = $topic)]
        $vis struct $name {
            #[event(key)]
            $key: $ty,
            #[event(header)]
            tenant: String,
        }
    };
}
event!(
    /// An event.
    pub Created, "created", id: u64
);

macro_rules! next_version {
    ($name:ident) => {
        #[derive(Serialize, Deserialize, DomainEvent)]
        #[event(topic = "created", name = "Created", version = 2, upcast_from = $crate::Created)]
        struct $name {
            #[event(key)]
            id: u64,
        }

        impl From<$crate::Created> for $name {
            fn from(created: $crate::Created) -> Self {
                Self { id: created.id }
            }
        }
    };
}
next_version!(CreatedLater);

macro_rules! service {
    ($name:ident, $outbox:ident, $tx:ident in $source:expr, $ret:ty, $body:block) => {
        #[transactional_outbox($tx in $source)]
        async fn $name($outbox: &Outbox<Sqlite>) -> $ret $body
    };
}
service!(create, outbox, tx in outbox, Result<(), OutboxError>, {
    tx.emit(Created { id: 1, tenant: String::new() })?;
    Ok(())
});

macro_rules! all_inside {
    ($name:ident) => {
        #[transactional_outbox(tx in outbox)]
        async fn $name(outbox: &Outbox<Sqlite>) -> Result<(), OutboxError> {
            tx.emit(Created { id: 1, tenant: String::new() })?;
            Ok(())
        }
    };
}
all_inside!(create_too);

macro_rules! handler {
    ($(#[$meta:meta])* $vis:vis $name:ident($tx:ident: $tx_ty:ty, $($pat:pat => $ty:ty),*) -> $ret:ty, $group:literal, $body:block) => {
        #[event_handler(group = $group)]
        $(#[$meta])*
        $vis async fn $name($tx: $tx_ty, $($pat: $ty),*) -> $ret $body
    };
}
handler!(
    /// A handler.
    pub reserve(tx: &mut OutboxTx<'_, Sqlite>, created => Created) -> Result<(), OutboxError>, "g", {
        tx.emit(created)?;
        Ok(())
    }
);
handler!(with_state(tx: &mut OutboxTx<'_, Sqlite>, created => &Created, _ => &String) -> sqlx::Result<()>, "g", {
    sqlx::query("select $1").bind(&created.tenant).execute(tx).await?;
    Ok(())
});

macro_rules! handler_inside {
    ($name:ident, $event:ty) => {
        #[event_handler]
        async fn $name(tx: &mut OutboxTx<'_, Sqlite>, event: $event) -> Result<(), OutboxError> {
            tx.emit(event)?;
            Ok(())
        }
    };
}
handler_inside!(reserve_too, Created);

macro_rules! error {
    ($name:ident { $($variant:ident: $class:ident),* }) => {
        #[derive(Classify)]
        enum $name {
            $(#[classify($class)] $variant,)*
        }
    };
}
error!(Wrong { Never: permanent, Later: transient });

fn main() {
    let _ = (create, create_too);
    let _ = |outbox: Outbox<Sqlite>| {
        (
            HandlerTest::new(outbox.clone(), reserve()),
            HandlerTest::new(outbox.clone(), with_state(String::new())),
            HandlerTest::new(outbox, reserve_too()),
        )
    };
    assert_eq!(Wrong::Never.class(), ErrorClass::Permanent);
    assert_eq!(Wrong::Later.class(), ErrorClass::Transient);
}
