//! `examples/catalogue` does what its page says.

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use support::cargo_test;
use tempfile::TempDir;

/// A copy of the example, to be changed.
struct Example {
    root: TempDir,
}

impl Example {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        copy(&workspace.join("examples/catalogue"), root.path());
        // The versions of dependencies that are there already.
        fs::copy(workspace.join("Cargo.lock"), root.path().join("Cargo.lock")).unwrap();
        let example = Self { root };
        let outbox = format!("path = {workspace:?}");
        example.change("Cargo.toml", r#"path = "../..""#, &outbox);
        example
    }

    fn path(&self, file: &str) -> PathBuf {
        self.root.path().join(file)
    }

    #[track_caller]
    fn change(&self, file: &str, from: &str, to: &str) {
        let text = fs::read_to_string(self.path(file)).unwrap();
        assert!(text.contains(from), "{file} has no {from}");
        fs::write(self.path(file), text.replace(from, to)).unwrap();
    }

    /// Whether it passes, and what it says.
    fn cargo_test(&self, arguments: &[&str], variables: &[(&str, &str)]) -> (bool, String) {
        cargo_test(self.root.path(), "catalogue", arguments, variables)
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        match entry.file_name().to_str() {
            Some("target" | "Cargo.lock") => {}
            _ if from.is_dir() => copy(&from, &to),
            _ => _ = fs::copy(&from, &to).unwrap(),
        }
    }
}

/// What the page shows of an error, line by line.
#[track_caller]
fn assert_shown(page: &str, begin: &str, said: &str) {
    let shown = page.split("```").find(|block| block.contains(begin)).unwrap();
    for line in shown.lines().filter(|line| *line != "text" && !line.is_empty()) {
        assert!(said.contains(line), "the page shows `{line}`, which is not in:\n{said}");
    }
}

#[test]
fn the_catalogue_refuses_a_change_that_breaks_consumers_as_its_page_shows() {
    let example = Example::new();
    let page = fs::read_to_string(example.path("README.md")).unwrap();
    let (passes, said) = example.cargo_test(&["--workspace"], &[("CI", "true")]);
    assert!(passes, "{said}");

    example.change("events/src/lib.rs", "item: ", "article: ");
    let (passes, said) = example.cargo_test(&["--package", "shop-events"], &[("CI", "true")]);
    assert!(!passes, "{said}");
    assert_shown(&page, "FIELD_NO_DELETE", &said);

    let accept = [("OUTBOX_CONTRACTS", "accept")];
    let (passes, said) = example.cargo_test(&["--package", "shop-events"], &accept);
    assert!(passes, "{said}");
    let (passes, said) = example.cargo_test(&["--package", "shop-emails"], &[("CI", "true")]);
    assert!(!passes, "{said}");
    assert_shown(&page, "this type requires it", &said);
}
