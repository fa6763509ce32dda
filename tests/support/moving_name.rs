//! A name that moves from one server to another, as DNS does in a failover: an address of its own
//! that forwards each connection to the server that the name leads to when the connection is made.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

pub(crate) struct MovingName {
    address: SocketAddr,
    target: Arc<watch::Sender<Target>>,
    task: AbortHandle,
}

#[derive(Clone, Copy)]
struct Target {
    server: SocketAddr,
    /// Connections made before are cut when it changes.
    cuts: u32,
}

impl MovingName {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let target = Arc::new(watch::Sender::new(Target { server, cuts: 0 }));
        let task = tokio::spawn(accept(listener, Arc::clone(&target))).abort_handle();
        Self {
            address,
            target,
            task,
        }
    }

    /// Returns the URL of the database of `url` by this name.
    pub(crate) fn url(&self, url: &str) -> String {
        let (_, database) = url.rsplit_once('/').unwrap();
        format!("postgres://tokens@{}/{database}", self.address)
    }

    /// New connections lead to `server`; those that are open stay where they are.
    pub(crate) fn move_to(&self, server: SocketAddr) {
        self.target.send_modify(|target| target.server = server);
    }

    /// Cuts the open connections, as a server does that is shut down.
    pub(crate) fn cut(&self) {
        self.target.send_modify(|target| target.cuts += 1);
    }
}

impl Drop for MovingName {
    fn drop(&mut self) {
        self.cut();
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, target: Arc<watch::Sender<Target>>) {
    loop {
        let Ok((mut client, _)) = listener.accept().await else {
            // Out of descriptors, say.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let mut changes = target.subscribe();
        let Target { server, cuts } = *changes.borrow_and_update();
        tokio::spawn(async move {
            // A refused connection looks like one that is closed at once.
            let Ok(mut upstream) = TcpStream::connect(server).await else {
                return;
            };
            tokio::select! {
                _ = copy_bidirectional(&mut client, &mut upstream) => {}
                _ = changes.wait_for(|target| target.cuts != cuts) => {}
            }
        });
    }
}
