//! MySQL has no channel between sessions: relays poll.

use std::sync::Arc;

use sqlx::{MySql, MySqlPool};

use crate::doorbell::Doorbell;
use crate::store::names::Names;
use crate::store::sealed::Wakeup;

impl Wakeup for MySql {
    async fn notify_others(_: MySqlPool, _: Arc<Names>, _: Arc<Doorbell>) {
        std::future::pending().await
    }

    async fn listen_to_others(_: MySqlPool, _: Arc<Names>, _: Arc<Doorbell>) {
        std::future::pending().await
    }
}
