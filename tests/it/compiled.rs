//! What the macros accept, and what they say when they do not.
//!
//! After a change of an error's text: `TRYBUILD=overwrite cargo test --test it compiled`, and read
//! the difference.
//!
//! The name has the two tests begin early: they keep a core busy for minutes.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::support::processes::target_dir;

const OF_THIS_PACKAGE: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];
const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Apart from the code that compiles: trybuild then checks all cases in one run of cargo, which is
/// many times faster than a run for each.
#[test]
fn mistakes_are_explained() {
    trybuild::TestCases::new().compile_fail("tests/ui/fail/*.rs");
}

/// One run of cargo builds all of them, with the dependencies of the tests.
#[test]
fn good_code_compiles_and_does_what_it_asserts() {
    let names = good_code();
    assert!(names.len() > 50, "they are in tests/good-code");
    let mut build = Command::new(env!("CARGO"));
    build.args(["build", "--quiet", "--offline", "--keep-going"]).current_dir(ROOT);
    build.args(["--workspace", "--features", xtask::TESTED_FEATURES]);
    build.arg("--target-dir").arg(target_dir());
    // Cargo builds again what depends on these, which it has set for the tests.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| OF_THIS_PACKAGE.iter().any(|of| name.starts_with(of))) {
            build.env_remove(name);
        }
    }
    for name in &names {
        build.args(["--example", name]);
    }
    assert_succeeds("the build", &mut build);
    let built = target_dir().join("debug/examples");
    for name in &names {
        assert_succeeds(name, &mut Command::new(built.join(name)));
    }
}

fn good_code() -> Vec<String> {
    let files = fs::read_dir(Path::new(ROOT).join("tests/good-code/examples")).unwrap();
    let names = files.map(|file| file.unwrap().path());
    let mut names: Vec<_> =
        names.map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

fn assert_succeeds(what: &str, command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Expansions in a crate that denies what clippy can find. rustc's own lints are in
/// `good-code/examples/lints_denied.rs`.
mod expansions_trip_no_lint_of_clippy {
    #![deny(
        clippy::all,
        clippy::pedantic,
        clippy::nursery,
        clippy::absolute_paths,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        clippy::as_conversions,
        clippy::clone_on_ref_ptr,
        clippy::default_trait_access,
        clippy::else_if_without_else,
        clippy::exhaustive_enums,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::let_underscore_must_use,
        clippy::let_underscore_untyped,
        clippy::missing_inline_in_public_items,
        clippy::missing_trait_methods,
        clippy::min_ident_chars,
        clippy::panic,
        clippy::pattern_type_mismatch,
        clippy::pub_use,
        clippy::question_mark_used,
        clippy::ref_patterns,
        clippy::same_name_method,
        clippy::semicolon_outside_block,
        clippy::shadow_reuse,
        clippy::shadow_same,
        clippy::shadow_unrelated,
        clippy::std_instead_of_core,
        clippy::unreachable,
        clippy::unwrap_used,
        clippy::wildcard_enum_match_arm
    )]
    #![allow(dead_code, reason = "nothing here is run")]

    use std::sync::Arc;

    use outbox::consume::{Classify, EventContext};
    use outbox::{
        DomainEvent, Outbox, OutboxDatabase, OutboxError, OutboxTx, event_handler,
        transactional_outbox,
    };
    use serde::{Deserialize, Serialize};
    use sqlx::Sqlite;
    use uuid::Uuid;

    #[derive(Serialize, DomainEvent)]
    #[event(topic = "t")]
    struct Created {
        #[event(id, key)]
        id: Uuid,
        #[event(header)]
        tenant: String,
    }

    #[derive(Serialize, DomainEvent)]
    #[event(topic = "t")]
    enum Event<T> {
        First(#[event(key)] u64, #[event(header = "x-a")] u8),
        Second {
            #[event(key)]
            id: u64,
            state: T,
        },
        #[event(keyless)]
        Third,
        #[event(keyless)]
        Fourth,
    }

    #[derive(Clone)]
    struct Service {
        outbox: Outbox<Sqlite>,
    }

    impl Service {
        #[transactional_outbox(tx in self.outbox)]
        async fn create(&self, id: u64) -> Result<u64, OutboxError> {
            drop(tx.emit(Event::<()>::First(id, 1)));
            Self::emit(tx).await
        }

        #[transactional_outbox(savepoint in tx)]
        async fn emit(tx: &mut OutboxTx<'_, Sqlite>) -> Result<u64, OutboxError> {
            drop(savepoint.emit(Event::<()>::Fourth));
            Ok(1)
        }

        #[transactional_outbox(tx in self.outbox)]
        async fn fails(&self) -> Result<(), OutboxError> {
            drop(tx.emit(Event::<()>::Third));
            return Err(sqlx::Error::RowNotFound.into());
        }
    }
    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(topic = "t")]
    struct Paid(#[event(key)] u64);

    #[derive(Serialize, Deserialize, DomainEvent)]
    #[event(topic = "t", name = "Paid", version = 2, upcast_from = Paid)]
    struct PaidLater {
        #[event(key)]
        id: u64,
    }

    impl From<Paid> for PaidLater {
        fn from(paid: Paid) -> Self {
            Self { id: paid.0 }
        }
    }

    #[derive(Debug, thiserror::Error, Classify)]
    enum ShipError {
        #[error("sold out")]
        #[classify(permanent)]
        SoldOut,
        #[error(transparent)]
        Outbox(#[from] OutboxError),
    }

    #[event_handler(attempts = 2, retry_topics = ["1s"], later_events = "wait", foreign = "key")]
    async fn ship(tx: &mut OutboxTx<'_, Sqlite>, paid: PaidLater) -> Result<(), ShipError> {
        drop(tx.emit(Event::First::<()>(paid.id, 1)));
        Err(ShipError::SoldOut)
    }

    #[event_handler(pause = "1s")]
    async fn audit(
        tx: &mut OutboxTx<'_, Sqlite>,
        paid: &PaidLater,
        context: &EventContext,
        service: &Service,
    ) -> Result<(), OutboxError> {
        drop(service.create(paid.id).await);
        drop(sqlx::query("select $1").bind(context.offset).execute(tx).await);
        Ok(())
    }

    #[event_handler]
    async fn later(
        _tx: &mut OutboxTx<'_, Sqlite>,
        _paid: PaidLater,
        _service: &Service,
    ) -> Result<(), OutboxError> {
        todo!()
    }

    #[event_handler]
    async fn of_any_service<DB: OutboxDatabase, S: Send + Sync + 'static>(
        tx: &mut OutboxTx<'_, DB>,
        paid: PaidLater,
        _: &S,
    ) -> Result<(), OutboxError> {
        drop(tx.emit(Event::First::<()>(paid.id, 1)));
        Ok(())
    }

    impl Service {
        #[event_handler(timeout = "1s")]
        pub async fn keep(
            &self,
            tx: &mut OutboxTx<'_, Sqlite>,
            paid: &PaidLater,
        ) -> Result<(), OutboxError> {
            drop(self.create(paid.id).await);
            drop(sqlx::query("select 1").execute(tx).await);
            Ok(())
        }

        #[event_handler]
        async fn keep_later(
            self: Arc<Self>,
            _tx: &mut OutboxTx<'_, Sqlite>,
            _paid: PaidLater,
        ) -> Result<(), OutboxError> {
            todo!()
        }
    }
}
