//! A session with Postgres, as far as these programs need one without a driver.

use std::io::{Read, Write};
use std::net::TcpStream;

use crate::{Error, net};

/// Opens a session as far as `ReadyForQuery`, and closes it. A server that is starting up or
/// recovering accepts the connection but answers with an error.
pub(super) fn opens_session(port: u16) -> std::io::Result<bool> {
    let Some(mut stream) = open(port)? else { return Ok(false) };
    stream.write_all(&[b'X', 0, 0, 0, 4])?;
    Ok(true)
}

/// Has the superuser execute a statement. That what it creates exists already is no error.
pub(super) fn execute(port: u16, statement: &str) -> Result<(), Error> {
    const EXISTS: [&str; 2] = ["42710", "42P04"];

    let failed = |error| Error::io(format_args!("ask Postgres on port {port}"), error);
    let mut stream = open(port)
        .map_err(failed)?
        .ok_or_else(|| Error::new(format!("Postgres on port {port} takes no session")))?;
    let length = i32::try_from(4 + statement.len() + 1).unwrap_or(i32::MAX);
    let message = [b"Q", &length.to_be_bytes()[..], statement.as_bytes(), b"\0"].concat();
    stream.write_all(&message).map_err(failed)?;
    match answer(&mut stream).map_err(failed)? {
        Some(code) if !EXISTS.contains(&&*code) => {
            Err(Error::new(format!("Postgres on port {port} refuses `{statement}`: error {code}")))
        }
        _ => Ok(()),
    }
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

/// The code of the error with which a statement ended, if it did.
fn answer(stream: &mut TcpStream) -> std::io::Result<Option<String>> {
    let mut error = None;
    loop {
        match message(stream)? {
            (b'Z', _) => return Ok(error),
            (b'E', body) => {
                let code = body.split(|byte| *byte == 0).find_map(|field| field.strip_prefix(b"C"));
                error = Some(String::from_utf8_lossy(code.unwrap_or_default()).into_owned());
            }
            _ => {}
        }
    }
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
