//! A TCP proxy between a client and a server that fails as networks do: silently, or by a reset.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use xtask::servers::Kafka;

use super::requests::{Passed, Requests};

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
    /// Before a request of this kind to Kafka, of which the server gets its beginning at most.
    BeforeRequest(i16),
    /// After it. Answers to earlier requests that are not there yet are held with its own.
    AfterRequest(i16),
}

/// In front of one server, or of the nodes of a Kafka. Dropped, it closes all its connections.
///
/// A silent connection stays open and forwards nothing: neither side learns of it, not even that
/// the other has closed. It stays silent until [`cut`](Self::cut) or [`thaw`](Self::thaw);
/// [`heal`](Self::heal) lets *new* connections pass.
pub struct Proxy {
    /// In the order of its servers.
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    accepting: Vec<AbortHandle>,
}

#[derive(Default)]
struct Shared {
    /// To where new connections go, instead of to the server that it was started for.
    redirected: Mutex<Option<String>>,
    /// What new connections begin with.
    silent: watch::Sender<Silence>,
    connections: Mutex<Vec<watch::Sender<Silence>>>,
    awaited: Mutex<Vec<Awaited>>,
    accepted: watch::Sender<usize>,
}

struct Awaited {
    moment: Moment,
    /// Whether it silences each connection on which it comes, and not the first one only.
    each: bool,
    /// Number of connections on which it has come.
    come: watch::Sender<usize>,
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
        Self::of_servers([(0, server.into())]).await
    }

    /// In front of nodes with `KafkaOptions::proxied`. Clients that connect to one of its
    /// [`addresses`](Self::addresses) come through it to all of them.
    pub async fn of_kafka(nodes: &[Kafka]) -> Self {
        let ports = nodes.iter().map(|node| node.proxied().expect("a listener for it"));
        Self::of_servers(ports.map(|ports| (ports.proxy, format!("127.0.0.1:{}", ports.server))))
            .await
    }

    async fn of_servers(servers: impl IntoIterator<Item = (u16, String)>) -> Self {
        let shared = Arc::<Shared>::default();
        let mut proxy =
            Self { addresses: Vec::new(), shared: Arc::clone(&shared), accepting: Vec::new() };
        for (port, server) in servers {
            let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a free port");
            proxy.addresses.push(listener.local_addr().expect("an address"));
            let accepting = tokio::spawn(accept(listener, server, Arc::clone(&shared)));
            proxy.accepting.push(accepting.abort_handle());
        }
        proxy
    }

    /// In front of the Postgres of this URL, and the URL through the proxy.
    pub async fn of_postgres(url: &str) -> (Self, String) {
        let options: sqlx::postgres::PgConnectOptions = url.parse().expect("a Postgres URL");
        Self::between(url, format!("{}:{}", options.get_host(), options.get_port())).await
    }

    /// In front of the MySQL of this URL, and the URL through the proxy.
    pub async fn of_mysql(url: &str) -> (Self, String) {
        let options: sqlx::mysql::MySqlConnectOptions = url.parse().expect("a MySQL URL");
        Self::between(url, format!("{}:{}", options.get_host(), options.get_port())).await
    }

    async fn between(url: &str, server: String) -> (Self, String) {
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
        self.addresses[0].to_string()
    }

    /// Its own `host:port` for each server, separated by commas.
    pub fn addresses(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        addresses.join(",")
    }

    pub fn port(&self) -> u16 {
        self.addresses[0].port()
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

    /// The first connection on which the moment comes goes silent then; others pass. Returns the
    /// wait for that. A text must be what is on the wire: sqlx sends a prepared statement once a
    /// connection (`statement-cache-capacity=0` in the URL has it sent each time).
    pub fn silence_one(&self, moment: Moment) -> impl Future<Output = ()> + Send + 'static {
        let mut come = self.silence_at(moment, false);
        async move { drop(come.wait_for(|come| *come > 0).await.expect("it comes")) }
    }

    /// Each connection on which the moment comes goes silent then, until [`heal`](Self::heal) or
    /// [`thaw`](Self::thaw). Returns the number of them.
    pub fn silence_each(&self, moment: Moment) -> watch::Receiver<usize> {
        self.silence_at(moment, true)
    }

    fn silence_at(&self, moment: Moment, each: bool) -> watch::Receiver<usize> {
        let come = watch::Sender::default();
        let receiver = come.subscribe();
        self.shared.awaited.lock().unwrap().push(Awaited { moment, each, come });
        receiver
    }

    /// New connections pass. Those that are silent stay so.
    pub fn heal(&self) {
        self.shared.awaited.lock().unwrap().retain(|awaited| !awaited.each);
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

    /// Closes all connections. New ones go to `host:port`: after a failover, to the new server.
    pub fn redirect(&self, server: impl Into<String>) {
        *self.shared.redirected.lock().unwrap() = Some(server.into());
        self.cut();
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
        self.accepting.iter().for_each(AbortHandle::abort);
        self.cut();
    }
}

async fn accept(listener: TcpListener, server: String, shared: Arc<Shared>) {
    while let Ok((client, _)) = listener.accept().await {
        let state = watch::Sender::new(*shared.silent.borrow());
        let mut connections = shared.connections.lock().unwrap();
        connections.retain(|connection| connection.receiver_count() > 0);
        connections.push(state.clone());
        drop(connections);
        shared.accepted.send_modify(|accepted| *accepted += 1);
        let redirected = shared.redirected.lock().unwrap().clone();
        let server = redirected.unwrap_or_else(|| server.clone());
        tokio::spawn(forward(client, server, state, Arc::clone(&shared)));
    }
}

/// One connection, until both its ends are closed or it is cut.
async fn forward(
    client: TcpStream,
    server: String,
    state: watch::Sender<Silence>,
    shared: Arc<Shared>,
) {
    let mut cut = state.subscribe();
    let forwarding = async {
        let Ok(server) = TcpStream::connect(server).await else { return };
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
    let mut sent = Sent::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let _ = silence.wait_for(|silence| !silence.of(way)).await;
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return drop(to.shutdown().await) };
        let bytes = &buffer[..read];
        if way == Way::ToServer
            && let Some(server_gets_it) = shared.come(sent.and(bytes), state)
        {
            sent.end.clear();
            if server_gets_it {
                let _ = to.write_all(bytes).await;
                continue;
            }
        }
        // What was read while it went silent is held with the rest.
        let _ = silence.wait_for(|silence| !silence.of(way)).await;
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
}

/// What a client has sent.
#[derive(Default)]
struct Sent {
    /// The end of it, with the last piece: a text may come in two pieces.
    end: Vec<u8>,
    requests: Requests,
    /// What of requests came with the last piece.
    passed: Vec<Passed>,
}

impl Sent {
    fn and(&mut self, bytes: &[u8]) -> &Self {
        const LONGEST_TEXT: usize = 256;

        self.end.drain(..self.end.len().saturating_sub(LONGEST_TEXT));
        self.end.extend_from_slice(bytes);
        self.passed = self.requests.read(bytes);
        self
    }
}

impl Moment {
    fn has_come(&self, sent: &Sent) -> bool {
        match self {
            Self::Before(text) | Self::After(text) => {
                sent.end.windows(text.len()).any(|bytes| bytes == text.as_bytes())
            }
            Self::BeforeRequest(kind) => sent.passed.contains(&Passed::Begin(*kind)),
            Self::AfterRequest(kind) => sent.passed.contains(&Passed::End(*kind)),
        }
    }

    fn server_gets_it(&self) -> bool {
        matches!(self, Self::After(_) | Self::AfterRequest(_))
    }
}

impl Shared {
    /// Silences the connection if an awaited moment has come on it. Returns whether the server gets
    /// what was sent last.
    fn come(&self, sent: &Sent, state: &watch::Sender<Silence>) -> Option<bool> {
        let mut all = self.awaited.lock().unwrap();
        let place = all.iter().position(|awaited| awaited.moment.has_come(sent))?;
        let awaited = &all[place];
        let server_gets_it = awaited.moment.server_gets_it();
        // Silent first, or the answer may be faster.
        state.send_modify(|silence| silence.add(Way::Both));
        awaited.come.send_modify(|come| *come += 1);
        if !awaited.each {
            all.remove(place);
        }
        Some(server_gets_it)
    }
}
