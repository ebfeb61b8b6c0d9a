//! TLS with Postgres: what is verified, and what the errors say.

use crate::support::OrderCreated;
use crate::support::within_a_minute;
use outbox::testing::MemoryPublisher;
use outbox::{ErrorKind, Outbox, OutboxError, Relay};
use sqlx::postgres::{PgConnectOptions, PgPoolOptions, PgSslMode};
use sqlx::{Executor, Postgres};
use xtask::ScratchDir;
use xtask::servers::{PgOptions, PgVersion, Postgres as Server};

/// A pool that has not connected yet.
fn outbox_of(options: PgConnectOptions) -> Outbox<Postgres> {
    Outbox::new(PgPoolOptions::new().max_connections(2).connect_lazy_with(options))
}

async fn emits(options: PgConnectOptions) -> Result<(), OutboxError> {
    let outbox = outbox_of(options);
    outbox.migrate().await?;
    let mut tx = outbox.begin().await?;
    tx.emit(OrderCreated::new("a", 1))?;
    tx.commit().await
}

/// The first error of a service, and the one with which a relay ends at its start.
async fn is_refused(options: PgConnectOptions, cause: &str, remedy: &str) {
    let service = within_a_minute(emits(options.clone())).await.unwrap_err();
    let relay = Relay::new(outbox_of(options), MemoryPublisher::new());
    let relay = within_a_minute(relay.run(std::future::pending())).await.unwrap_err();
    for error in [service, relay] {
        assert_eq!(error.kind(), ErrorKind::Database);
        let said = error.to_string();
        assert!(said.contains(cause) && said.contains(remedy), "{cause}, {remedy}: {said}");
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn the_server_is_verified_and_each_refusal_is_told_with_cause_and_remedy() {
    let scratch = ScratchDir::new("secured-postgres").unwrap();
    let options = PgOptions { tls: true, ..PgOptions::default() };
    let server = Server::start(PgVersion::V15, scratch.path(), options).unwrap();
    let certificates = server.certificates().unwrap();
    let admin: PgConnectOptions = server.url().parse().unwrap();
    let pool = PgPoolOptions::new().connect_with(admin.clone()).await.unwrap();
    pool.execute("create role shop login superuser password 'hunter2'").await.unwrap();
    for database in ["create database by_password", "create database by_certificate"] {
        pool.execute(database).await.unwrap();
    }
    let verified = admin.ssl_mode(PgSslMode::VerifyFull).username("shop");
    let verified = verified.ssl_root_cert(certificates.authority());
    let by_password = verified.clone().database("by_password").password("hunter2");
    let by_certificate = |identity: &xtask::Identity| {
        let options = verified.clone().database("by_certificate");
        options.ssl_client_cert(&identity.certificate).ssl_client_key(&identity.key)
    };

    emits(by_password.clone()).await.unwrap();
    emits(by_certificate(&certificates.client("shop").unwrap())).await.unwrap();

    tokio::join!(
        is_refused(
            by_password.clone().ssl_root_cert(certificates.other_authority()),
            "signed by an authority that this program does not trust",
            "`sslrootcert=FILE`",
        ),
        is_refused(
            by_password.clone().host("localhost"),
            "is for another host",
            "connect to a name that is in it",
        ),
        is_refused(
            by_password.clone().ssl_root_cert("/no/such/file"),
            "a file is missing",
            "`sslrootcert`",
        ),
        is_refused(
            by_password.clone().ssl_mode(PgSslMode::Disable),
            "pg_hba.conf rejects connection",
            "correct the options with which the pool connects",
        ),
        is_refused(
            by_password.clone().password("wrong"),
            "password authentication failed",
            "correct the options with which the pool connects",
        ),
        is_refused(
            by_certificate(&certificates.expired_client("shop").unwrap()),
            "refuses the TLS of this client, or its certificate",
            "`sslkey`",
        ),
    );

    server.stop();
    let plain_dir = scratch.path().join("plain");
    let plain = Server::start(PgVersion::V15, &plain_dir, PgOptions::default()).unwrap();
    is_refused(verified.port(plain.port()), "offers none", "`ssl = on`").await;
}
