//! `outbox dead-letters export`.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use outbox::consume::{DeadLetters, Progress};
use serde::Serialize;

use super::args::Filter;
use super::row::LetterRow;
use super::{say_there_are_none, select};
use crate::context::Context;
use crate::failure::Failure;
use crate::progress::shown;

/// How many, and where to.
pub struct To<'a> {
    pub limit: Option<u64>,
    pub file: Option<&'a Path>,
}

#[derive(Serialize)]
struct Exported {
    exported: u64,
}

pub async fn run(
    dead_letters: &DeadLetters,
    filter: &Filter,
    to: To<'_>,
    context: &Context,
) -> Result<(), Failure> {
    let mut out = opened(to.file)?;
    let found = select(dead_letters, filter.to_filter()).await?;
    if found.is_empty() {
        say_there_are_none(dead_letters, context);
    }
    let selected = found.first(to.limit.unwrap_or(u64::MAX));
    let progress = Progress::of(selected.len());
    let mut letters = dead_letters.read(&selected);
    let written = async {
        while let Some(letter) = letters.next().await? {
            serde_json::to_writer(&mut out, &LetterRow::new(dead_letters, letter))
                .map_err(io::Error::from)?;
            out.write_all(b"\n")?;
            progress.add(1);
        }
        Ok::<_, Failure>(out.flush()?)
    };
    shown("exporting", &progress, written).await?;
    let Some(file) = to.file else { return Ok(()) };
    let exported = Exported { exported: progress.done() };
    let text = || format!("exported {} to {}", exported.exported, file.display());
    context.output.one(&exported, text)
}

/// A file that exists is kept: it may be the export of what was discarded since.
fn opened(file: Option<&Path>) -> Result<Box<dyn Write>, Failure> {
    let Some(path) = file else { return Ok(Box::new(BufWriter::new(io::stdout()))) };
    let created = File::create_new(path).map_err(|error| {
        Failure::failed(format!(
            "cannot create {}: {error}. Nothing was exported. Name a file that does not exist yet",
            path.display()
        ))
    })?;
    Ok(Box::new(BufWriter::new(created)))
}
