//! Tables of its own, in each database.

use outbox::{Outbox, OutboxDatabase, OutboxError};
use sqlx::{AssertSqlSafe, MySql, Pool, Postgres, Sqlite};

/// Where a measurement has its tables. `name` has letters, digits and `_` only.
pub(super) trait Place: OutboxDatabase {
    /// The name of the database's kind.
    const DATABASE: &'static str;

    /// The tables of an outbox that only the benchmark uses.
    fn create(
        pool: &Pool<Self>,
        name: &str,
    ) -> impl Future<Output = Result<Outbox<Self>, OutboxError>> + Send;

    /// Removes them, whether all were created or not.
    fn remove(
        pool: &Pool<Self>,
        name: &str,
    ) -> impl Future<Output = Result<(), OutboxError>> + Send;
}

impl Place for Postgres {
    const DATABASE: &'static str = "postgres";

    async fn create(pool: &Pool<Self>, name: &str) -> Result<Outbox<Self>, OutboxError> {
        let create = format!("create schema {name}");
        sqlx::raw_sql(AssertSqlSafe(create)).execute(pool).await?;
        let outbox = Outbox::builder(pool.clone()).schema(name).build()?;
        outbox.migrate().await?;
        Ok(outbox)
    }

    async fn remove(pool: &Pool<Self>, name: &str) -> Result<(), OutboxError> {
        // It waits for the statements of those that were interrupted, and not for ever. One text is
        // one transaction, so a failed one leaves nothing behind in its session.
        let remove = format!(
            "set local lock_timeout = '20s'; set local statement_timeout = '60s'; drop schema if exists {name} cascade"
        );
        sqlx::raw_sql(AssertSqlSafe(remove)).execute(pool).await?;
        Ok(())
    }
}

impl Place for MySql {
    const DATABASE: &'static str = "mysql";

    async fn create(pool: &Pool<Self>, name: &str) -> Result<Outbox<Self>, OutboxError> {
        let outbox = Outbox::builder(pool.clone()).table_prefix(format!("{name}_")).build()?;
        outbox.migrate().await?;
        Ok(outbox)
    }

    async fn remove(pool: &Pool<Self>, name: &str) -> Result<(), OutboxError> {
        let of_ours = "\
select table_name as name from information_schema.tables
where table_schema = database() and left(table_name, char_length(?)) = ?";
        let name = format!("{name}_");
        let tables: Vec<String> =
            sqlx::query_scalar(of_ours).bind(&name).bind(&name).fetch_all(pool).await?;
        for table in tables {
            let drop = format!("drop table if exists `{table}`");
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(pool).await?;
        }
        Ok(())
    }
}

impl Place for Sqlite {
    const DATABASE: &'static str = "sqlite";

    async fn create(pool: &Pool<Self>, name: &str) -> Result<Outbox<Self>, OutboxError> {
        let outbox = Outbox::builder(pool.clone()).table_prefix(format!("{name}_")).build()?;
        outbox.migrate().await?;
        Ok(outbox)
    }

    async fn remove(pool: &Pool<Self>, name: &str) -> Result<(), OutboxError> {
        let of_ours = "select name from sqlite_master where type = 'table' and substr(name, 1, length($1)) = $1";
        let tables: Vec<String> =
            sqlx::query_scalar(of_ours).bind(format!("{name}_")).fetch_all(pool).await?;
        for table in tables {
            let drop = format!("drop table if exists \"{table}\"");
            sqlx::raw_sql(AssertSqlSafe(drop)).execute(pool).await?;
        }
        Ok(())
    }
}
