//! The command understands what the guide tells operators to type.

use std::process::Command;

const PAGES: [&str; 9] = [
    include_str!("../README.md"),
    include_str!("../../docs/guide/command.md"),
    include_str!("../../docs/guide/contracts.md"),
    include_str!("../../docs/guide/exactly-once.md"),
    include_str!("../../docs/guide/operating.md"),
    include_str!("../../docs/guide/registry.md"),
    include_str!("../../docs/guide/scaling.md"),
    include_str!("../../docs/guide/securing.md"),
    include_str!("../../docs/guide/tracing.md"),
];

/// The lines of the blocks of shell and of workflows that call the command, without its name, their
/// comments, and where their output goes.
fn calls(page: &str) -> impl Iterator<Item = &str> {
    let blocks = ["```sh\n", "```yaml\n"].into_iter().flat_map(move |begin| {
        page.split(begin).skip(1).filter_map(|rest| rest.split("```").next())
    });
    let lines = blocks.flat_map(str::lines).filter_map(|line| line.split(" # ").next());
    let lines = lines.filter_map(|line| line.split(" >> ").next());
    lines.filter_map(|line| line.trim().trim_start_matches("- run: ").strip_prefix("outbox "))
}

#[test]
fn every_call_of_the_guide_is_understood() {
    let mut understood = 0;
    for call in PAGES.into_iter().flat_map(calls) {
        let mut outbox = Command::new(env!("CARGO_BIN_EXE_outbox"));
        let said = outbox.args(call.split_whitespace()).arg("--help").output().expect("a program");
        assert!(said.status.success(), "outbox {call}: {}", String::from_utf8_lossy(&said.stderr));
        understood += 1;
    }
    assert!(understood > 5, "the pages have calls");
}
