//! Words that other libraries use for what our keys say, and what to write for them here.

use proc_macro2::TokenTree;
use syn::parse::ParseStream;
use syn::token::Paren;
use syn::{Token, parenthesized};

use crate::symbol::{
    CODEC, CRATE, DUPLICATE, EMITTED_BY, HEADER, ID, KEY, KEYLESS, NAME, OCCURRED_AT, READ_ONLY,
    TOPIC, TRANSPARENT, UNLOCKED, UPCAST_FROM, VERSION,
};

/// What a word means that is no key of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    /// One of our keys.
    Key(&'static str),
    /// Something that is not said here; what to do instead.
    Elsewhere(&'static str),
}

/// Of Debezium, Spring (Kafka, Cloud Stream, Modulith), the crates for CQRS and event sourcing,
/// CloudEvents and serde. Written without `_`, in lowercase.
const WORDS: &[(&str, &[&str])] = &[
    (
        TOPIC,
        &[
            "aggregate",
            "aggregatetype",
            "channel",
            "dest",
            "destination",
            "eventtopic",
            "exchange",
            "kafkatopic",
            "outputchannel",
            "queue",
            "route",
            "routeto",
            "stream",
            "subject",
            "target",
            "topicname",
            "topics",
        ],
    ),
    (
        NAME,
        &[
            "alias",
            "cetype",
            "eventname",
            "eventtype",
            "kind",
            "messagename",
            "messagetype",
            "rename",
            "title",
            "ty",
            "type",
            "typename",
        ],
    ),
    (
        VERSION,
        &[
            "ceversion",
            "dataversion",
            "eventversion",
            "payloadversion",
            "rev",
            "revision",
            "schemaversion",
            "v",
            "ver",
        ],
    ),
    (
        CODEC,
        &[
            "contenttype",
            "datacontenttype",
            "encoder",
            "encoding",
            "format",
            "mediatype",
            "serialization",
            "serializer",
            "valueserializer",
        ],
    ),
    (KEYLESS, &["nokey", "roundrobin", "unkeyed", "unordered", "withoutkey"]),
    (DUPLICATE, &["allowduplicate", "duplicateof", "mirror", "sameas"]),
    (
        UPCAST_FROM,
        &[
            "evolvesfrom",
            "from",
            "migrate",
            "migratefrom",
            "oldversion",
            "previous",
            "previousversion",
            "prior",
            "replaces",
            "supersedes",
            "upcast",
            "upcaster",
            "upcasts",
        ],
    ),
    (
        READ_ONLY,
        &["consumeonly", "deserializeonly", "inbound", "legacy", "noserialize", "readonly"],
    ),
    (UNLOCKED, &["internal", "nocontract", "nolock", "private", "skipcontract", "skiplock"]),
    (
        EMITTED_BY,
        &["contract", "emitter", "lock", "lockfile", "producedby", "producer", "publishedby"],
    ),
    (CRATE, &["cratepath", "krate", "outbox", "path"]),
    (
        KEY,
        &[
            "aggregateid",
            "entityid",
            "eventkey",
            "kafkakey",
            "keyfield",
            "keys",
            "messagekey",
            "orderby",
            "orderingkey",
            "partitionby",
            "partitionkey",
            "recordkey",
            "routingkey",
            "shardkey",
            "streamid",
        ],
    ),
    (
        HEADER,
        &[
            "attribute",
            "attributes",
            "extension",
            "headername",
            "headers",
            "kafkaheader",
            "meta",
            "metadata",
            "property",
        ],
    ),
    (
        ID,
        &[
            "ceid",
            "dedupid",
            "dedupkey",
            "deduplicationid",
            "eventid",
            "idempotencyid",
            "idempotencykey",
            "messageid",
            "uniqueid",
            "uuid",
        ],
    ),
    (
        OCCURRED_AT,
        &[
            "at",
            "cetime",
            "createdat",
            "date",
            "datetime",
            "eventtime",
            "happenedat",
            "occurred",
            "occurredon",
            "time",
            "timestamp",
            "ts",
        ],
    ),
];

/// The same for what is not said on an event.
const ELSEWHERE: &[(&str, &[&str])] = &[
    (
        "serde's own attributes are left alone: write `#[serde(…)]`",
        &[
            "content",
            "default",
            "deserializewith",
            "flatten",
            "ignore",
            "into",
            "other",
            "serde",
            "serializewith",
            "skip",
            "skipserializing",
            "skipserializingif",
            "tag",
            "tryfrom",
            "untagged",
            "with",
        ],
    ),
    (
        "each name on the wire is said where its event is: `name = \"order.created\"`",
        &["renameall", "prefix", "typeprefix", "nameprefix"],
    ),
    (
        "the key decides the partition; `tx.emit_to_partition` sends one event to another",
        &["partition", "partitioner"],
    ),
    (
        "the partitions and settings of a topic are said where it is made: leave this out",
        &[
            "acks",
            "cleanuppolicy",
            "compacted",
            "partitions",
            "replicas",
            "replication",
            "retention",
        ],
    ),
    ("`tx.emit_tombstone` emits one: leave this out", &["delete", "deleted", "tombstone"]),
    (
        "the whole event is the payload: leave this out, and `#[serde(skip)]` what is not part of it",
        &["body", "data", "payload", "value"],
    ),
    (
        "the source is said on the publisher, for all events: `KafkaPublisher::builder(…).source(\"/orders\")`",
        &["cesource", "source"],
    ),
    (
        "all events are in the table of their outbox: leave this out",
        &["outboxtable", "schema", "table", "tablename"],
    ),
    (
        "every event is written in its transaction: leave this out",
        &["externalized", "outboxed", "persistent", "transactional"],
    ),
];

impl Meaning {
    pub(super) fn of(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase().replace('_', "");
        let find = |table: &'static [(&'static str, &[&str])]| {
            table.iter().find(|(_, words)| words.contains(&&*word)).map(|(meaning, _)| *meaning)
        };
        let is_key = EXAMPLES.iter().map(|(key, _)| *key).find(|key| key.replace('_', "") == word);
        is_key
            .or_else(|| find(WORDS))
            .map(Self::Key)
            .or_else(|| find(ELSEWHERE).map(Self::Elsewhere))
    }
}

/// How each key is written.
const EXAMPLES: [(&str, &str); 16] = [
    (TOPIC, "topic = \"order-events\""),
    (NAME, "name = \"order.created\""),
    (VERSION, "version = 1"),
    (CODEC, "codec = outbox::codec::Json"),
    (KEYLESS, KEYLESS),
    (DUPLICATE, DUPLICATE),
    (UPCAST_FROM, "upcast_from = OrderCreatedV1"),
    (READ_ONLY, READ_ONLY),
    (UNLOCKED, UNLOCKED),
    (EMITTED_BY, "emitted_by = \"../orders/events.lock\""),
    (TRANSPARENT, TRANSPARENT),
    (CRATE, "crate = my_crate::outbox"),
    (KEY, KEY),
    (HEADER, "header = \"x-tenant\""),
    (ID, ID),
    (OCCURRED_AT, OCCURRED_AT),
];

pub(super) fn example(key: &str) -> &'static str {
    EXAMPLES.iter().find(|(known, _)| *known == key).map_or("", |(_, example)| example)
}

/// What was given to a key, as text, to be shown in the help.
pub(super) struct Given(Option<String>);

impl Given {
    /// The value after the key, which stays in `input`.
    pub(super) fn peek(input: ParseStream<'_>) -> Self {
        let ahead = input.fork();
        Self::parse(&ahead).unwrap_or(Self(None))
    }

    fn parse(input: ParseStream<'_>) -> syn::Result<Self> {
        if input.peek(Paren) {
            let inner;
            parenthesized!(inner in input);
            return Ok(Self::tokens(&inner));
        }
        if input.parse::<Option<Token![=]>>()?.is_none() {
            input.parse::<Token![:]>()?;
        }
        Ok(Self::tokens(input))
    }

    fn tokens(input: ParseStream<'_>) -> Self {
        let mut text = String::new();
        while !input.is_empty() && !input.peek(Token![,]) {
            let Ok(token) = input.parse::<TokenTree>() else { break };
            text.push_str(&token.to_string());
        }
        Self((!text.is_empty()).then_some(text))
    }

    /// `key` as it is written, with the value that was given if it has the form that `key` takes.
    pub(super) fn written_as(&self, key: &str) -> String {
        let example = example(key);
        let form = |text: &str| {
            text.chars().next().map(|first| match first {
                '"' => '"',
                '0'..='9' => '0',
                _ => 'a',
            })
        };
        match (example.split_once(" = "), &self.0) {
            (Some((_, value)), Some(given)) if form(value) == form(given) => {
                format!("{key} = {given}")
            }
            _ => example.to_owned(),
        }
    }

    /// The name of a field that was given, and whether it was the path of something in it.
    pub(super) fn field(&self) -> Option<(&str, bool)> {
        let text = self.0.as_deref()?.trim_matches('"').trim_start_matches("self.");
        let is_name = |name: &str| {
            name.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_alphanumeric() || c == '_')
        };
        if !text.split('.').all(is_name) {
            return None;
        }
        match text.split_once('.') {
            Some((field, _)) => Some((field, true)),
            None => Some((text, false)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_other_libraries_are_understood() {
        for (word, key) in [
            ("kafka_topic", TOPIC),
            ("aggregateType", TOPIC),
            ("event_type", NAME),
            ("type", NAME),
            ("schema_version", VERSION),
            ("partition_key", KEY),
            ("aggregate_id", KEY),
            ("readonly", READ_ONLY),
            ("idempotency_key", ID),
            ("occurredAt", OCCURRED_AT),
        ] {
            assert_eq!(Meaning::of(word), Some(Meaning::Key(key)), "{word}");
        }
        assert!(matches!(Meaning::of("skip"), Some(Meaning::Elsewhere(_))));
        assert_eq!(Meaning::of("topik"), None, "a typing error is not a word of another library");
    }

    #[test]
    fn each_word_has_one_meaning_and_is_written_as_it_is_looked_up() {
        let words = || WORDS.iter().chain(ELSEWHERE).flat_map(|(_, words)| *words);
        for word in words() {
            assert_eq!(words().filter(|other| other == &word).count(), 1, "{word}");
            assert_eq!(**word, word.to_ascii_lowercase().replace('_', ""), "{word}");
        }
    }
}
