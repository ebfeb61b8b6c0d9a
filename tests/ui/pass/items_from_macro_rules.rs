use outbox::{DomainEvent, Outbox, OutboxError, transactional_outbox};
use serde::Serialize;
use sqlx::Sqlite;

macro_rules! event {
    ($(#[$meta:meta])* $vis:vis $name:ident, $topic:literal, $key:ident: $ty:ty) => {
        $(#[$meta])*
        #[derive(Serialize, DomainEvent)]
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

fn main() {
    let _ = (create, create_too);
}
