//! A stand-in of a schema registry, for tests of what a registry may answer (`java.rs` has a real
//! one). It has the parts of Confluent's REST API that read schemas; a test registers them
//! by a function, or has the answer written out. It compares texts as they are.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use outbox_registry::RegistryConfig;
use serde_json::{Value, json};

pub struct StandIn {
    pub url: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Subject, id, type and text, in the order of registration.
    schemas: Vec<(String, i32, String, String)>,
    /// What was asked: method, path and header lines.
    asked: Vec<(String, String)>,
    /// What is answered to everything instead.
    instead: Option<(u16, String)>,
    /// What is answered to the next question instead.
    next: Option<(u16, String)>,
    /// Subjects that take no new version.
    closed: Vec<String>,
    /// Id, and what the schema refers to.
    references: Vec<(i32, Value)>,
}

impl StandIn {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let shared = shared.clone();
                thread::spawn(move || serve(&stream.unwrap(), &shared));
            }
        });
        Self { url, state }
    }

    pub fn config(&self) -> RegistryConfig {
        RegistryConfig::new(&self.url)
    }

    /// As the pipeline of a deployment does.
    pub fn register(&self, subject: &str, id: i32, format: &str, text: impl Into<String>) {
        let schema = (subject.to_owned(), id, format.to_owned(), text.into());
        self.state.lock().unwrap().schemas.push(schema);
    }

    /// Says that the schema with this id refers to others: name, subject and version of each.
    pub fn refer(&self, id: i32, to: &[(&str, &str, i32)]) {
        let to = to.iter().map(|(name, subject, version)| {
            json!({ "name": name, "subject": subject, "version": version })
        });
        self.state.lock().unwrap().references.push((id, to.collect()));
    }

    /// Body of the last registration's `references`.
    pub fn last_references(&self) -> Value {
        let state = self.state.lock().unwrap();
        state.references.last().map_or(Value::Null, |(_, references)| references.clone())
    }

    /// Takes no new version of this subject.
    pub fn close(&self, subject: &str) {
        self.state.lock().unwrap().closed.push(subject.to_owned());
    }

    /// Subjects and texts, in the order of registration.
    pub fn registered(&self) -> Vec<(String, String)> {
        let state = self.state.lock().unwrap();
        state.schemas.iter().map(|(subject, _, _, text)| (subject.clone(), text.clone())).collect()
    }

    /// Answers everything by this.
    pub fn answer(&self, status: u16, body: impl Into<String>) {
        self.state.lock().unwrap().instead = Some((status, body.into()));
    }

    /// Answers the next question by this.
    pub fn answer_once(&self, status: u16, body: impl Into<String>) {
        self.state.lock().unwrap().next = Some((status, body.into()));
    }

    /// `GET /subjects/…`, in their order.
    pub fn asked(&self) -> Vec<String> {
        self.state.lock().unwrap().asked.iter().map(|(line, _)| line.clone()).collect()
    }

    /// Header lines of the last request.
    pub fn last_headers(&self) -> String {
        self.state.lock().unwrap().asked.last().unwrap().1.clone()
    }
}

fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut reader = BufReader::new(stream);
    while let Some((line, headers, body)) = request(&mut reader) {
        let (status, answer) = {
            let mut state = state.lock().unwrap();
            state.asked.push((line.clone(), headers));
            match state.next.take().or_else(|| state.instead.clone()) {
                Some(instead) => instead,
                None => {
                    let (status, answer) = answer(&mut state, &line, &body);
                    (status, answer.to_string())
                }
            }
        };
        let head = format!(
            "HTTP/1.1 {status} .\r\ncontent-type: application/vnd.schemaregistry.v1+json\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        let mut stream = stream;
        // The client may have gone.
        if stream.write_all((head + &answer).as_bytes()).is_err() {
            return;
        }
    }
}

/// Method and path, header lines, and body.
fn request(reader: &mut BufReader<&TcpStream>) -> Option<(String, String, Value)> {
    let mut line = String::new();
    reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
    let line = line.trim_end().strip_suffix(" HTTP/1.1")?.to_owned();
    let (mut headers, mut length) = (String::new(), 0);
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        if header.trim().is_empty() {
            break;
        }
        let header = header.to_lowercase();
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        }
        headers.push_str(&header);
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((line, headers, serde_json::from_slice(&body).unwrap_or(Value::Null)))
}

fn answer(state: &mut State, line: &str, body: &Value) -> (u16, Value) {
    let path = line.split_once(' ').unwrap().1;
    let path = path.split('?').next().unwrap().trim_start_matches('/');
    let segments: Vec<_> = path.split('/').collect();
    if let (true, ["subjects", subject, "versions"]) = (line.starts_with("POST"), &*segments) {
        if state.closed.iter().any(|closed| closed == subject) {
            return (409, json!({ "error_code": 409, "message": "INCOMPATIBLE" }));
        }
        let id = i32::try_from(state.schemas.len()).unwrap() + 1;
        let text = |name: &str| body[name].as_str().map(str::to_owned);
        let format = text("schemaType").unwrap_or_else(|| "AVRO".to_owned());
        let schema = (subject.replace("%20", " "), id, format, text("schema").unwrap());
        state.schemas.push(schema);
        state.references.push((id, body["references"].clone()));
        return (200, json!({ "id": id }));
    }
    let of = |wanted: &str| -> Vec<_> {
        state.schemas.iter().filter(|(subject, ..)| subject == wanted).collect()
    };
    match (line.starts_with("POST"), &*segments) {
        (true, ["subjects", subject]) => {
            let format = body["schemaType"].as_str().unwrap_or("AVRO");
            let same = |(_, _, of, text): &(String, i32, String, String)| {
                of == format && Some(&**text) == body["schema"].as_str()
            };
            let versions = of(subject);
            match versions.iter().position(|schema| same(schema)) {
                Some(at) => (200, shown(state, versions[at], at + 1)),
                None if versions.is_empty() => missing(40401, "Subject not found."),
                None => missing(40403, "Schema not found"),
            }
        }
        (false, ["subjects", subject, "versions"]) => match of(subject).len() {
            0 => missing(40401, "Subject not found."),
            len => (200, json!((1..=len).collect::<Vec<_>>())),
        },
        (false, ["subjects", subject, "versions", version]) => {
            let version: usize = version.parse().unwrap();
            match of(subject).get(version - 1) {
                Some(schema) => (200, shown(state, schema, version)),
                None => missing(40402, "Version not found."),
            }
        }
        (false, ["schemas", kind @ ("ids" | "guids"), id]) => {
            // The last digits of a GUID are the id here.
            let id = if *kind == "ids" { *id } else { id.rsplit('-').next().unwrap() };
            let id: i32 = id.parse().unwrap();
            match state.schemas.iter().find(|(_, of, ..)| *of == id) {
                Some(schema) => {
                    let shown = shown(state, schema, 1);
                    let told = ["schema", "schemaType", "references"];
                    let told =
                        told.iter().filter_map(|name| Some((*name, shown.get(*name)?.clone())));
                    (200, told.collect())
                }
                None => missing(40403, "Schema not found"),
            }
        }
        _ => missing(404, "HTTP 404 Not Found"),
    }
}

type Schema = (String, i32, String, String);

fn shown(state: &State, (subject, id, format, text): &Schema, version: usize) -> Value {
    let mut schema = json!({ "subject": subject, "id": id, "version": version, "schema": text });
    // As Confluent's registry does.
    if format != "AVRO" {
        schema["schemaType"] = json!(format);
    }
    if let Some((_, references)) = state.references.iter().find(|(of, _)| of == id) {
        schema["references"] = references.clone();
    }
    schema
}

fn missing(code: u32, message: &str) -> (u16, Value) {
    (404, json!({ "error_code": code, "message": message }))
}
