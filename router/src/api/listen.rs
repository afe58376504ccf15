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

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::warn;

use super::network::Plugin;
use super::serve::{Limits, serve};
use super::{Context, Listener, routes};
use crate::config::{Access, Config};
use crate::descriptors::Descriptors;

/// Why the control API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("socket {} is in use by another weave-rs; stop it or give another {flag}", path.display())]
    SocketInUse { flag: &'static str, path: PathBuf },
    #[error("{} exists and is no socket; move it away or give another {flag}", path.display())]
    NoSocket { flag: &'static str, path: PathBuf },
    #[error("cannot listen on socket {}: {source}; check {flag}", path.display())]
    Socket { flag: &'static str, path: PathBuf, source: io::Error },
    #[error("cannot listen on {address}: {source}; give another {flag}")]
    Address { flag: &'static str, address: SocketAddr, source: io::Error },
}

/// All listening sockets. Dropping them removes the unix sockets.
#[derive(Debug)]
pub struct Listeners {
    unix: UnixListener,
    /// Where Docker finds its plugin.
    plugin: Option<UnixListener>,
    /// Those on TCP, and what each is for.
    tcp: Vec<(TcpListener, Listener)>,
    /// Of each of them.
    limits: Limits,
    /// Of the unix sockets.
    paths: Vec<PathBuf>,
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
        let unix = open_unix("--socket", socket)?;
        let plugin = docker_plugin.as_deref().map(|path| open_unix("--docker-plugin", path)).transpose()?;
        let paths = [socket].into_iter().chain(docker_plugin).cloned().collect();
        Ok(Self { unix, plugin, tcp, limits: Limits::of(descriptors.http_connections()), paths })
    }

    /// Serves all of them until `stop` ends and the requests under way are answered.
    ///
    /// # Errors
    /// When a listener cannot be served at all.
    pub async fn serve(self, context: Context, stop: impl Future<Output = ()>) -> io::Result<()> {
        let (stopping, stopped) = watch::channel(());
        let mut serving = JoinSet::new();
        let unix = tokio::net::UnixListener::from_std(self.unix.try_clone()?)?;
        serving.spawn(serve(unix, routes(context.clone(), Listener::Unix), self.limits, stopped.clone()));
        if let Some(plugin) = &self.plugin {
            let listener = tokio::net::UnixListener::from_std(plugin.try_clone()?)?;
            let routes = Plugin::new(context.requester.clone()).routes();
            serving.spawn(serve(listener, routes, self.limits, stopped.clone()));
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

impl Drop for Listeners {
    fn drop(&mut self) {
        for path in &self.paths {
            let _ = fs::remove_file(path);
        }
    }
}

fn open_tcp(flag: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError::Address { flag, address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// A unix socket for root alone.
pub(crate) fn open_unix(flag: &'static str, path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Socket { flag, path: path.to_owned(), source };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
    }
    remove_stale(flag, path)?;
    // Bound under another name, so that nobody can connect before the mode is set.
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let listener = UnixListener::bind(&aside).map_err(failed)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&aside, path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Removes a socket that nobody listens on, as a killed daemon leaves one.
fn remove_stale(flag: &'static str, path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Socket { flag, path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(ListenError::NoSocket { flag, path: path.to_owned() }),
        Ok(_) if UnixStream::connect(path).is_ok() => Err(ListenError::SocketInUse { flag, path: path.to_owned() }),
        Ok(_) => fs::remove_file(path).map_err(failed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("weave-rs-{name}-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_socket_that_a_killed_daemon_left_is_replaced_and_a_live_one_is_not() {
        let directory = directory("stale-socket");
        let path = directory.join("weave-rs.sock");

        drop(UnixListener::bind(&path).unwrap());
        let first = open_unix("--socket", &path).unwrap();
        let second = open_unix("--socket", &path);

        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(second, Err(ListenError::SocketInUse { .. })));
        drop(first);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = directory("no-socket");
        let path = directory.join("precious");
        fs::write(&path, "data").unwrap();

        assert!(matches!(open_unix("--socket", &path), Err(ListenError::NoSocket { .. })));
        assert!(path.exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
