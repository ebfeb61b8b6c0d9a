//! `outbox doctor`.

mod cluster;
mod database;
mod exactly_once;
mod finding;
mod tables;

use std::collections::BTreeSet;
use std::time::SystemTime;

use outbox::OutboxDatabase;
use outbox::consume::ClusterDescription;
use outbox::kafka::KafkaConfig;
use serde::Serialize;

use super::relay::Delivery;
use crate::connect::with_outbox;
use crate::context::Context;
use crate::failure::Failure;
use crate::output::Row;
use crate::settings::Source;
use crate::text::counted;
use exactly_once::Delivered;
use finding::{Area, Finding, Verdict};

/// Examine the database, the tables, Kafka and the topics: what is wrong, and what to do
///
/// It changes nothing. The exit code is 1 if something fails, 69 if the database or Kafka does not
/// answer.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Exits with 1 for warnings, too
    #[arg(long)]
    pub deny_warnings: bool,
    /// Examines only these: db, schema, kafka, topics, clock
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "AREAS",
        hide_possible_values = true
    )]
    pub only: Vec<Area>,
    /// A topic to examine beside those of the latest events, by its name on the brokers; several are
    /// allowed
    #[arg(long = "topic", value_name = "TOPIC")]
    pub topics: Vec<String>,
    /// Examines what this delivery asks for, also if the outbox is not delivered so yet: exactly-once
    #[arg(long, value_enum, value_name = "HOW", hide_possible_values = true)]
    pub delivery: Option<Delivery>,
}

/// What is found so far.
#[derive(Default)]
struct Report {
    findings: Vec<Finding>,
    topics: BTreeSet<String>,
    /// Whether it is, or is to be, delivered exactly once.
    is_exactly_once: bool,
    /// `None`: it is not, or that is not known.
    delivered: Option<Delivered>,
    /// Whether the database or Kafka did not answer.
    unreachable: bool,
}

pub async fn run(args: &Args, context: &Context) -> Result<(), Failure> {
    let mut report = Report {
        topics: args.topics.iter().cloned().collect(),
        is_exactly_once: args.delivery == Some(Delivery::ExactlyOnce),
        ..Report::default()
    };
    let examines = |area| args.only.is_empty() || args.only.contains(&area);
    // The topics of the latest events are in the database.
    if [Area::Db, Area::Schema, Area::Clock, Area::Topics].into_iter().any(examines) {
        match context.outbox().await {
            Err(failure) => report.refused(Area::Db, "server", failure),
            Ok(any) => {
                with_outbox!(any, outbox => Box::pin(of_outbox(&outbox, context, &mut report)).await)
            }
        }
    }
    if [Area::Kafka, Area::Topics].into_iter().any(examines) {
        of_kafka(context, &mut report).await;
    }
    // Without the database, nothing else is known of what was asked for.
    let is_unanswered =
        |finding: &Finding| finding.check == "server" && finding.verdict == Verdict::Fail;
    report.findings.retain(|finding| examines(finding.area) || is_unanswered(finding));
    report.findings.sort_by_key(|finding| finding.area);
    shown(args, context, &report)
}

impl Report {
    fn refused(&mut self, area: Area, check: &'static str, failure: Failure) {
        self.unreachable |= failure.is_unreachable();
        let fix = "correct what the error names, then run this again";
        self.findings.push(Finding::fail(area, check, failure.to_string(), fix));
    }
}

async fn of_outbox<DB: OutboxDatabase>(
    outbox: &outbox::Outbox<DB>,
    context: &Context,
    report: &mut Report,
) {
    let asked = SystemTime::now();
    let diagnosis = match outbox.diagnose().await {
        Ok(diagnosis) => diagnosis,
        Err(error) => return report.refused(Area::Db, "server", error.into()),
    };
    report.findings.extend(database::findings(&diagnosis));
    report.findings.push(database::clock(diagnosis.at, asked, SystemTime::now()));
    let prefix = context.topic_prefix();
    report.topics.extend(diagnosis.topics.iter().map(|topic| format!("{prefix}{topic}")));
    let migrations = match outbox.migration_status().await {
        Ok(migrations) => migrations,
        Err(error) => return report.refused(Area::Schema, "version", error.into()),
    };
    report.findings.push(tables::version(&migrations));
    if migrations.version == 0 {
        return;
    }
    report.findings.extend(tables::rights(&diagnosis));
    match outbox.status().await {
        Ok(status) => {
            report.findings.extend(tables::relays(&status, &diagnosis));
            match Delivered::of(&status, prefix) {
                Ok(delivered) => report.delivered = delivered,
                Err(failure) => report.refused(Area::Topics, "progress", failure),
            }
        }
        Err(error) => report.refused(Area::Schema, "relays", error.into()),
    }
    report.is_exactly_once |= report.delivered.is_some();
    if report.is_exactly_once {
        report.findings.extend(exactly_once::of_database(&diagnosis));
        report.findings.extend(tables::rights_for_exactly_once(&diagnosis));
    }
}

async fn of_kafka(context: &Context, report: &mut Report) {
    let kafka = match context.kafka() {
        Ok(kafka) => kafka,
        Err(failure) => return report.refused(Area::Kafka, "settings", failure),
    };
    let wanted = report.topics.clone();
    let progress = report.delivered.as_ref().map(|delivered| delivered.topic.clone());
    let is_wanted =
        |topic: &str| cluster::is_of_interest(topic, &wanted) || progress.as_deref() == Some(topic);
    match ClusterDescription::ask(kafka.clone(), is_wanted).await {
        Ok(described) => {
            report.findings.push(cluster::brokers(&described));
            report.findings.extend(cluster::topics(&described, &report.topics));
            if let Some(delivered) = &report.delivered {
                report.findings.extend(exactly_once::of_topic(delivered, &described));
            }
            if report.is_exactly_once {
                transactions(&described, kafka, report).await;
            }
        }
        Err(error) => report.refused(Area::Kafka, "brokers", error.into()),
    }
}

async fn transactions(described: &ClusterDescription, kafka: KafkaConfig, report: &mut Report) {
    match described.broker_settings(kafka).await {
        Ok(settings) => report.findings.extend(exactly_once::of_brokers(&settings)),
        Err(error) => report.refused(Area::Kafka, "transactions", error.into()),
    }
}

/// A setting, and where it is from.
#[derive(Serialize)]
struct Used {
    setting: String,
    value: String,
    source: String,
}

impl Row for Used {
    const COLUMNS: &'static [&'static str] = &["SETTING", "VALUE", "FROM"];

    fn cells(&self) -> Vec<String> {
        vec![self.setting.clone(), crate::text::one_line(&self.value), self.source.clone()]
    }
}

fn shown(args: &Args, context: &Context, report: &Report) -> Result<(), Failure> {
    if !context.output.is_for_programs() {
        let used: Vec<Used> = context
            .settings
            .shown()
            .into_iter()
            .chain(kafka_variables())
            .map(|(setting, value, source)| Used { setting, value, source: source.to_string() })
            .collect();
        context.output.say(context.output.table(&used));
    }
    context.output.list(report.findings.iter().cloned())?;
    let count =
        |verdict| report.findings.iter().filter(|found| found.verdict == verdict).count() as u64;
    let (failed, warned) = (count(Verdict::Fail), count(Verdict::Warn));
    let verdict = format!("{} failed, {}", counted(failed, "check"), counted(warned, "warning"));
    if report.unreachable {
        return Err(Failure::unreachable(verdict));
    }
    if failed > 0 || (args.deny_warnings && warned > 0) {
        return Err(Failure::failed(verdict));
    }
    Ok(())
}

/// The properties of Kafka's clients that the environment has. Whatever they are, they may be
/// secret.
fn kafka_variables() -> impl Iterator<Item = (String, String, Source)> {
    let ours = |name: &String| name.starts_with("OUTBOX_KAFKA_");
    let mut names: Vec<String> =
        std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()).filter(ours).collect();
    names.sort_unstable();
    names.into_iter().map(|name| ("kafka".to_owned(), "…".to_owned(), Source::Variable(name)))
}
