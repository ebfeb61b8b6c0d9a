//! The other servers that speak the protocol of MySQL: this program runs the tests of the store again
//! on each.

use std::process::Command;

use xtask::ScratchDir;
use xtask::servers::{self, MySqlOptions, MySqlServer};

use crate::support::MYSQL;

/// All that are in a module `mysql`, but those that also need Kafka.
const TESTS: [&str; 4] =
    ["mysql::", "--skip=consume_retry_topics", "--skip=shared_transactions", "--quiet"];

fn the_store_passes_on(server: MySqlServer) {
    let scratch = ScratchDir::new("mysql-family").unwrap();
    let options = MySqlOptions { server, ..MySqlOptions::default() };
    let database = servers::MySql::start(scratch.path(), options).unwrap();
    let mut tests = Command::new(std::env::current_exe().unwrap());
    let output = tests.args(TESTS).env(MYSQL, database.url()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    // Indented: they are not tests of this program.
    let failures = said.lines().skip_while(|line| *line != "failures:");
    let failures: String = failures.map(|line| format!("  {line}\n")).collect();
    assert!(output.status.success(), "{}:\n{failures}", output.status);
    let result = said.lines().rfind(|line| line.starts_with("test result: ")).unwrap_or_default();
    let passed: u32 = result.split(' ').nth(3).unwrap().parse().unwrap();
    assert!(passed >= 80, "{result}");
}

#[test]
fn the_store_passes_its_tests_on_mysql_8_0() {
    the_store_passes_on(MySqlServer::MySql8_0);
}

#[test]
fn the_store_passes_its_tests_on_mariadb_11_4() {
    the_store_passes_on(MySqlServer::MariaDb11_4);
}
