//! `outbox contracts render`.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use outbox_contracts::{EventName, Info, Lock, Topics, asyncapi, eventcatalog, html, schema};
use serde_json::json;

use super::LockArgs;
use super::source::read_topics;
use crate::context::Context;
use crate::failure::Failure;
use crate::text::counted;

/// Make files of the events, for those who have no Rust
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  outbox contracts render jsonschema --out contracts\n  \
    outbox contracts render asyncapi --title Orders --release 1.4.0")]
pub struct RenderArgs {
    /// What is made: jsonschema is a JSON schema (2020-12) for each event, in
    /// <topic>/<name>.v<version>.json; asyncapi is one AsyncAPI 3.0 document of all, in
    /// asyncapi.json; backstage is that document, and the entity that names it to Backstage, in
    /// catalog-info.yaml; eventcatalog is the pages of a service, its channels and its events, for a
    /// catalogue of EventCatalog; html is one page of all for people, without scripts, in index.html
    #[arg(value_enum)]
    what: What,
    /// Title of the AsyncAPI document, the entity, the service or the page
    #[arg(long, value_name = "TEXT", default_value = "Events")]
    title: String,
    /// Version that the AsyncAPI document, or the service of EventCatalog, says it has
    #[arg(long, value_name = "VERSION", default_value = "1.0.0")]
    release: String,
    /// Who owns the events: a group or user of Backstage, such as team-orders
    #[arg(long, value_name = "ENTITY", required_if_eq("what", "backstage"))]
    owner: Option<String>,
    #[command(flatten)]
    lock: LockArgs,
    /// The file topics.toml, whose partitions, replicas and settings of topics the AsyncAPI document
    /// then has
    #[arg(long, value_name = "FILE")]
    topics: Option<PathBuf>,
    /// The folder to write into; files of other events stay
    #[arg(long, value_name = "FOLDER", default_value = "contracts")]
    out: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    Jsonschema,
    Asyncapi,
    Backstage,
    Eventcatalog,
    Html,
}

pub fn render(args: &RenderArgs, context: &Context) -> Result<(), Failure> {
    let lock = args.lock.read()?;
    match args.what {
        What::Jsonschema => json_schemas(&lock, args, context),
        What::Asyncapi => one(DOCUMENT, &document(&lock, args)?, args, context),
        What::Backstage => {
            let entity = entity(&args.title, args.owner.as_deref().unwrap_or_default())?;
            one(DOCUMENT, &document(&lock, args)?, args, context)?;
            one("catalog-info.yaml", &entity, args, context)
        }
        What::Eventcatalog => catalog(&lock, args, context),
        What::Html => one("index.html", &html(&lock, &args.title), args, context),
    }
}

const DOCUMENT: &str = "asyncapi.json";

fn document(lock: &Lock, args: &RenderArgs) -> Result<String, Failure> {
    let topics = match &args.topics {
        None => Topics::default(),
        Some(file) => read_topics(file, lock)?,
    };
    Ok(format!("{:#}\n", asyncapi(lock, &info(args), &topics)))
}

fn info(args: &RenderArgs) -> Info {
    Info { title: args.title.clone(), version: args.release.clone() }
}

/// An API of Backstage. A text of JSON is one of YAML, too.
fn entity(title: &str, owner: &str) -> Result<String, Failure> {
    /// Most characters of a name.
    const MOST: usize = 63;
    let words = title.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let mut name = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
    name.truncate(MOST);
    let name = name.trim_end_matches('-');
    if name.is_empty() {
        return Err(Failure::usage(format!(
            "`{title}` has no letter or digit of which the entity's name could be made, and nothing was written: choose \
             another `--title`"
        )));
    }
    Ok(format!(
        "apiVersion: backstage.io/v1alpha1\nkind: API\nmetadata:\n  name: {}\n  title: {}\nspec:\n  type: asyncapi\n  \
         lifecycle: production\n  owner: {}\n  definition:\n    $text: ./{DOCUMENT}\n",
        json!(name),
        json!(title),
        json!(owner)
    ))
}

/// Writes a file of which there is one.
fn one(name: &str, text: &str, args: &RenderArgs, context: &Context) -> Result<(), Failure> {
    let file = args.out.join(name);
    write(&file, text)?;
    context.output.say(format_args!("{} written", file.display()));
    Ok(())
}

fn catalog(lock: &Lock, args: &RenderArgs, context: &Context) -> Result<(), Failure> {
    let files = eventcatalog(lock, &info(args));
    for file in &files {
        let path: PathBuf = file.path.iter().map(|part| file_name(part)).collect();
        write(&args.out.join(path), &file.text)?;
    }
    let files = counted(files.len() as u64, "file");
    context.output.say(format_args!("{files} written into {}", args.out.display()));
    Ok(())
}

fn json_schemas(lock: &Lock, args: &RenderArgs, context: &Context) -> Result<(), Failure> {
    let (mut written, mut unknown) = (0_u64, 0_u64);
    for (name, contract) in &lock.events {
        let Some(payload) = &contract.payload else {
            unknown += 1;
            continue;
        };
        let schema = schema::document(name, payload);
        write(&args.out.join(path_of(name)), &format!("{schema:#}\n"))?;
        written += 1;
    }
    let files = counted(written, "file");
    context.output.say(format_args!("{files} written into {}", args.out.display()));
    if unknown > 0 {
        let events = counted(unknown, "event");
        context.output.say(format_args!(
            "{events} without one: the lock does not say what is in the payload"
        ));
    }
    Ok(())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let wrong = |error| Failure::failed(format!("cannot write {}: {error}", path.display()));
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(wrong)?;
    }
    fs::write(path, text).map_err(wrong)
}

/// Where the schema of an event is, in the folder of schemas.
pub(super) fn path_of(name: &EventName) -> PathBuf {
    let file = format!("{}.v{}.json", file_name(&name.name), name.version);
    PathBuf::from(file_name(&name.topic)).join(file)
}

/// A name as that of a file: it leads out of no folder, and two names are two files.
fn file_name(name: &str) -> String {
    let mut file = String::new();
    for (i, byte) in name.bytes().enumerate() {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if plain || (byte == b'.' && i > 0) {
            file.push(char::from(byte));
        } else {
            file.push_str(&format!("%{byte:02x}"));
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_leads_out_of_no_folder() {
        let path = |topic, name| path_of(&EventName::new(topic, name, 2)).display().to_string();
        assert_eq!(path("shop.orders", "order.placed"), "shop.orders/order.placed.v2.json");
        assert_eq!(path("..", "../a\u{1b}é"), "%2e./%2e.%2fa%1b%c3%a9.v2.json");
        assert_ne!(path("a", "b%2f"), path("a", "b/"));
    }
}
