//! `outbox relay run --topics`: a relay publishes nothing to topics that are not as their files say.

use std::path::{Path, PathBuf};
use std::time::Duration;

use outbox::kafka::{EventTopics, EventTopicsPlan, TopicDifference};

use crate::commands::topics::files;
use crate::context::Context;
use crate::failure::Failure;

/// Pause between two attempts to ask brokers that are away.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The files.
#[derive(Debug, clap::Args)]
pub struct Files {
    /// The file topics.toml. The relay does not start if a topic of the lock is missing, or has
    /// other partitions than the file says [default: topics are not looked at]
    #[arg(long, env = "OUTBOX_RELAY_TOPICS", hide_env_values = true, value_name = "FILE")]
    topics: Option<PathBuf>,
    /// The file with the events, whose topics are meant [default: events.lock]
    #[arg(
        long,
        env = "OUTBOX_RELAY_LOCK",
        hide_env_values = true,
        value_name = "FILE",
        requires = "topics"
    )]
    lock: Option<PathBuf>,
}

/// The topics that are looked at before anything is published.
pub struct Expected {
    topics: EventTopics,
    /// Options of `outbox topics` that name the same files.
    files: String,
    file: String,
}

impl Files {
    /// `None`: they are not looked at.
    pub fn expected(&self, context: &Context) -> Result<Option<Expected>, Failure> {
        let Some(file) = &self.topics else { return Ok(None) };
        let lock = self.lock.as_deref().unwrap_or(Path::new(files::LOCK));
        let mut topics = files::read(file, lock)?;
        // The rest is no reason to publish nothing.
        for topic in topics.topics.values_mut() {
            topic.replicas = None;
            topic.config.clear();
        }
        Ok(Some(Expected {
            topics: files::event_topics(&topics, context)?,
            files: format!("--topics {} --lock {}", file.display(), lock.display()),
            file: file.display().to_string(),
        }))
    }
}

impl Expected {
    /// Fails if they are not as the files say. It waits for brokers that are away, unless it is for
    /// `once`.
    pub async fn checked(&self, once: bool) -> Result<(), Failure> {
        let mut is_told = false;
        let plan = loop {
            match self.topics.plan().await {
                Ok(plan) => break plan,
                Err(error) if error.is_unreachable() && !once => {
                    if !is_told {
                        tracing::warn!(%error, "Kafka does not say which topics there are: the relay waits for it");
                        is_told = true;
                    }
                    tokio::time::sleep(ASK_AGAIN).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        match self.refusal(&plan) {
            None => Ok(()),
            Some(said) => Err(Failure::configuration(said)),
        }
    }

    fn refusal(&self, plan: &EventTopicsPlan) -> Option<String> {
        let Self { files, file, .. } = self;
        plan.differences().next()?;
        let mut said = format!(
            "topics are not as {file} says. The relay did not start, and nothing was published: events wait in the outbox"
        );
        for (topic, found) in plan.differences() {
            said.push_str(&format!("\n  {}: {found}", topic.name));
        }
        let any = |is: fn(&TopicDifference) -> bool| plan.differences().any(|(_, found)| is(found));
        let missing = any(|found| matches!(found, TopicDifference::Missing { .. }));
        let fewer = any(|found| matches!(found, TopicDifference::FewerPartitions { .. }));
        let other = any(|found| !matches!(found, TopicDifference::Missing { .. }));
        if missing {
            said.push_str(&format!("\n`outbox topics apply {files}` creates what is missing"));
        }
        if other {
            said.push_str(&format!("\nCorrect `partitions` in {file} to what the topic has"));
        }
        if fewer {
            said.push_str(&format!(
                "; or `outbox topics apply {files} --add-partitions` adds those that it lacks, which breaks the order of keys: \
                 see its --help"
            ));
        }
        Some(said)
    }
}
