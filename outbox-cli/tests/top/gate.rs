//! What stands between a client and a server, and can be closed.

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

pub struct Gate {
    server: String,
    pub address: String,
    open: JoinHandle<()>,
}

impl Gate {
    /// An address on this machine that leads to the server.
    pub async fn new(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let open = tokio::spawn(lead(listener, server.to_owned()));
        Self { server: server.to_owned(), address, open }
    }

    /// Cuts all connections, and refuses others.
    pub async fn close(&mut self) {
        self.open.abort();
        let _ = (&mut self.open).await;
    }

    pub async fn open(&mut self) {
        let listener = TcpListener::bind(&self.address).await.unwrap();
        self.open = tokio::spawn(lead(listener, self.server.clone()));
    }
}

/// Its connections end with it.
async fn lead(listener: TcpListener, server: String) {
    let mut connections = JoinSet::new();
    loop {
        let (mut client, _) = listener.accept().await.unwrap();
        let server = server.clone();
        connections.spawn(async move {
            if let Ok(mut server) = TcpStream::connect(&server).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        });
    }
}
