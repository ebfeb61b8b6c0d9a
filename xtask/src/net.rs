//! Free ports, and waiting with a bound.

use std::hash::{BuildHasher, RandomState};
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::Error;

/// `N` different ports on which no program listens.
///
/// They lie below the range from which systems take the ports of outgoing connections. A killed
/// server must get its port back. In that range, a client that keeps reconnecting could be given
/// that very port, connect to itself, and occupy it.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N], Error> {
    const FIRST: u16 = 15_000;
    const COUNT: u16 = 15_000;

    let mut ports = [0; N];
    // Held until all are chosen, so that they differ.
    let mut listeners = Vec::new();
    let start = u16::try_from(random() % u64::from(COUNT)).unwrap_or(0);
    let mut candidates = (0..COUNT).map(|i| FIRST + (start + i) % COUNT);
    for port in &mut ports {
        let listener = candidates.by_ref().find_map(|candidate| {
            *port = candidate;
            TcpListener::bind((Ipv4Addr::LOCALHOST, candidate)).ok()
        });
        let Some(listener) = listener else {
            return Err(Error::new(format!(
                "no free port on 127.0.0.1 between {FIRST} and {}: stop some of the programs which listen there",
                FIRST + COUNT
            )));
        };
        listeners.push(listener);
    }
    Ok(ports)
}

/// Whether no program listens on a port.
pub(crate) fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Random enough to keep apart processes which choose at the same time.
pub(crate) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

pub(crate) fn connect(port: u16) -> io::Result<TcpStream> {
    let timeout = Duration::from_secs(2);
    let stream =
        TcpStream::connect_timeout(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)), timeout)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    Ok(stream)
}

/// A request of a server's HTTP interface, and the whole answer.
pub(crate) fn ask(port: u16, within: Duration, request: &str, body: &str) -> io::Result<String> {
    let mut stream = connect(port)?;
    stream.set_read_timeout(Some(within))?;
    write!(
        stream,
        "{request} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\nconnection: close\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Asks until the answer is `Some`; `None` once `bound` has passed.
pub(crate) fn wait_for<T>(bound: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + bound;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() >= deadline {
            return None;
        }
        thread::sleep(Duration::from_millis(20));
    }
}
