//! Crates of many events or methods, written in different ways.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::Error;
use crate::paths::{create_dir_all, workspace_root};

/// How many events, or methods, a crate has.
pub(super) const ITEMS: usize = 300;

/// One way to write all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The structs only: the base of the others.
    PlainStructs,
    DeriveDomainEvent,
    /// The same implementations, written out.
    DomainEventByHand,
    DeriveSerialize,
    /// Methods with the body that the others have, on a transaction they are given.
    PlainMethods,
    TransactionalOutbox,
    /// `begin`, the body, `commit`.
    TransactionByHand,
    AsyncTrait,
    Instrument,
}

impl Way {
    pub(super) const ALL: [Self; 9] = [
        Self::PlainStructs,
        Self::DeriveDomainEvent,
        Self::DomainEventByHand,
        Self::DeriveSerialize,
        Self::PlainMethods,
        Self::TransactionalOutbox,
        Self::TransactionByHand,
        Self::AsyncTrait,
        Self::Instrument,
    ];

    pub(super) const fn package(self) -> &'static str {
        match self {
            Self::PlainStructs => "plain-structs",
            Self::DeriveDomainEvent => "derive-domain-event",
            Self::DomainEventByHand => "domain-event-by-hand",
            Self::DeriveSerialize => "derive-serialize",
            Self::PlainMethods => "plain-methods",
            Self::TransactionalOutbox => "transactional-outbox",
            Self::TransactionByHand => "transaction-by-hand",
            Self::AsyncTrait => "async-trait-methods",
            Self::Instrument => "instrument-methods",
        }
    }

    pub(super) const fn is_of_events(self) -> bool {
        matches!(
            self,
            Self::PlainStructs
                | Self::DeriveDomainEvent
                | Self::DomainEventByHand
                | Self::DeriveSerialize
        )
    }

    fn code(self) -> String {
        if self.is_of_events() { self.events() } else { self.methods() }
    }

    fn events(self) -> String {
        let mut code = PRELUDE_OF_EVENTS.to_owned();
        for n in 0..ITEMS {
            let (derive, event, key, header) = match self {
                Self::DeriveDomainEvent => (
                    "#[derive(outbox::DomainEvent)]",
                    format!(
                        "#[event(topic = \"orders\", name = \"order.event{n}\", codec = Plain)]"
                    ),
                    "#[event(key)]",
                    "#[event(header)]",
                ),
                Self::DeriveSerialize => ("#[derive(serde::Serialize)]", String::new(), "", ""),
                _ => ("", String::new(), "", ""),
            };
            let _ = write!(
                code,
                "\n{derive}\n{event}\npub struct Event{n} {{\n    pub order: u64,\n    {key}\n    pub customer: String,\n    \
                 {header}\n    pub tenant: String,\n    pub total: i64,\n}}\n"
            );
            if self == Self::DomainEventByHand {
                code.push_str(&EVENT_BY_HAND.replace("$n", &n.to_string()));
            }
        }
        code
    }

    fn methods(self) -> String {
        let mut code = PRELUDE_OF_METHODS.to_owned();
        let (open, close) = match self {
            Self::AsyncTrait => ("#[async_trait::async_trait]\nimpl Orders for Service {", "}\n"),
            _ => ("impl Service {", "}\n"),
        };
        let mut methods = String::new();
        let mut declarations = String::new();
        for n in 0..ITEMS {
            let given = "tx: &mut outbox::OutboxTx<'_, sqlx::Sqlite>, ";
            let (attribute, parameter, before, after, visibility) = match self {
                Self::TransactionalOutbox => {
                    ("#[outbox::transactional_outbox(tx in self.outbox)]", "", "", "", "pub ")
                }
                Self::TransactionByHand => (
                    "",
                    "",
                    "let mut transaction = self.outbox.begin().await?;\n        let tx = &mut transaction;",
                    "transaction.commit().await?;",
                    "pub ",
                ),
                Self::Instrument => ("#[tracing::instrument(skip_all)]", given, "", "", "pub "),
                Self::AsyncTrait => ("", given, "", "", ""),
                _ => ("", given, "", "", "pub "),
            };
            let signature = format!(
                "async fn create{n}(&self, {parameter}id: u64, name: &str) -> Result<u64, OutboxError>"
            );
            let _ = writeln!(declarations, "    {signature};");
            let _ = write!(
                methods,
                "    {attribute}\n    {visibility}{signature} {{\n        {before}\n        let id = insert(tx, id + {n}, name).await?;\n        \
                 tx.emit(Created {{ id }})?;\n        {after}\n        Ok(id)\n    }}\n"
            );
        }
        if self == Self::AsyncTrait {
            let _ = write!(
                code,
                "\n#[async_trait::async_trait]\npub trait Orders {{\n{declarations}}}\n"
            );
        }
        let _ = write!(code, "\n{open}\n{methods}{close}");
        code
    }
}

const PRELUDE_OF_EVENTS: &str = "\
#![allow(dead_code)]

/// Needs nothing of an event, so that only the derive itself is measured.
pub struct Plain;

impl outbox::codec::Codec for Plain {
    const CONTENT_TYPE: &'static str = \"text/plain\";
}

impl<T> outbox::codec::Encode<T> for Plain {
    fn encode(_: &T, _: &mut Vec<u8>) -> Result<(), outbox::codec::CodecError> {
        Ok(())
    }
}
";

const EVENT_BY_HAND: &str = "
impl outbox::DomainEvent for Event$n {
    type Codec = Plain;
    const DESCRIPTORS: &'static [outbox::event::EventDescriptor] = &[outbox::event::EventDescriptor::new(
        \"orders\", \"order.event$n\", 1, Self::CONTENT_TYPE, &[\"customer\"], &[\"tenant\"],
    )];

    fn descriptor(&self) -> &'static outbox::event::EventDescriptor {
        &Self::DESCRIPTORS[0]
    }

    fn key(&self) -> Option<Vec<u8>> {
        Some(self.customer.as_bytes().to_vec())
    }

    fn headers(&self, headers: &mut outbox::event::Headers) {
        headers.insert(\"tenant\", &self.tenant);
    }
}
";

const PRELUDE_OF_METHODS: &str = "\
#![allow(dead_code)]

use outbox::OutboxError;

#[derive(serde::Serialize, outbox::DomainEvent)]
#[event(topic = \"orders\")]
pub struct Created {
    #[event(key)]
    id: u64,
}

pub struct Service {
    outbox: outbox::Outbox<sqlx::Sqlite>,
}

async fn insert(tx: &mut outbox::OutboxTx<'_, sqlx::Sqlite>, id: u64, name: &str) -> Result<u64, sqlx::Error> {
    sqlx::query(\"insert into orders (name) values ($1)\").bind(name).execute(tx).await?;
    Ok(id)
}
";

/// A workspace with a package for each way, which depend on the `outbox` of this one and have its
/// lock file.
pub(super) fn write(dir: &Path) -> Result<(), Error> {
    let root = workspace_root();
    let members: Vec<_> = Way::ALL.iter().map(|way| format!("{:?}", way.package())).collect();
    let manifest = format!("[workspace]\nresolver = \"3\"\nmembers = [{}]\n", members.join(", "));
    write_file(&dir.join("Cargo.toml"), &manifest)?;
    let lock = root.join("Cargo.lock");
    fs::copy(&lock, dir.join("Cargo.lock"))
        .map_err(|error| Error::io(format_args!("copy {}", lock.display()), error))?;
    for way in Way::ALL {
        let package = dir.join(way.package());
        create_dir_all(&package.join("src"))?;
        let manifest = format!(
            "[package]\nname = {:?}\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[dependencies]\n\
             outbox = {{ path = {:?}, features = [\"sqlite\"] }}\n\
             async-trait = \"0.1\"\nserde = {{ version = \"1\", features = [\"derive\"] }}\n\
             sqlx = {{ version = \"0.9\", default-features = false, features = [\"runtime-tokio\"] }}\n\
             tracing = {{ version = \"0.1\", features = [\"attributes\"] }}\n",
            way.package(),
            root.display().to_string(),
        );
        write_file(&package.join("Cargo.toml"), &manifest)?;
        write_file(&source(dir, way), &way.code())?;
    }
    Ok(())
}

pub(super) fn source(dir: &Path, way: Way) -> PathBuf {
    dir.join(way.package()).join("src/lib.rs")
}

fn write_file(path: &Path, content: &str) -> Result<(), Error> {
    fs::write(path, content)
        .map_err(|error| Error::io(format_args!("write {}", path.display()), error))
}
