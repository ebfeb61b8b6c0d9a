//! A session with Postgres, as far as these programs need one without a driver.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::{Error, net};

/// Opens a session as far as `ReadyForQuery`, and closes it. A server that is starting up or
/// recovering accepts the connection but answers with an error.
pub(super) fn opens_session(port: u16) -> std::io::Result<bool> {
    let Some(mut stream) = open(port)? else { return Ok(false) };
    stream.write_all(&[b'X', 0, 0, 0, 4])?;
    Ok(true)
}

/// A session of the superuser.
pub(super) struct Session {
    stream: TcpStream,
    port: u16,
}

impl Session {
    pub(super) fn open(port: u16) -> Result<Self, Error> {
        /// For a checkpoint, and for the end of a recovery.
        const PATIENCE: Duration = Duration::from_secs(90);

        let failed = |error| Error::io(format_args!("ask Postgres on port {port}"), error);
        let stream = open(port)
            .map_err(failed)?
            .ok_or_else(|| Error::new(format!("Postgres on port {port} takes no session")))?;
        stream.set_read_timeout(Some(PATIENCE)).map_err(failed)?;
        Ok(Self { stream, port })
    }

    /// Executes a statement. Returns the first column of its last row; empty if there is none.
    pub(super) fn query(&mut self, statement: &str) -> Result<String, Error> {
        self.send(statement)?.map_err(|code| self.refused(statement, &code))
    }

    /// Executes a statement. That what it creates exists already is no error.
    fn execute(&mut self, statement: &str) -> Result<(), Error> {
        const EXISTS: [&str; 2] = ["42710", "42P04"];

        match self.send(statement)? {
            Err(code) if !EXISTS.contains(&&*code) => Err(self.refused(statement, &code)),
            _ => Ok(()),
        }
    }

    fn refused(&self, statement: &str, code: &str) -> Error {
        Error::new(format!("Postgres on port {} refuses `{statement}`: error {code}", self.port))
    }

    /// The value, or the code of the error.
    fn send(&mut self, statement: &str) -> Result<Result<String, String>, Error> {
        let length = i32::try_from(4 + statement.len() + 1).unwrap_or(i32::MAX);
        let message = [b"Q", &length.to_be_bytes()[..], statement.as_bytes(), b"\0"].concat();
        let answered = self.stream.write_all(&message).and_then(|()| answer(&mut self.stream));
        answered
            .map_err(|error| Error::io(format_args!("ask Postgres on port {}", self.port), error))
    }
}

/// Has the superuser execute a statement. That what it creates exists already is no error.
pub(super) fn execute(port: u16, statement: &str) -> Result<(), Error> {
    Session::open(port)?.execute(statement)
}

fn open(port: u16) -> std::io::Result<Option<TcpStream>> {
    const PROTOCOL_3_0: i32 = 196_608;
    const PARAMETERS: &[u8] = b"user\0postgres\0database\0postgres\0\0";

    let mut stream = net::connect(port)?;
    let length = i32::try_from(8 + PARAMETERS.len()).unwrap_or(i32::MAX);
    let startup = [&length.to_be_bytes(), &PROTOCOL_3_0.to_be_bytes(), PARAMETERS].concat();
    stream.write_all(&startup)?;
    loop {
        match message(&mut stream)? {
            (b'Z', _) => return Ok(Some(stream)),
            (b'E', _) => return Ok(None),
            _ => {}
        }
    }
}

/// How a statement ended: the first column of its last row, or the code of an error.
fn answer(stream: &mut TcpStream) -> std::io::Result<Result<String, String>> {
    let mut ended = Ok(String::new());
    loop {
        match message(stream)? {
            (b'Z', _) => return Ok(ended),
            (b'D', row) if ended.is_ok() => ended = Ok(first_column(&row)),
            (b'E', body) => {
                let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
                ended = Err(String::from_utf8_lossy(code.unwrap_or_default()).into_owned());
            }
            _ => {}
        }
    }
}

/// Empty for a null.
fn first_column(row: &[u8]) -> String {
    // After the number of columns, the length of the first one.
    let Some((length, column)) = row.get(2..).and_then(|rest| rest.split_first_chunk()) else {
        return String::new();
    };
    let length = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
    String::from_utf8_lossy(column.get(..length).unwrap_or_default()).into_owned()
}

/// A message's kind, and its first kilobytes.
fn message(stream: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    const KEPT: u64 = 4096;

    let mut header = [0; 5];
    stream.read_exact(&mut header)?;
    let [kind, length @ ..] = header;
    let length = u64::from(u32::from_be_bytes(length).saturating_sub(4));
    let mut body = Vec::new();
    Read::by_ref(stream).take(length.min(KEPT)).read_to_end(&mut body)?;
    let rest = length.saturating_sub(KEPT);
    std::io::copy(&mut Read::by_ref(stream).take(rest), &mut std::io::sink())?;
    Ok((kind, body))
}
