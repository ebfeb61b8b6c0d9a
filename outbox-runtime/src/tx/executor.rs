//! Queries on an [`OutboxTx`](crate::tx::OutboxTx): sqlx's `Executor`, passed on to the connection, whose refusals are
//! noted where somebody asked for it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_core::Stream;
use futures_core::future::BoxFuture;
use futures_core::stream::BoxStream;

use crate::error::is_conflict;
use crate::tx::OutboxTx;

/// Set once the database refuses for another transaction's sake.
type Conflict = Option<Arc<AtomicBool>>;

fn note<T>(conflict: &AtomicBool, result: &Result<T, sqlx::Error>) {
    if result.as_ref().is_err_and(is_conflict) {
        conflict.store(true, Ordering::Relaxed);
    }
}

struct Noted<'e, T> {
    conflict: Arc<AtomicBool>,
    stream: BoxStream<'e, Result<T, sqlx::Error>>,
}

impl<T> Stream for Noted<'_, T> {
    type Item = Result<T, sqlx::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = self.stream.as_mut().poll_next(cx);
        if let Poll::Ready(Some(result)) = &item {
            note(&self.conflict, result);
        }
        item
    }
}

fn noted_stream<T: 'static>(
    conflict: Conflict,
    stream: BoxStream<'_, Result<T, sqlx::Error>>,
) -> BoxStream<'_, Result<T, sqlx::Error>> {
    match conflict {
        Some(conflict) => Box::pin(Noted { conflict, stream }),
        None => stream,
    }
}

fn noted_future<T: Send + 'static>(
    conflict: Conflict,
    future: BoxFuture<'_, Result<T, sqlx::Error>>,
) -> BoxFuture<'_, Result<T, sqlx::Error>> {
    match conflict {
        Some(conflict) => Box::pin(async move {
            let result = future.await;
            note(&conflict, &result);
            result
        }),
        None => future,
    }
}

/// Written out for each database, as sqlx does for its own pools: a generic one would need bounds on
/// `&mut DB::Connection` that the compiler cannot yet normalize.
///
/// Both on the transaction and on the reference to it that an annotated function has, so that `execute(&mut tx)` is
/// right in either.
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
                noted_stream(self.conflict.clone(), self.connection().fetch_many(query))
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> BoxFuture<'e, Result<Option<<$database as sqlx::Database>::Row>, sqlx::Error>>
            where
                't: 'e,
                E: 'q + sqlx::Execute<'q, $database>,
            {
                noted_future(self.conflict.clone(), self.connection().fetch_optional(query))
            }

            fn prepare_with<'e>(
                self,
                sql: sqlx::SqlStr,
                parameters: &'e [<$database as sqlx::Database>::TypeInfo],
            ) -> BoxFuture<'e, Result<<$database as sqlx::Database>::Statement, sqlx::Error>>
            where
                't: 'e,
            {
                self.connection().prepare_with(sql, parameters)
            }

            fn describe<'e>(
                self,
                sql: sqlx::SqlStr,
            ) -> BoxFuture<'e, Result<sqlx::Describe<$database>, sqlx::Error>>
            where
                't: 'e,
            {
                self.connection().describe(sql)
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
