//! Queries on an [`OutboxTx`](crate::tx::OutboxTx): sqlx's `Executor`, passed on to the connection.
//! The database's answers are recorded: a commit needs to know whether the transaction is still
//! open, and `retry` whether there was a conflict.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;

use crate::store::OutboxDatabase;
use crate::store::databases::fault_of;
use crate::store::doubt::Doubt;
use crate::store::fault::Fault;
use crate::tx::OutboxTx;

/// Where the answers to a statement are recorded.
pub(super) struct Note<'e> {
    pub(super) doubt: &'e mut Doubt,
    /// Set once the database refuses because of a conflict with a concurrent transaction. `None`:
    /// not watched.
    pub(super) conflict: Option<Arc<AtomicBool>>,
}

impl<'e> Note<'e> {
    /// Makes sure that a statement runs in the transaction, where the last answer may have been its
    /// end. One who used it may have swallowed that answer.
    pub(super) async fn ask<DB: OutboxDatabase>(
        &mut self,
        connection: &mut DB::Connection,
    ) -> Result<(), sqlx::Error> {
        if !(DB::GOES_ON_AFTER_ITS_END && self.doubt.now) {
            return Ok(());
        }
        self.doubt.in_flight = true;
        let open = DB::ensure_not_aborted(connection).await;
        self.doubt.in_flight = false;
        match open {
            Ok(()) => self.doubt.statement_succeeded(),
            Err(_) => self.doubt.rolled_back(),
        }
        open
    }

    fn refused(&mut self, error: &sqlx::Error) {
        self.doubt.statement_refused();
        let fault = fault_of(error);
        if fault == Fault::RolledBack {
            self.doubt.rolled_back();
        }
        if let Some(conflict) = &self.conflict
            && fault.is_conflict()
        {
            conflict.store(true, Ordering::Relaxed);
        }
    }

    fn stream<T: 'static>(
        self,
        stream: BoxStream<'e, Result<T, sqlx::Error>>,
    ) -> BoxStream<'e, Result<T, sqlx::Error>> {
        self.doubt.statement_began();
        Box::pin(Noted { note: self, failed: false, stream })
    }

    async fn answer<T>(
        mut self,
        statement: BoxFuture<'e, Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        self.doubt.statement_began();
        self.doubt.in_flight = true;
        let answer = statement.await;
        self.doubt.in_flight = false;
        match &answer {
            Ok(_) => self.doubt.statement_succeeded(),
            Err(error) => self.refused(error),
        }
        answer
    }
}

struct Noted<'e, T> {
    note: Note<'e>,
    failed: bool,
    stream: BoxStream<'e, Result<T, sqlx::Error>>,
}

impl<T> Stream for Noted<'_, T> {
    type Item = Result<T, sqlx::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = self.stream.as_mut().poll_next(cx);
        // Between two of its items, an answer may be given up: the next statement reads its rest.
        self.note.doubt.in_flight = item.is_pending();
        match &item {
            Poll::Ready(Some(Err(error))) => {
                self.failed = true;
                self.note.refused(error);
            }
            Poll::Ready(None) if !self.failed => self.note.doubt.statement_succeeded(),
            _ => {}
        }
        item
    }
}

/// The answer to a statement that is sent once it is known that its transaction is open.
enum Asked<'e, T> {
    Asking(BoxFuture<'e, Result<BoxStream<'e, Result<T, sqlx::Error>>, sqlx::Error>>),
    Sent(BoxStream<'e, Result<T, sqlx::Error>>),
    Over,
}

impl<T> Stream for Asked<'_, T> {
    type Item = Result<T, sqlx::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            match &mut *self {
                Self::Asking(asking) => match ready!(asking.as_mut().poll(cx)) {
                    Ok(sent) => *self = Self::Sent(sent),
                    Err(error) => {
                        *self = Self::Over;
                        return Poll::Ready(Some(Err(error)));
                    }
                },
                Self::Sent(sent) => return sent.as_mut().poll_next(cx),
                Self::Over => return Poll::Ready(None),
            }
        }
    }
}

/// Written out for each database, as sqlx does for its own pools: a generic implementation would
/// need bounds on `&mut DB::Connection` that the compiler cannot normalize yet.
///
/// Both for the transaction and for the reference to it that an annotated function has, so that
/// `execute(&mut tx)` compiles with either.
macro_rules! executor_on_outbox_tx {
    ($($tx:ty: $database:ty),*) => {$(
        impl<'t> sqlx::Executor<'t> for &'t mut $tx {
            type Database = $database;

            fn fetch_many<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> BoxStream<
                'e,
                Result<
                    sqlx::Either<
                        <$database as sqlx::Database>::QueryResult,
                        <$database as sqlx::Database>::Row,
                    >,
                    sqlx::Error,
                >,
            >
            where
                't: 'e,
                E: 'q + sqlx::Execute<'q, $database>,
            {
                Box::pin(Asked::Asking(Box::pin(async move {
                    let (connection, mut note) = self.statement()?;
                    note.ask::<$database>(connection).await?;
                    Ok(note.stream(connection.fetch_many(query)))
                })))
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> BoxFuture<'e, Result<Option<<$database as sqlx::Database>::Row>, sqlx::Error>>
            where
                't: 'e,
                E: 'q + sqlx::Execute<'q, $database>,
            {
                Box::pin(async move {
                    let (connection, mut note) = self.statement()?;
                    note.ask::<$database>(connection).await?;
                    note.answer(connection.fetch_optional(query)).await
                })
            }

            fn prepare_with<'e>(
                self,
                sql: sqlx::SqlStr,
                parameters: &'e [<$database as sqlx::Database>::TypeInfo],
            ) -> BoxFuture<'e, Result<<$database as sqlx::Database>::Statement, sqlx::Error>>
            where
                't: 'e,
            {
                (**self).prepare_with(sql, parameters)
            }

            fn describe<'e>(
                self,
                sql: sqlx::SqlStr,
            ) -> BoxFuture<'e, Result<sqlx::Describe<$database>, sqlx::Error>>
            where
                't: 'e,
            {
                (**self).describe(sql)
            }
        }
    )*};
}

#[cfg(feature = "postgres")]
executor_on_outbox_tx!(
    OutboxTx<'_, sqlx::Postgres>: sqlx::Postgres, &mut OutboxTx<'_, sqlx::Postgres>: sqlx::Postgres
);
#[cfg(feature = "sqlite")]
executor_on_outbox_tx!(
    OutboxTx<'_, sqlx::Sqlite>: sqlx::Sqlite, &mut OutboxTx<'_, sqlx::Sqlite>: sqlx::Sqlite
);
#[cfg(feature = "mysql")]
executor_on_outbox_tx!(
    OutboxTx<'_, sqlx::MySql>: sqlx::MySql, &mut OutboxTx<'_, sqlx::MySql>: sqlx::MySql
);
