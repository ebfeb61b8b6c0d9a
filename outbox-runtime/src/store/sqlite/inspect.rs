//! What the test kit asks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use sqlx::{ConnectOptions, Executor, Sqlite, SqliteConnection, SqlitePool};

use super::event_row::stored_event;
use crate::record::StoredEvent;
use crate::store::error::StoreError;
use crate::store::names::{Names, sql};
use crate::store::sealed::Inspect;

/// After it, an answer is held no longer: the poll may be what waits for it.
const LONGEST_POLL: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_micros(20);

const EVENTS: &str = "select * from {event} order by seq";

impl Inspect for Sqlite {
    async fn events(pool: &SqlitePool, names: &Names) -> Result<Vec<StoredEvent>, StoreError> {
        let rows = sqlx::query(sql(names.fill(EVENTS))).fetch_all(pool).await?;
        Ok(rows.iter().map(stored_event).collect::<Result<_, _>>()?)
    }

    async fn keep(pool: &SqlitePool) -> Option<SqliteConnection> {
        // A file that takes no other connection needs none.
        pool.connect_options().connect().await.ok()
    }

    async fn hold_answers(
        connection: &mut SqliteConnection,
        polling: Arc<AtomicBool>,
    ) -> Result<(), sqlx::Error> {
        let mut handle = connection.lock_handle().await?;
        // SQLite calls this at the end of each statement, `begin` and `commit` included, on the
        // thread that runs it.
        handle.set_progress_handler(1, move || {
            let until = Instant::now() + LONGEST_POLL;
            while polling.load(Ordering::Acquire) && Instant::now() < until {
                thread::sleep(PAUSE);
            }
            true
        });
        Ok(())
    }

    async fn open_transactions(
        connection: &mut SqliteConnection,
    ) -> Result<Vec<String>, sqlx::Error> {
        // Refused within a transaction. It takes no lock.
        match connection.execute(sqlx::raw_sql("begin")).await {
            Ok(_) => {
                connection.execute(sqlx::raw_sql("rollback")).await?;
                Ok(Vec::new())
            }
            Err(sqlx::Error::Database(error)) => Ok(vec![error.to_string()]),
            Err(error) => Err(error),
        }
    }
}
