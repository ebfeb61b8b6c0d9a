//! The proxy of the tests does as it says: a test that relies on it would otherwise prove nothing.

use std::time::Duration;

use crate::support::proxy::{Moment, Proxy, Way};
use crate::support::{POSTGRES, server, within_a_minute};
use sqlx::{Connection as _, Executor as _, PgConnection};

/// Whether a statement is not answered. Only on a slow machine can this be wrong: true for a
/// connection that does answer.
async fn is_silent(connection: &mut PgConnection, statement: &'static str) -> bool {
    tokio::time::timeout(Duration::from_millis(300), connection.execute(statement)).await.is_err()
}

#[tokio::test]
async fn a_connection_goes_silent_at_the_statement_and_others_pass() {
    let (proxy, url) = Proxy::of_postgres(&server(POSTGRES)).await;
    for (moment, is_done) in [(Moment::Before("'before'"), false), (Moment::After("'after'"), true)]
    {
        let mut other = within_a_minute(PgConnection::connect(&url)).await.unwrap();
        let mut one = within_a_minute(PgConnection::connect(&url)).await.unwrap();
        let pid: i32 =
            sqlx::query_scalar("select pg_backend_pid()").fetch_one(&mut one).await.unwrap();
        let text = if is_done {
            "select set_config('application_name', 'after', false)"
        } else {
            "select 'before'"
        };
        let silenced = proxy.silence_one(moment);
        assert!(is_silent(&mut one, text).await);
        within_a_minute(silenced).await;
        within_a_minute(other.execute("select 1")).await.unwrap();
        let name =
            sqlx::query_scalar("select application_name from pg_stat_activity where pid = $1");
        let got: String = within_a_minute(name.bind(pid).fetch_one(&mut other)).await.unwrap();
        assert_eq!(got == "after", is_done);
    }
}

#[tokio::test]
async fn silence_lasts_until_it_is_healed_for_new_connections() {
    let (proxy, url) = Proxy::of_postgres(&server(POSTGRES)).await;
    let mut old = within_a_minute(PgConnection::connect(&url)).await.unwrap();
    proxy.silence(Way::ToClient);
    assert!(is_silent(&mut old, "select 1").await);
    assert!(
        tokio::time::timeout(Duration::from_millis(300), PgConnection::connect(&url))
            .await
            .is_err()
    );
    proxy.heal();
    let mut new = within_a_minute(PgConnection::connect(&url)).await.unwrap();
    within_a_minute(new.execute("select 1")).await.unwrap();
    assert!(is_silent(&mut old, "select 1").await, "an old one does not come back");
    proxy.cut();
    assert!(within_a_minute(new.execute("select 1")).await.is_err());
}
