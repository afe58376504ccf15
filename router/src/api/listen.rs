//! Where the control API listens: a unix socket that only its owner may open, and a loopback address if the operator
//! asked for one; and where a part of it can be read.
//!
//! | listener | asked for by | |
//! |---|---|---|
//! | unix socket | | everything |
//! | 127.0.0.1:6784 | nobody: the original's address | status can be read |
//! | any loopback address | `--http-addr` | everything, by any process of this host |
//! | another unix socket | `--docker-plugin` | what Docker asks of its network plugins, and nothing else |
//! | 127.0.0.1:6782 or another | `--status-addr` | status can be read |
//!
//! The sockets are opened before anything else starts, so that a busy one is an error of `launch`, and served later on
//! the admin runtime.

use std::io;
use std::net::{SocketAddr, TcpListener};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use super::network::Plugin;
use super::serve::{Limits, serve};
use super::unix::UnixSocket;
use super::{Context, ListenError, Listener, routes};
use crate::config::{Access, Config};
use crate::descriptors::Descriptors;

/// All listening sockets.
#[derive(Debug)]
pub struct Listeners {
    unix: UnixSocket,
    /// Where Docker finds its plugin.
    plugin: Option<UnixSocket>,
    /// Those on TCP, and what each is for.
    tcp: Vec<(TcpListener, Listener)>,
    /// Of each of them.
    limits: Limits,
}

impl Listeners {
    /// # Errors
    /// When a socket is in use or cannot be opened.
    pub fn open(config: &Config, descriptors: Descriptors) -> Result<Self, ListenError> {
        let Config { http, status_addr, socket, docker_plugin, .. } = config;
        let mut tcp = Vec::new();
        match (open_tcp("--http-addr", http.address), http.access) {
            (Ok(listener), Access::Control) => tcp.push((listener, Listener::Loopback)),
            (Ok(listener), Access::Read) => tcp.push((listener, Listener::LoopbackStatus)),
            (Err(error), Access::Control) => return Err(error),
            // Nobody asked for it.
            (Err(error), Access::Read) => warn!(%error, "status cannot be read at the usual address"),
        }
        if let Some(address) = *status_addr {
            tcp.push((open_tcp("--status-addr", address)?, Listener::read_only(address)));
        }
        let unix = UnixSocket::open("--socket", socket)?;
        let plugin = docker_plugin.as_ref().map(|place| UnixSocket::at("--docker-plugin", place)).transpose()?;
        Ok(Self { unix, plugin, tcp, limits: Limits::of(descriptors.http_connections()) })
    }

    /// Serves all of them until `stop` ends and the requests under way are answered.
    ///
    /// # Errors
    /// When a listener cannot be served at all.
    pub async fn serve(self, context: Context, stop: impl Future<Output = ()>) -> io::Result<()> {
        let (stopping, stopped) = watch::channel(());
        let mut serving = JoinSet::new();
        serving.spawn(serve(
            self.unix.listener()?,
            routes(context.clone(), Listener::Unix),
            self.limits,
            stopped.clone(),
        ));
        if let Some(plugin) = &self.plugin {
            let routes = Plugin::new(context.requester.clone()).routes();
            serving.spawn(serve(plugin.listener()?, routes, self.limits, stopped.clone()));
        }
        for (listener, purpose) in &self.tcp {
            let listener = tokio::net::TcpListener::from_std(listener.try_clone()?)?;
            let routes = routes(context.clone(), *purpose);
            serving.spawn(serve(listener, routes, self.limits, stopped.clone()));
        }
        stop.await;
        drop(stopping);
        while serving.join_next().await.is_some() {}
        Ok(())
    }
}

fn open_tcp(flag: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError::Address { flag, address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}
