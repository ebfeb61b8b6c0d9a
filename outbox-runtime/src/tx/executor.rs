//! Queries on an [`OutboxTx`]: sqlx's `Executor`, passed on to the connection.

/// Written out for each database, as sqlx does for its own pools: a generic one would need bounds on
/// `&mut DB::Connection` that the compiler cannot yet normalize.
macro_rules! executor_on_outbox_tx {
    ($database:ty) => {
        impl<'t> sqlx::Executor<'t> for &'t mut crate::tx::OutboxTx<'_, $database> {
            type Database = $database;

            fn fetch_many<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> futures_core::stream::BoxStream<
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
                (&mut **self).fetch_many(query)
            }

            fn fetch_optional<'e, 'q: 'e, E>(
                self,
                query: E,
            ) -> futures_core::future::BoxFuture<
                'e,
                Result<Option<<$database as sqlx::Database>::Row>, sqlx::Error>,
            >
            where
                't: 'e,
                E: 'q + sqlx::Execute<'q, $database>,
            {
                (&mut **self).fetch_optional(query)
            }

            fn prepare_with<'e>(
                self,
                sql: sqlx::SqlStr,
                parameters: &'e [<$database as sqlx::Database>::TypeInfo],
            ) -> futures_core::future::BoxFuture<
                'e,
                Result<<$database as sqlx::Database>::Statement, sqlx::Error>,
            >
            where
                't: 'e,
            {
                (&mut **self).prepare_with(sql, parameters)
            }

            fn describe<'e>(
                self,
                sql: sqlx::SqlStr,
            ) -> futures_core::future::BoxFuture<'e, Result<sqlx::Describe<$database>, sqlx::Error>>
            where
                't: 'e,
            {
                (&mut **self).describe(sql)
            }
        }
    };
}

#[cfg(feature = "postgres")]
executor_on_outbox_tx!(sqlx::Postgres);
#[cfg(feature = "sqlite")]
executor_on_outbox_tx!(sqlx::Sqlite);
