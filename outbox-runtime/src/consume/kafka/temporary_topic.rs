//! A topic for a while.

use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::error::{ErrorKind, OutboxError};
use crate::kafka::{Brokers, Client, KafkaConfig, connection};

const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// A topic that exists for a while, for a measurement or a trial. Only a topic that
/// [`create`](Self::create) has created can be deleted by it.
pub struct TemporaryTopic {
    admin: Client<AdminClient<Brokers>>,
    name: String,
}

impl TemporaryTopic {
    /// Creates the topic, with as many replicas as the brokers give one. It takes the right to
    /// create it, and to delete it later.
    ///
    /// # Errors
    /// If there is such a topic already, or Kafka does not answer or refuses: no topic was created,
    /// unless the answer was lost.
    pub async fn create(
        kafka: impl Into<KafkaConfig>,
        name: impl Into<String>,
        partitions: i32,
    ) -> Result<Self, OutboxError> {
        let (kafka, name): (KafkaConfig, String) = (kafka.into(), name.into());
        let properties = kafka.set_by_user();
        properties.client(|_, _| None)?;
        if properties.tokens().is_some() {
            return Err(OutboxError::config(format!(
                "the topic `{name}` was not created: with OAUTHBEARER this program cannot create topics"
            )));
        }
        let brokers = Brokers::new(properties, "no topic can be created");
        let admin = connection(properties).create_with_context(brokers.clone());
        let admin: AdminClient<Brokers> = admin.map_err(|error| properties.no_client(error))?;
        let admin = Client::new(admin);
        let created = async {
            let new = NewTopic::new(&name, partitions, TopicReplication::Fixed(-1));
            answered(admin.create_topics([&new], &options()).await?)
        };
        if let Err(error) = created.await {
            let why = brokers.refusal().unwrap_or_else(|| {
                "Does a broker answer, and may this user create topics?".to_owned()
            });
            return Err(OutboxError::new(
                ErrorKind::Kafka,
                format!("the topic `{name}` could not be created. {why}"),
            )
            .with_source(error));
        }
        Ok(Self { admin, name })
    }

    /// Its name on the brokers.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Deletes it, with all that is on it.
    ///
    /// # Errors
    /// If Kafka does not answer or refuses. Then it is still there.
    pub async fn delete(self) -> Result<(), OutboxError> {
        let deleted =
            async { answered(self.admin.delete_topics(&[&self.name], &options()).await?) };
        deleted.await.map_err(|error| {
            let name = &self.name;
            OutboxError::new(
                ErrorKind::Kafka,
                format!("the topic `{name}` could not be deleted, and is still there: `kafka-topics.sh --delete --topic {name}`"),
            )
            .with_source(error)
        })
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(ANSWER_WITHIN)).request_timeout(Some(ANSWER_WITHIN))
}

/// Of one topic.
fn answered(results: Vec<Result<String, (String, RDKafkaErrorCode)>>) -> Result<(), KafkaError> {
    match results.into_iter().next() {
        Some(Err((_, code))) => Err(KafkaError::AdminOp(code)),
        _ => Ok(()),
    }
}

impl std::fmt::Debug for TemporaryTopic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TemporaryTopic").field("name", &self.name).finish_non_exhaustive()
    }
}
