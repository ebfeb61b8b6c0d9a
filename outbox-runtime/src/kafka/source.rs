//! Settings of Kafka from outside of a program: from its environment, and from files.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::KafkaConfig;
use crate::error::OutboxError;

/// Most bytes of a file with properties, a secret or certificates.
const LARGEST_FILE: u64 = 1024 * 1024;

/// What the names of variables with a property begin with.
const PREFIX: &str = "OUTBOX_KAFKA_";
const FROM_FILE: &str = "_FILE";
/// The file with properties, and the one with a token.
const CONFIG: &str = "OUTBOX_KAFKA_CONFIG";
const TOKEN_FILE: &str = "OUTBOX_KAFKA_TOKEN_FILE";
/// The brokers: ours counts before a property, the common one after it.
const OUR_BROKERS: &str = "OUTBOX_BROKERS";
const BROKERS: &str = "KAFKA_BROKERS";
const BOOTSTRAP_SERVERS: &str = "bootstrap.servers";

/// Properties of librdkafka whose own names end as the variables do that name a file.
const NAMES_OF_FILES: [&str; 3] = [
    "sasl.oauthbearer.assertion.file",
    "sasl.oauthbearer.assertion.private.key.file",
    "sasl.oauthbearer.assertion.jwt.template.file",
];

impl KafkaConfig {
    /// The properties in a file, one `name=value` a line, as `kcat -F` takes it:
    ///
    /// ```text
    /// bootstrap.servers=kafka-1:9093,kafka-2:9093
    /// security.protocol=sasl_ssl
    /// ssl.ca.location=/etc/kafka/ca.pem
    /// sasl.mechanisms=SCRAM-SHA-512
    /// sasl.username=relay
    /// sasl.password=secret
    /// ```
    ///
    /// A line that begins with `#` is a comment. Spaces around a name and a value do not count; any
    /// other character of a value is itself, a backslash and a quotation mark too. The names are
    /// librdkafka's: of Java's, `ssl.truststore.location` is `ssl.ca.location` (a PEM file), and
    /// `sasl.jaas.config` is `sasl.username` and `sasl.password`.
    ///
    /// # Errors
    /// If the file cannot be read or has more than 1 MiB, or if a line is none of these. The error
    /// names the line's number, and does not show it: it may be a secret.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, OutboxError> {
        Self::new("").properties_file(path)
    }

    /// These, and the properties in a file, which count where both have one.
    ///
    /// # Errors
    /// As [`from_file`](Self::from_file).
    pub fn properties_file(self, path: impl AsRef<Path>) -> Result<Self, OutboxError> {
        let path = path.as_ref();
        let text =
            read_bounded(path).map_err(|error| unreadable("the Kafka properties", path, error))?;
        parsed(&text).try_fold(self, |config, (line, property)| match property {
            Some((name, value)) => Ok(config.property(name, value)),
            None => Err(OutboxError::config(format!(
                "line {line} of the Kafka properties in {} is no `name=value` and no `#` comment: nothing was started. It is not \
                 shown, for it may be a secret",
                path.display()
            ))),
        })
    }

    /// What the variables of the process's environment say. Later ones of this list count before
    /// earlier ones; one that is empty is as one that is not set:
    ///
    /// | variable | |
    /// |---|---|
    /// | `KAFKA_BROKERS` | the brokers |
    /// | `OUTBOX_KAFKA_CONFIG` | the path of a file with properties, see [`from_file`](Self::from_file) |
    /// | `OUTBOX_KAFKA_…` | a property: `OUTBOX_KAFKA_SASL_PASSWORD` is `sasl.password` |
    /// | `OUTBOX_KAFKA_…_FILE` | the path of a file with the value of a property, as orchestrators mount secrets: `OUTBOX_KAFKA_SASL_PASSWORD_FILE` |
    /// | `OUTBOX_KAFKA_TOKEN_FILE` | the path of a file with a token, see [`token_file`](Self::token_file) |
    /// | `OUTBOX_BROKERS` | the brokers |
    ///
    /// # Errors
    /// If a file cannot be read, a line of it is no property, or a value is not UTF-8.
    pub fn from_env() -> Result<Self, OutboxError> {
        Self::new("").with_env()
    }

    /// These, and what the variables of the process's environment say, which counts where both have
    /// a property: see [`from_env`](Self::from_env).
    ///
    /// # Errors
    /// As [`from_env`](Self::from_env).
    pub fn with_env(self) -> Result<Self, OutboxError> {
        self.with_variables(env::vars_os())
    }

    fn with_variables(
        self,
        variables: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, OutboxError> {
        let ours = variables.into_iter().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let is_ours = name.starts_with(PREFIX) || name == OUR_BROKERS || name == BROKERS;
            (is_ours && !value.is_empty()).then_some((name, value))
        });
        let mut variables = Vec::new();
        for (name, value) in ours {
            let value = value.into_string().map_err(|_| {
                OutboxError::config(format!(
                    "the variable {name} is not UTF-8: nothing was started. Correct it"
                ))
            })?;
            variables.push((name, value));
        }
        // Whichever order the environment has.
        variables.sort_unstable();
        let value_of = |wanted| {
            let found = variables.iter().find(|(name, _)| name == wanted);
            found.map(|(_, value)| value.as_str())
        };
        let mut config = self;
        if let Some(brokers) = value_of(BROKERS) {
            config = config.property(BOOTSTRAP_SERVERS, brokers);
        }
        if let Some(path) = value_of(CONFIG) {
            config = config.properties_file(path)?;
        }
        for (name, value) in &variables {
            if let Some((property, value)) = property(name, value)? {
                config = config.property(property, value);
            }
        }
        if let Some(path) = value_of(TOKEN_FILE) {
            config = config.token_file(path);
        }
        if let Some(brokers) = value_of(OUR_BROKERS) {
            config = config.property(BOOTSTRAP_SERVERS, brokers);
        }
        Ok(config)
    }
}

/// The property that a variable sets.
fn property(variable: &str, value: &str) -> Result<Option<(String, String)>, OutboxError> {
    let Some(name) = variable.strip_prefix(PREFIX) else { return Ok(None) };
    if variable == CONFIG || variable == TOKEN_FILE {
        return Ok(None);
    }
    let spelled = |name: &str| name.to_ascii_lowercase().replace('_', ".");
    let whole = spelled(name);
    match name.strip_suffix(FROM_FILE) {
        Some(name) if !NAMES_OF_FILES.contains(&&*whole) => {
            let secret = read_bounded(Path::new(value))
                .map_err(|error| unreadable(variable, Path::new(value), error))?;
            Ok(Some((spelled(name), secret.trim_end_matches(['\r', '\n']).to_owned())))
        }
        _ => Ok(Some((whole, value.to_owned()))),
    }
}

fn unreadable(what: &str, path: &Path, error: io::Error) -> OutboxError {
    OutboxError::config(format!(
        "cannot read {what} from {}: {error}. Nothing was started",
        path.display()
    ))
}

/// The numbers of lines that mean something, and what they mean.
fn parsed(text: &str) -> impl Iterator<Item = (usize, Option<(&str, &str)>)> {
    let lines = text.lines().enumerate().map(|(n, line)| (n + 1, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(n, line)| {
        let property = line.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        (n, property.filter(|(name, _)| !name.is_empty()))
    })
}

/// The text of a file that is not absurdly long, such as a device.
pub(super) fn read_bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LARGEST_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LARGEST_FILE {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 1 MiB"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    /// A file that is removed with this.
    struct Written(PathBuf);

    impl Written {
        fn new(text: &[u8]) -> Self {
            static COUNTER: AtomicU32 = AtomicU32::new(0);
            let n = COUNTER.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("outbox-kafka-{}-{n}", std::process::id()));
            std::fs::write(&path, text).unwrap();
            Self(path)
        }

        fn path(&self) -> &str {
            self.0.to_str().unwrap()
        }
    }

    impl Drop for Written {
        fn drop(&mut self) {
            let _ = std::fs::remove_file(&self.0);
        }
    }

    fn from(variables: &[(&str, &str)]) -> Result<KafkaConfig, OutboxError> {
        let variables = variables.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        KafkaConfig::new("").with_variables(variables)
    }

    fn get<'c>(config: &'c KafkaConfig, name: &str) -> Option<&'c str> {
        config.set_by_user().get(name)
    }

    #[test]
    fn a_file_has_a_property_a_line_and_every_character_of_a_value_is_itself() {
        let file = Written::new(
            b"# the cluster\r\n\r\nbootstrap.servers = a:1,b:2 \r\nsasl.password=hun=ter\\2\"\r\n",
        );
        let config = KafkaConfig::from_file(&file.0).unwrap();
        assert_eq!(get(&config, "bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(get(&config, "sasl.password"), Some("hun=ter\\2\""));
        let config = KafkaConfig::new("c:3").property("client.id", "relay");
        let config = config.properties_file(&file.0).unwrap();
        assert_eq!(get(&config, "bootstrap.servers"), Some("a:1,b:2"));
        assert_eq!(get(&config, "client.id"), Some("relay"));
    }

    #[test]
    fn a_line_that_is_no_property_is_named_by_its_number_and_not_shown() {
        for wrong in [&b"a=b\nhunter2\n"[..], b"# x\n=hunter2"] {
            let file = Written::new(wrong);
            let error = KafkaConfig::from_file(&file.0).unwrap_err().to_string();
            assert!(error.contains("line 2") && error.contains(file.path()), "{error}");
            assert!(!error.contains("hunter2"), "{error}");
        }
        let error = KafkaConfig::from_file("/no/such/file").unwrap_err().to_string();
        assert!(
            error.contains("/no/such/file") && error.contains("Nothing was started"),
            "{error}"
        );
        let endless = KafkaConfig::from_file("/dev/zero").unwrap_err().to_string();
        assert!(endless.contains("more than 1 MiB"), "{endless}");
    }

    #[test]
    fn a_variable_is_a_property_by_its_name_or_names_a_file_with_its_value() {
        let secret = Written::new(b"hunter2\n");
        let config = from(&[
            ("PATH", "/bin"),
            ("OUTBOX_KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
            ("OUTBOX_KAFKA_SASL_PASSWORD_FILE", secret.path()),
            ("OUTBOX_KAFKA_SASL_OAUTHBEARER_ASSERTION_FILE", "/a/jwt"),
            ("OUTBOX_KAFKA_SASL_USERNAME", ""),
            ("KAFKA_BROKERS", "a:1"),
        ])
        .unwrap();
        assert_eq!(get(&config, "security.protocol"), Some("sasl_ssl"));
        assert_eq!(get(&config, "sasl.password"), Some("hunter2"));
        assert_eq!(get(&config, "sasl.oauthbearer.assertion.file"), Some("/a/jwt"));
        assert_eq!(get(&config, "sasl.username"), None);
        assert_eq!(get(&config, "bootstrap.servers"), Some("a:1"));
        let error = from(&[("OUTBOX_KAFKA_SASL_PASSWORD_FILE", "/no/such")]).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("OUTBOX_KAFKA_SASL_PASSWORD_FILE"), "{error}");
    }

    #[test]
    fn our_variables_count_before_the_file_and_the_file_before_the_common_one() {
        let file = Written::new(b"bootstrap.servers=file:1\nsasl.username=of the file\n");
        let common = ("KAFKA_BROKERS", "common:1");
        let path = ("OUTBOX_KAFKA_CONFIG", file.path());
        let property = ("OUTBOX_KAFKA_BOOTSTRAP_SERVERS", "property:1");
        let ours = ("OUTBOX_BROKERS", "ours:1");
        let user = ("OUTBOX_KAFKA_SASL_USERNAME", "of the variable");
        for (variables, brokers, username) in [
            (&[common][..], "common:1", None),
            (&[common, path], "file:1", Some("of the file")),
            (&[user, common, path, property], "property:1", Some("of the variable")),
            (&[ours, user, common, path, property], "ours:1", Some("of the variable")),
        ] {
            let config = from(variables).unwrap();
            assert_eq!(get(&config, "bootstrap.servers"), Some(brokers));
            assert_eq!(get(&config, "sasl.username"), username);
        }
    }
}
