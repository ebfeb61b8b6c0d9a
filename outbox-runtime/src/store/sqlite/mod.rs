//! SQLite, the embedded default. One writer at a time: the order of `seq` is the order of the
//! commits, and a plain cursor is exact.

mod admin;
mod clock;
#[cfg(test)]
pub(crate) mod copies;
mod diagnosis;
mod event_row;
mod events;
pub(super) mod fault;
mod groups;
mod inbox;
mod inspect;
mod lanes;
mod parked;
mod pause;
mod reclaim;
mod schema;
mod status;
mod tail;
mod wakeup;
mod write;
