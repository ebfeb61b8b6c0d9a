//! A TCP proxy that limits the bytes a second that a client reads, over all connections together.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep_until};

/// In front of one server, until the test ends.
pub struct Throttle {
    address: SocketAddr,
    link: Arc<Link>,
}

struct Link {
    bytes_per_second: AtomicU64,
    /// When the next byte may pass.
    free: Mutex<Instant>,
}

impl Throttle {
    /// In front of `host:port`.
    pub async fn start(server: String, bytes_per_second: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let link = Arc::new(Link {
            bytes_per_second: AtomicU64::new(bytes_per_second),
            free: Mutex::new(Instant::now()),
        });
        tokio::spawn({
            let link = Arc::clone(&link);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    let Ok(server) = TcpStream::connect(&server).await else { continue };
                    let ((from_client, to_client), (from_server, to_server)) =
                        (client.into_split(), server.into_split());
                    tokio::spawn(forward(from_client, to_server, None));
                    tokio::spawn(forward(from_server, to_client, Some(Arc::clone(&link))));
                }
            }
        });
        Self { address, link }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn set_rate(&self, bytes_per_second: u64) {
        self.link.bytes_per_second.store(bytes_per_second, Ordering::SeqCst);
    }
}

async fn forward(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, link: Option<Arc<Link>>) {
    let mut buffer = vec![0; 16 * 1024];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if let Some(link) = &link {
            let mut free = link.free.lock().await;
            let rate = link.bytes_per_second.load(Ordering::SeqCst);
            *free =
                (*free).max(Instant::now()) + Duration::from_micros(read as u64 * 1_000_000 / rate);
            sleep_until(*free).await;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
