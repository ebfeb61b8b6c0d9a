//! A TCP proxy between a client and a server that fails as networks do: silently, or by a reset.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    ToServer,
    ToClient,
    Both,
}

/// When a connection goes silent, both ways.
#[derive(Debug, Clone)]
pub enum Moment {
    /// Before this text: the server does not get it.
    Before(&'static str),
    /// After it: the server gets it, and the client does not get the answer.
    After(&'static str),
}

/// In front of one server. Dropped, it closes all its connections.
///
/// A silent connection stays open and forwards nothing: neither side learns of it, not even that
/// the other has closed. It stays silent until [`cut`](Self::cut) or [`thaw`](Self::thaw);
/// [`heal`](Self::heal) lets *new* connections pass.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: AbortHandle,
}

struct Shared {
    server: String,
    /// What new connections begin with.
    silent: watch::Sender<Silence>,
    connections: Mutex<Vec<watch::Sender<Silence>>>,
    moments: Mutex<Vec<Moment>>,
    fired: watch::Sender<usize>,
    accepted: watch::Sender<usize>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Silence {
    to_server: bool,
    to_client: bool,
    cut: bool,
}

impl Silence {
    fn of(self, way: Way) -> bool {
        if way == Way::ToServer { self.to_server } else { self.to_client }
    }

    fn add(&mut self, way: Way) {
        self.to_server |= way != Way::ToClient;
        self.to_client |= way != Way::ToServer;
    }
}

impl Proxy {
    /// In front of `host:port`.
    pub async fn start(server: impl Into<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            server: server.into(),
            silent: watch::Sender::default(),
            connections: Mutex::default(),
            moments: Mutex::default(),
            fired: watch::Sender::default(),
            accepted: watch::Sender::default(),
        });
        let accepting = tokio::spawn(accept(listener, Arc::clone(&shared))).abort_handle();
        Self { address, shared, accepting }
    }

    /// In front of the Postgres of this URL, and the URL through the proxy.
    pub async fn of_postgres(url: &str) -> (Self, String) {
        let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a Postgres URL");
        let server = format!("{}:{}", options.get_host(), options.get_port());
        let proxy = Self::start(server.as_str()).await;
        let through = url.replacen(&server, &proxy.address(), 1);
        assert_ne!(url, through, "the URL says host and port");
        (proxy, through)
    }

    /// In front of the Postgres of this pool, and the options of a pool through the proxy.
    pub async fn of_pool(pool: &sqlx::PgPool) -> (Self, sqlx::postgres::PgConnectOptions) {
        let options = pool.connect_options();
        let proxy = Self::start(format!("{}:{}", options.get_host(), options.get_port())).await;
        let through = (*options).clone().host("127.0.0.1").port(proxy.port());
        (proxy, through)
    }

    /// Its own `host:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// All connections go silent one way or both, and those to come begin so.
    pub fn silence(&self, way: Way) {
        self.shared.silent.send_modify(|silence| silence.add(way));
        self.silence_open(way);
    }

    /// The connections that are open now go silent; new ones pass.
    pub fn silence_open(&self, way: Way) {
        for connection in self.shared.connections.lock().unwrap().iter() {
            connection.send_modify(|silence| silence.add(way));
        }
    }

    /// The first connection on which the text passes to the server goes silent then; others pass.
    /// Returns the wait for that. The text must be what is on the wire: sqlx sends a prepared
    /// statement once a connection (`statement-cache-capacity=0` in the URL has it sent each time).
    pub fn silence_one(&self, moment: Moment) -> impl Future<Output = ()> + Send + 'static {
        let mut fired = self.shared.fired.subscribe();
        let mut moments = self.shared.moments.lock().unwrap();
        moments.push(moment);
        let count = *fired.borrow() + moments.len();
        async move { drop(fired.wait_for(|fired| *fired >= count).await) }
    }

    /// New connections pass. Those that are silent stay so.
    pub fn heal(&self) {
        self.shared.silent.send_replace(Silence::default());
    }

    /// All pass, and what was held is forwarded.
    pub fn thaw(&self) {
        self.heal();
        for connection in self.shared.connections.lock().unwrap().iter() {
            connection.send_if_modified(|silence| {
                let cut = silence.cut;
                !cut && std::mem::take(silence) != Silence::default()
            });
        }
    }

    /// Closes the silent connections, as the kernels at both ends do once keepalives stay
    /// unanswered.
    pub fn cut_silent(&self) {
        for connection in self.shared.connections.lock().unwrap().iter() {
            connection.send_if_modified(|silence| {
                silence.cut |= silence.to_server || silence.to_client;
                silence.cut
            });
        }
    }

    /// Closes all connections. New ones pass, unless it is [silent](Self::silence).
    pub fn cut(&self) {
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            connection.send_modify(|silence| silence.cut = true);
        }
    }

    /// How many connections it has accepted.
    pub fn accepted(&self) -> usize {
        *self.shared.accepted.borrow()
    }

    pub async fn until_accepted(&self, count: usize) {
        self.shared.accepted.subscribe().wait_for(|accepted| *accepted >= count).await.unwrap();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut();
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let state = watch::Sender::new(*shared.silent.borrow());
        let mut connections = shared.connections.lock().unwrap();
        connections.retain(|connection| connection.receiver_count() > 0);
        connections.push(state.clone());
        drop(connections);
        shared.accepted.send_modify(|accepted| *accepted += 1);
        tokio::spawn(forward(client, state, Arc::clone(&shared)));
    }
}

/// One connection, until both its ends are closed or it is cut.
async fn forward(client: TcpStream, state: watch::Sender<Silence>, shared: Arc<Shared>) {
    let mut cut = state.subscribe();
    let forwarding = async {
        let Ok(server) = TcpStream::connect(&shared.server).await else { return };
        let ((from_client, to_client), (from_server, to_server)) =
            (client.into_split(), server.into_split());
        tokio::join!(
            pump(from_client, to_server, Way::ToServer, &state, &shared),
            pump(from_server, to_client, Way::ToClient, &state, &shared),
        );
    };
    tokio::select! {
        () = forwarding => {}
        _ = cut.wait_for(|silence| silence.cut) => {}
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Way,
    state: &watch::Sender<Silence>,
    shared: &Shared,
) {
    let mut silence = state.subscribe();
    // The end of what has passed: a text may come in two pieces.
    let mut passed = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let _ = silence.wait_for(|silence| !silence.of(way)).await;
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return drop(to.shutdown().await) };
        if way == Way::ToServer {
            passed.extend_from_slice(&buffer[..read]);
            if let Some(moment) = shared.due(&passed) {
                // Silent first, or the answer may be faster.
                state.send_modify(|silence| silence.add(Way::Both));
                if matches!(moment, Moment::After(_)) {
                    let _ = to.write_all(&buffer[..read]).await;
                }
                shared.fired.send_modify(|fired| *fired += 1);
                passed.clear();
                if matches!(moment, Moment::After(_)) {
                    continue;
                }
            }
            passed.drain(..passed.len().saturating_sub(256));
        }
        // What was read while it went silent is held with the rest.
        let _ = silence.wait_for(|silence| !silence.of(way)).await;
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

impl Shared {
    /// The moment that has come with these bytes, which does not come again.
    fn due(&self, passed: &[u8]) -> Option<Moment> {
        let mut moments = self.moments.lock().unwrap();
        let due = moments.iter().position(|moment| {
            let (Moment::Before(text) | Moment::After(text)) = moment;
            passed.windows(text.len()).any(|bytes| bytes == text.as_bytes())
        })?;
        Some(moments.remove(due))
    }
}
