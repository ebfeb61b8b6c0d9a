//! A session with MySQL or MariaDB, as far as these programs need one without a driver.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::net;

/// Why the server does not do what it is asked.
pub(super) struct Refusal {
    code: u16,
    message: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "error {}: {}", self.code, self.message)
    }
}

/// Whether the server takes a session of root, which has no password.
pub(super) fn opens_session(port: u16) -> io::Result<bool> {
    let Ok(mut session) = Session::open(port, None)? else { return Ok(false) };
    session.command(QUIT, "")?;
    Ok(true)
}

/// Has root execute a statement in `database`. Returns the first column of its last row; empty if
/// there is none.
pub(super) fn query(
    port: u16,
    database: &str,
    statement: &str,
) -> io::Result<Result<String, Refusal>> {
    /// For a statement that waits for locks.
    const PATIENCE: Duration = Duration::from_secs(90);

    let mut session = match Session::open(port, Some(database))? {
        Ok(session) => session,
        Err(refusal) => return Ok(Err(refusal)),
    };
    session.stream.set_read_timeout(Some(PATIENCE))?;
    session.command(QUERY, statement)?;
    let answer = session.answer()?;
    session.command(QUIT, "")?;
    Ok(answer)
}

const QUIT: u8 = 1;
const QUERY: u8 = 3;

/// The first byte of an answer.
const OK: u8 = 0;
const END: u8 = 0xfe;
const ERROR: u8 = 0xff;

const PROTOCOL_41: u32 = 0x0200;
const TRANSACTIONS: u32 = 0x2000;
const SECURE_CONNECTION: u32 = 0x8000;
const PLUGIN_AUTH: u32 = 0x8_0000;
const WITH_DATABASE: u32 = 0x0008;
const UTF8MB4: u8 = 45;

struct Session {
    stream: TcpStream,
    /// Number of the next packet; it begins again with each command.
    sequence: u8,
}

impl Session {
    fn open(port: u16, database: Option<&str>) -> io::Result<Result<Self, Refusal>> {
        /// Who asks for another way to log in does so once.
        const ANSWERS: u32 = 4;

        let mut session = Self { stream: net::connect(port)?, sequence: 0 };
        let greeting = session.packet()?;
        if let Some(refusal) = refusal(&greeting) {
            return Ok(Err(refusal));
        }
        session.send(&login(database))?;
        for _ in 0..ANSWERS {
            let answer = session.packet()?;
            match answer.first() {
                Some(&OK) => return Ok(Ok(session)),
                // Another way to log in: an empty password is an empty answer in all that root's
                // account has.
                Some(&END) => session.send(&[])?,
                _ => return refusal(&answer).map(Err).ok_or_else(not_understood),
            }
        }
        Err(not_understood())
    }

    fn command(&mut self, command: u8, text: &str) -> io::Result<()> {
        self.sequence = 0;
        self.send(&[&[command], text.as_bytes()].concat())
    }

    /// How a statement ended.
    fn answer(&mut self) -> io::Result<Result<String, Refusal>> {
        let first = self.packet()?;
        match first.first() {
            Some(&OK) => return Ok(Ok(String::new())),
            Some(&ERROR) => return refusal(&first).map(Err).ok_or_else(not_understood),
            _ => {}
        }
        // The columns, up to an end; then the rows, up to another one.
        while !is_end(&self.packet()?) {}
        let mut value = String::new();
        loop {
            let row = self.packet()?;
            if is_end(&row) {
                return Ok(Ok(value));
            }
            if let Some(refusal) = refusal(&row) {
                return Ok(Err(refusal));
            }
            value = first_column(&row);
        }
    }

    fn send(&mut self, body: &[u8]) -> io::Result<()> {
        let length = u32::try_from(body.len()).ok().filter(|length| *length < LONGEST);
        let length = length.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        let [a, b, c, _] = length.to_le_bytes();
        let packet = [&[a, b, c, self.sequence], body].concat();
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet)
    }

    /// The first kilobytes of a packet.
    fn packet(&mut self) -> io::Result<Vec<u8>> {
        const KEPT: u64 = 4096;

        let mut header = [0; 4];
        self.stream.read_exact(&mut header)?;
        let [a, b, c, sequence] = header;
        let length = u32::from_le_bytes([a, b, c, 0]);
        if length >= LONGEST {
            return Err(not_understood());
        }
        self.sequence = sequence.wrapping_add(1);
        let length = u64::from(length);
        let mut body = Vec::new();
        Read::by_ref(&mut self.stream).take(length.min(KEPT)).read_to_end(&mut body)?;
        let rest = length.saturating_sub(KEPT);
        io::copy(&mut Read::by_ref(&mut self.stream).take(rest), &mut io::sink())?;
        Ok(body)
    }
}

/// What is longer comes in several packets.
const LONGEST: u32 = 0xff_ffff;

fn not_understood() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "an answer that these programs do not understand")
}

/// The answer to the greeting: root, without a password.
fn login(database: Option<&str>) -> Vec<u8> {
    let database_flag = database.map_or(0, |_| WITH_DATABASE);
    let flags = PROTOCOL_41 | TRANSACTIONS | SECURE_CONNECTION | PLUGIN_AUTH | database_flag;
    let mut login = [&flags.to_le_bytes()[..], &LONGEST.to_le_bytes(), &[UTF8MB4]].concat();
    login.extend([0; 23]);
    // The length of an empty password follows the name.
    login.extend(b"root\0\0");
    login.extend(database.iter().flat_map(|name| [name.as_bytes(), b"\0"]).flatten());
    login.extend(b"mysql_native_password\0");
    login
}

fn is_end(packet: &[u8]) -> bool {
    packet.first() == Some(&END) && packet.len() < 9
}

fn refusal(packet: &[u8]) -> Option<Refusal> {
    let [ERROR, low, high, message @ ..] = packet else { return None };
    // A state of five characters is before the message, once both sides know each other.
    let message = message.strip_prefix(b"#").and_then(|rest| rest.get(5..)).unwrap_or(message);
    Some(Refusal {
        code: u16::from_le_bytes([*low, *high]),
        message: String::from_utf8_lossy(message).into_owned(),
    })
}

/// Empty for a null.
fn first_column(row: &[u8]) -> String {
    let (length, rest) = match row {
        [length @ ..=0xfa, rest @ ..] => (usize::from(*length), rest),
        [0xfc, a, b, rest @ ..] => (usize::from(u16::from_le_bytes([*a, *b])), rest),
        // Longer than what is kept of a row.
        [0xfd, _, _, _, rest @ ..] => (rest.len(), rest),
        _ => return String::new(),
    };
    String::from_utf8_lossy(&rest[..length.min(rest.len())]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_column_of_a_row_is_read_whatever_its_length() {
        let long = [&[0xfc, 0x2c, 0x01][..], &[b'x'; 300], b"\x01y"].concat();
        let kept = [&[0xfd, 0, 0, 1][..], &[b'x'; 4092]].concat();

        assert_eq!(first_column(b"\x038.0\x01y"), "8.0");
        assert_eq!(first_column(&long), "x".repeat(300));
        assert_eq!(first_column(&kept), "x".repeat(4092));
        assert_eq!(first_column(b"\xfb\x01y"), "");
        assert_eq!(first_column(b""), "");
    }

    #[test]
    fn a_refusal_has_its_number_and_its_text_with_and_without_a_state() {
        let text = |packet| refusal(packet).map(|refusal| refusal.to_string());

        assert_eq!(
            text(b"\xff\x28\x04#42000You have an error").as_deref(),
            Some("error 1064: You have an error")
        );
        assert_eq!(text(b"\xff\x10\x04Too many").as_deref(), Some("error 1040: Too many"));
        assert_eq!(text(b"\0\0\0"), None);
    }
}
