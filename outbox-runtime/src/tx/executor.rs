//! Queries on an [`OutboxTx`](crate::tx::OutboxTx): sqlx's `Executor`, passed on to the connection.
//! The database's answers are recorded: a commit needs to know whether the transaction is still
//! open, and `retry` whether there was a conflict.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;

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

    fn future<T: Send + 'static>(
        mut self,
        future: BoxFuture<'e, Result<T, sqlx::Error>>,
    ) -> BoxFuture<'e, Result<T, sqlx::Error>> {
        self.doubt.statement_began();
        Box::pin(async move {
            let result = future.await;
            match &result {
                Ok(_) => self.doubt.statement_succeeded(),
                Err(error) => self.refused(error),
            }
            result
        })
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

/// The answer to a statement that is not sent, since its transaction is over.
struct Over<T>(Option<sqlx::Error>, std::marker::PhantomData<fn() -> T>);

impl<T> Over<T> {
    fn new(error: sqlx::Error) -> Self {
        Self(Some(error), std::marker::PhantomData)
    }
}

impl<T> Stream for Over<T> {
    type Item = Result<T, sqlx::Error>;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(self.0.take().map(Err))
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
                match self.statement() {
                    Ok((connection, note)) => note.stream(connection.fetch_many(query)),
                    Err(error) => Box::pin(Over::new(error)),
                }
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> BoxFuture<'e, Result<Option<<$database as sqlx::Database>::Row>, sqlx::Error>>
            where
                't: 'e,
                E: 'q + sqlx::Execute<'q, $database>,
            {
                match self.statement() {
                    Ok((connection, note)) => note.future(connection.fetch_optional(query)),
                    Err(error) => Box::pin(std::future::ready(Err(error))),
                }
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
