//! The files of `ops/` start the command with arguments that it takes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// All files below `folder`.
fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// The arguments that a line of such a file gives to the command, in any of the three notations.
fn arguments(line: &str) -> Option<Vec<String>> {
    let line = line.trim();
    if let Some(command) = line.strip_prefix("ExecStart=/usr/local/bin/outbox ") {
        return Some(command.split_whitespace().map(str::to_owned).collect());
    }
    let list =
        ["args: [", "command: [", "CMD ["].iter().find_map(|name| line.strip_prefix(name))?;
    let words = list.trim_end_matches(']').split(',');
    Some(words.map(|word| word.trim().trim_matches('"').to_owned()).collect())
}

#[test]
fn the_command_takes_the_arguments_in_the_files_of_ops() {
    let mut found = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../ops"), &mut found);
    let mut commands = Vec::new();
    for path in &found {
        let text = fs::read_to_string(path).unwrap();
        let mut all = text.lines().filter_map(arguments).collect::<Vec<_>>();
        // Other programs have arguments as well.
        all.retain(|args| ["relay", "exporter", "migrate"].contains(&args[0].as_str()));
        commands.extend(all.into_iter().map(|args| (path.clone(), args)));
    }
    assert!(commands.len() >= 5, "{commands:?}");
    for (path, args) in commands {
        // With `--help` it is parsed and not run.
        let ran = Command::new(env!("CARGO_BIN_EXE_outbox")).args(&args).arg("--help").output();
        let ran = ran.unwrap();
        let said = String::from_utf8_lossy(&ran.stderr).into_owned();
        assert!(ran.status.success(), "{}: outbox {}: {said}", path.display(), args.join(" "));
    }
}
