//! `outbox migrate`.

use std::io::{self, Write as _};

use clap::{Args, Subcommand, ValueEnum};
use outbox::admin::{Direction, Migrate, MigrationStatus, MigrationStep};
use outbox::{Outbox, OutboxDatabase};
use serde::Serialize;

use crate::confirm::Confirm;
use crate::connect::{self, with_outbox};
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::{text, times};

/// The outbox's tables: create them, bring them to another version, print their SQL
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Create the tables, or bring them to the latest version
    Up(Up),
    /// Go back to an earlier version, or remove the tables
    Down(Down),
    /// Print which version the tables have, and which one this program knows
    Status(Status),
    /// Print the SQL that creates the tables, without asking a database
    Print(Print),
}

#[derive(Debug, Args)]
pub struct Up {
    /// The version to go to. Default: the latest one
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
    /// Says what would be done, and does nothing
    #[arg(long)]
    dry_run: bool,
    /// Prints the SQL of each step
    #[arg(long)]
    show_sql: bool,
}

#[derive(Debug, Args)]
pub struct Down {
    /// How many versions to go back
    #[arg(long, value_name = "NUMBER", default_value_t = 1, conflicts_with = "to")]
    steps: u32,
    /// The version to go back to; 0 removes the tables
    #[arg(long, value_name = "VERSION")]
    to: Option<u32>,
    /// Goes back even if events are lost that are not published, are parked, or wait in a consumer
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    confirm: Confirm,
    /// Prints the SQL of each step
    #[arg(long)]
    show_sql: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    /// Exits with 3 if the tables are not of the version that this program knows
    #[arg(long)]
    fail_if_pending: bool,
}

#[derive(Debug, Args)]
pub struct Print {
    /// For which database, if no URL says so
    #[arg(long = "for", value_enum, value_name = "DATABASE", default_value_t = Dialect::Postgres)]
    dialect: Dialect,
}

/// A kind of database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Dialect {
    Postgres,
    Mysql,
    Sqlite,
}

pub async fn run(command: &Command, context: &Context) -> Result<(), Failure> {
    match command {
        Command::Up(args) => {
            with_outbox!(context.outbox().await?, outbox => up(args, context, &outbox).await)
        }
        Command::Down(args) => down(args, context).await,
        Command::Status(args) => {
            let status =
                with_outbox!(context.outbox().await?, outbox => outbox.migration_status().await?);
            print_status(args, context, &status)
        }
        Command::Print(args) => print(args, context),
    }
}

async fn up<DB: OutboxDatabase>(
    args: &Up,
    context: &Context,
    outbox: &Outbox<DB>,
) -> Result<(), Failure> {
    let which = args.to.map_or_else(Migrate::up, Migrate::up_to);
    let steps = if args.dry_run {
        outbox.plan_migration(which).await?
    } else {
        outbox.migrate_with(which).await?
    };
    printed(context, &steps, args.dry_run, args.show_sql)
}

async fn down(args: &Down, context: &Context) -> Result<(), Failure> {
    let what = "removes tables or columns of the outbox, with what is in them";
    let is_to_be_done = args.confirm.is_to_be_done(what)?;
    let mut which = args.to.map_or_else(|| Migrate::down(args.steps), Migrate::down_to);
    if args.force {
        which = which.even_if_events_wait();
    }
    let steps = with_outbox!(context.outbox().await?, outbox => if is_to_be_done {
        outbox.migrate_with(which).await?
    } else {
        outbox.plan_migration(which).await?
    });
    printed(context, &steps, !is_to_be_done, args.show_sql)
}

/// A step as it is printed.
#[derive(Debug, Serialize)]
struct Step {
    version: u32,
    direction: &'static str,
    done: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    sql: Option<String>,
}

impl Row for Step {
    const COLUMNS: &'static [&'static str] = &["VERSION", "DIRECTION", "DONE"];

    fn cells(&self) -> Vec<String> {
        let done = if self.done { "yes" } else { "no, a preview" };
        vec![self.version.to_string(), self.direction.to_owned(), done.to_owned()]
    }
}

fn printed(
    context: &Context,
    steps: &[MigrationStep],
    is_preview: bool,
    show_sql: bool,
) -> Result<(), Failure> {
    if steps.is_empty() {
        context.output.say("nothing to do: the tables have this version already");
        return Ok(());
    }
    if show_sql && !context.output.is_for_programs() {
        let mut out = io::stdout().lock();
        for MigrationStep { version, direction, sql, .. } in steps {
            writeln!(out, "-- version {version}, {}\n{}", word(*direction), sql.trim_end())?;
        }
        return Ok(out.flush()?);
    }
    context.output.list(steps.iter().map(|step| Step {
        version: step.version,
        direction: word(step.direction),
        done: !is_preview,
        sql: show_sql.then(|| step.sql.clone()),
    }))
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Up => "up",
        Direction::Down => "down",
    }
}

#[derive(Debug, Serialize)]
struct Report {
    version: u32,
    latest: u32,
    schema: Option<String>,
    applied: Vec<Applied>,
}

#[derive(Debug, Serialize)]
struct Applied {
    version: u32,
    at: Option<String>,
}

fn print_status(args: &Status, context: &Context, status: &MigrationStatus) -> Result<(), Failure> {
    let applied = status.applied.iter();
    let report = Report {
        version: status.version,
        latest: status.latest,
        schema: status.schema.clone(),
        applied: applied
            .map(|applied| Applied { version: applied.version, at: times::exact(applied.at) })
            .collect(),
    };
    context.output.one(&report, || {
        let schema =
            report.schema.as_deref().map_or_else(|| text::ABSENT.to_owned(), text::one_line);
        let mut shown =
            format!("version  {}\nlatest   {}\nschema   {schema}\n", report.version, report.latest);
        for applied in &status.applied {
            let at = times::seconds(applied.at).unwrap_or_else(|| text::ABSENT.to_owned());
            shown.push_str(&format!("applied  {} at {at}\n", applied.version));
        }
        shown
    })?;
    if args.fail_if_pending && report.version != report.latest {
        let (version, latest) = (report.version, report.latest);
        return Err(Failure::condition(format!(
            "the tables are of version {version}, and this program knows version {latest}"
        )));
    }
    Ok(())
}

fn print(args: &Print, context: &Context) -> Result<(), Failure> {
    let outbox = match context.settings.database {
        Some(_) => connect::unconnected(&context.settings, 1)?,
        None => connect::offline(&context.settings, args.dialect)?,
    };
    let sql = with_outbox!(outbox, outbox => outbox.migration_sql());
    Ok(io::stdout().write_all(sql.as_bytes())?)
}
