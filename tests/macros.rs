//! What the macros accept, and what they say when they do not.
//!
//! After a change of an error's text: `TRYBUILD=overwrite cargo test --test macros`, and read the difference.

#[test]
fn mistakes_are_explained_and_good_code_compiles() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/fail/*.rs");
    cases.pass("tests/ui/pass/*.rs");
}

/// Expansions in a crate that denies what clippy can find. rustc's own lints are in `ui/pass/lints_denied.rs`.
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

    use outbox::{DomainEvent, Outbox, OutboxError, OutboxTx, transactional_outbox};
    use serde::Serialize;
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
}
