//! What a command is given besides its own arguments.

use std::time::Duration;

use outbox::kafka::KafkaConfig;

use crate::args::Global;
use crate::connect::{self, AnyOutbox};
use crate::failure::Failure;
use crate::output::Output;
use crate::settings::Settings;

/// The settings, and where output goes.
pub struct Context {
    pub settings: Settings,
    pub output: Output,
    /// `-v` and `-q`: how much is logged, more or less than the command does by itself.
    pub verbosity: i16,
}

impl Context {
    pub fn new(global: &Global, settings: Settings) -> Self {
        let output = Output::new(settings.output.value, settings.color.value);
        let verbosity = i16::from(global.verbose) - i16::from(global.quiet);
        Self { settings, output, verbosity }
    }

    /// The outbox, over a pool with a few connections. The database has answered.
    pub async fn outbox(&self) -> Result<AnyOutbox, Failure> {
        connect::outbox(&self.settings).await
    }

    /// How to reach Kafka.
    pub fn kafka(&self) -> Result<KafkaConfig, Failure> {
        connect::kafka(&self.settings)
    }

    /// Whether anything says where Kafka is: a command that can do without it asks it only then.
    pub fn names_brokers(&self) -> bool {
        let settings = &self.settings;
        let of_file = settings.kafka_of_file.iter().map(|property| &property.value);
        let mut properties = of_file.chain(&settings.properties);
        settings.brokers.is_some()
            || settings.kafka_config.is_some()
            || properties.any(|property| property.name == "bootstrap.servers")
    }

    /// What the names of this deployment's topics begin with on the brokers.
    pub fn topic_prefix(&self) -> &str {
        &self.settings.topic_prefix.value
    }

    /// Longest time to wait for one answer of the database.
    pub fn statement_timeout(&self) -> Duration {
        self.settings.statement_timeout.value
    }
}
