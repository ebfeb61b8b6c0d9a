//! The examples of one idea each, `examples/*.rs`: each is run, and prints what its first lines say
//! that it prints.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Stdio;

use sqlx::ConnectOptions;
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::support::processes::example_program;
use crate::support::wait::within_a_minute;
use crate::support::{self, POSTGRES, kafka};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
/// More lines are more than one idea.
const LONGEST: usize = 80;

/// Names and texts of all examples.
fn examples() -> Vec<(String, String)> {
    let files = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let sources = files.filter(|path| path.extension().is_some_and(|ending| ending == "rs"));
    let named = sources.map(|path| {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        (name, std::fs::read_to_string(path).unwrap())
    });
    named.collect()
}

/// What an example says that it prints: the block of text in its documentation.
fn promised(source: &str) -> String {
    let lines = source.lines().map_while(|line| line.strip_prefix("//!"));
    let block = lines.skip_while(|line| line.trim() != "```text").skip(1);
    let block = block.take_while(|line| line.trim() != "```");
    block.map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line))).collect()
}

#[tokio::test]
async fn every_example_prints_what_its_first_lines_say() {
    let database = support::postgres(POSTGRES, 1).await.connect_options().to_url_lossy();
    let mut runs = JoinSet::new();
    for (name, source) in examples() {
        let mut program = Command::new(example_program(&name));
        program.env("DATABASE_URL", database.as_str()).env("KAFKA_BROKERS", kafka());
        program.stdin(Stdio::null()).kill_on_drop(true);
        runs.spawn(async move {
            let output = within_a_minute(program.output()).await.unwrap();
            let printed = String::from_utf8_lossy(&output.stdout);
            let promised = promised(&source);
            let is_right = output.status.success() && !promised.is_empty() && printed == promised;
            let errors = String::from_utf8_lossy(&output.stderr);
            let what = format!("--- {name}, {}\n{printed}{errors}", output.status);
            (!is_right).then(|| format!("{what}--- {name} says\n{promised}"))
        });
    }
    let wrong: Vec<String> = runs.join_all().await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_example_is_short_and_listed() {
    let index = std::fs::read_to_string(Path::new(FOLDER).join("README.md")).unwrap();
    let links = index.split("](").skip(1).filter_map(|link| link.split(')').next());
    let listed: BTreeSet<_> = links.filter_map(|link| link.strip_suffix(".rs")).collect();
    let examples = examples();
    let names: BTreeSet<_> = examples.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(listed, names, "the first are listed in examples/README.md, the second exist");
    for (name, source) in &examples {
        assert!(source.lines().count() <= LONGEST, "{name} is longer than {LONGEST} lines");
    }
}
