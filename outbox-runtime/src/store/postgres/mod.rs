//! Postgres: an append-only table, read in windows between snapshots.

mod admin;
mod compact;
mod connection;
mod diagnosis;
mod event_row;
mod events;
pub(super) mod fault;
mod fragments;
mod groups;
mod inbox;
mod inspect;
mod lanes;
mod parked;
mod pause;
mod pending;
#[cfg(test)]
mod protocol_model;
mod reclaim;
mod schema;
mod server;
pub(crate) mod slot;
mod status;
mod tail;
mod unnamed;
mod wakeup;
mod write;
