//! `outbox contracts`.

mod register;
mod render;
mod source;

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use outbox_contracts::{Lock, Mode, Violation, differences, report, worded};

use crate::context::Context;
use crate::failure::Failure;
use crate::output::print;
use source::Source;
pub use source::{read_file as read_lock, read_topics};

/// What consumers rely on of the events of a project, in its file events.lock
///
/// Needs no database, no Kafka and no compiler; `register` needs a schema registry.
#[derive(Debug, Subcommand)]
pub enum Command {
    Check(CheckArgs),
    Diff(DiffArgs),
    Render(render::RenderArgs),
    Register(register::RegisterArgs),
}

/// Check that a change of events breaks no consumer; exits with 100 if it does
///
/// Without --against, only the file itself is checked.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  outbox contracts check --against git:origin/main\n  \
    outbox contracts check --against git:origin/main --error-format github\n  \
    outbox contracts check --lock events.lock --against released/events.lock --mode backward")]
pub struct CheckArgs {
    #[command(flatten)]
    lock: LockArgs,
    /// The state to compare with: git:REVISION, whose file of the same path is taken,
    /// git:REVISION:PATH, or a file
    #[arg(long, value_name = "SOURCE", value_parser = Source::parse)]
    against: Option<Source>,
    /// Who must read whose events: backward, forward, full, or one of these with -transitive
    /// [default: what the lock that is compared with says, which is full-transitive if nothing]
    #[arg(long, value_name = "MODE")]
    mode: Option<Mode>,
    /// How violations are said
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t = ErrorFormat::Text)]
    error_format: ErrorFormat,
}

/// Say in words what a change of events means for their consumers, for those who review it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  outbox contracts diff --against git:origin/main\n  \
    outbox contracts diff --against git:origin/main --markdown")]
pub struct DiffArgs {
    #[command(flatten)]
    lock: LockArgs,
    /// The state to compare with: git:REVISION, git:REVISION:PATH, or a file
    #[arg(long, value_name = "SOURCE", value_parser = Source::parse, default_value = "git:HEAD")]
    against: Source,
    /// As Markdown, for a comment on a pull request
    #[arg(long)]
    markdown: bool,
}

#[derive(Debug, Args)]
struct LockArgs {
    /// The file with the events
    #[arg(long, value_name = "FILE", default_value = "events.lock")]
    lock: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum ErrorFormat {
    /// As the compiler does
    Text,
    /// As annotations of a pull request on GitHub
    Github,
    /// One JSON object a line
    Json,
    /// As a JUnit report of tests
    Junit,
}

pub fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Check(args) => check(args, context),
        Command::Diff(args) => diff(args),
        Command::Render(args) => render::render(args, context),
        Command::Register(args) => register::register(args, context),
    }
}

fn check(args: &CheckArgs, context: &Context) -> Result<(), Failure> {
    let file = args.lock.lock.display().to_string();
    let new = args.lock.read()?;
    let violations = match &args.against {
        None => outbox_contracts::check_alone(&new),
        Some(source) => outbox_contracts::check(&source.read(&args.lock.lock)?, &new, args.mode),
    };
    let said = match args.error_format {
        ErrorFormat::Text => report::text(&violations, &file),
        ErrorFormat::Github => report::github(&violations, &file),
        ErrorFormat::Json => report::json(&violations, &file),
        ErrorFormat::Junit => report::junit(&violations, &new, &file),
    };
    print(&said)?;
    outcome(&violations, &new, args.against.as_ref(), context)
}

fn outcome(
    violations: &[Violation],
    lock: &Lock,
    against: Option<&Source>,
    context: &Context,
) -> Result<(), Failure> {
    if violations.is_empty() {
        let events = crate::text::counted(lock.events.len() as u64, "event");
        context.output.say(match against {
            Some(against) => {
                format!("{events} checked against {against}: nothing breaks a consumer")
            }
            None => format!(
                "{events} checked, and compared with nothing: --against git:origin/main compares"
            ),
        });
        return Ok(());
    }
    let violations = crate::text::counted(violations.len() as u64, "change");
    Err(Failure::contract(format!("{violations} would break consumers. Nothing was changed")))
}

fn diff(args: &DiffArgs) -> Result<(), Failure> {
    let (old, new) = (args.against.read(&args.lock.lock)?, args.lock.read()?);
    print(&worded(&differences(&old, &new), args.markdown))
}

impl LockArgs {
    fn read(&self) -> Result<Lock, Failure> {
        source::read_file(&self.lock)
    }
}
