//! The guide: one page for each question that the reference does not answer.
//!
//! | page | answers |
//! |---|---|
//! | [`errors_retries_dead_letters`] | What becomes of an event whose handler fails, and what an operator does with it? |
//! | [`idempotency`] | What is promised of an event that is delivered twice? |
//! | [`mistakes`] | What does the compiler say to ten likely mistakes, and what is to be changed? |
//! | [`postgres`] | Which tables and privileges does the outbox need in Postgres, and what does it cost there? |
//!
//! This module is documentation only: no program sees it.

// A page links to another one as `[text][its-file]`, and defines `[its-file]: its-file.md` in its
// last lines, for those who read the files. Here the definitions before a page come first, and the
// first one holds.

#[doc = "[idempotency]: idempotency"]
#[doc = ""]
#[doc = include_str!("../docs/guide/errors-retries-dead-letters.md")]
pub mod errors_retries_dead_letters {}

#[doc = include_str!("../docs/guide/idempotency.md")]
pub mod idempotency {}

#[doc = include_str!("../docs/guide/mistakes.md")]
pub mod mistakes {}

#[doc = include_str!("../docs/guide/postgres.md")]
pub mod postgres {}
