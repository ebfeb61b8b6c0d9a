//! The tests of the whole, in one program: linked once, and run side by side.
//!
//! What must be alone in its process, or is run for longer on request, is a program of its own,
//! beside this one.

#[macro_use]
#[path = "../support/mod.rs"]
mod support;

mod cancellation;
mod change_of_delivery;
mod cloud_events;
mod commits;
mod compatible_servers;
mod compiled;
mod connections;
mod consume;
mod consume_db;
mod consume_dead_letters;
mod consume_faults;
mod consume_kafka;
mod consume_messages;
mod consume_retry_topics;
mod consumer_groups;
mod crash;
mod dead_letters;
mod debezium;
mod deployments;
mod diagnosis;
mod emit_limits;
mod enums;
mod events;
mod exactly_once_kafka;
mod examples;
mod faults;
mod handlers;
mod health;
mod held_snapshot;
mod hostile_code;
mod hostile_events;
mod hostile_settings;
mod interop;
mod kafka;
mod late_commit;
mod leases;
mod log_targets;
mod metrics;
mod migrations;
mod mistakes;
mod monitoring;
mod mysql;
mod mysql_family;
mod mysql_faults;
mod mysql_fuzz;
mod mysql_operations;
mod operations;
mod oracle;
mod parked;
mod parked_admin;
mod parking;
mod pausing;
mod pooler;
mod privileges;
mod proxy;
mod publishing;
mod reclaiming;
mod secured;
mod secured_postgres;
mod secured_rights;
mod shared_transactions;
mod shutdown;
mod sizes;
mod standbys;
mod store_conformance;
mod tenants;
mod testkit;
mod testkit_handlers;
mod tombstones;
mod traces;
mod transaction_errors;
mod transaction_options;
mod transactional;
mod window_fuzz;
