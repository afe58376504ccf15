//! Where the control API listens: a unix socket that only its owner may open, and a loopback address; and where a part
//! of it can be read.
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

use super::{Context, Listener, routes};

/// Why the control API cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error("control socket {} is in use by another weave-rs; stop it or give another --socket", .0.display())]
    SocketInUse(PathBuf),
    #[error("{} exists and is no socket; move it away or give another --socket", .0.display())]
    NoSocket(PathBuf),
    #[error("cannot listen on control socket {}: {source}; check --socket", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("cannot listen on {address}: {source}; give another {flag}")]
    Address { flag: &'static str, address: SocketAddr, source: io::Error },
}

/// All listening sockets. Dropping them removes the unix socket.
#[derive(Debug)]
pub struct Listeners {
    unix: UnixListener,
    tcp: TcpListener,
    status: Option<TcpListener>,
    path: PathBuf,
}

impl Listeners {
    /// # Errors
    /// When a socket is in use or cannot be opened.
    pub fn open(socket: &Path, http_addr: SocketAddr, status_addr: Option<SocketAddr>) -> Result<Self, ListenError> {
        let tcp = open_tcp("--http-addr", http_addr)?;
        let status = status_addr.map(|address| open_tcp("--status-addr", address)).transpose()?;
        let unix = open_unix(socket)?;
        Ok(Self { unix, tcp, status, path: socket.to_owned() })
    }

    /// Serves all of them until `stop` ends and the requests under way are answered, or until a listener fails.
    ///
    /// # Errors
    /// When a listener fails.
    pub async fn serve(self, context: Context, stop: impl Future<Output = ()>) -> io::Result<()> {
        let unix = tokio::net::UnixListener::from_std(self.unix.try_clone()?)?;
        let tcp = tokio::net::TcpListener::from_std(self.tcp.try_clone()?)?;
        let (stopping, stopped) = watch::channel(());
        let until = |mut stopped: watch::Receiver<()>| async move { while stopped.changed().await.is_ok() {} };
        let on_unix = axum::serve(unix, routes(context.clone(), Listener::Unix));
        let on_tcp = axum::serve(tcp, routes(context.clone(), Listener::Loopback));
        let on_unix = on_unix.with_graceful_shutdown(until(stopped.clone())).into_future();
        let on_tcp = on_tcp.with_graceful_shutdown(until(stopped.clone())).into_future();
        let status = self.status.as_ref().map(TcpListener::try_clone).transpose()?;
        let on_status = async move {
            let Some(status) = status else { return Ok(()) };
            let listener = Listener::read_only(status.local_addr()?);
            let status = tokio::net::TcpListener::from_std(status)?;
            axum::serve(status, routes(context, listener)).with_graceful_shutdown(until(stopped)).await
        };
        let stop = async move {
            stop.await;
            drop(stopping);
            Ok(())
        };
        tokio::try_join!(on_unix, on_tcp, on_status, stop)?;
        Ok(())
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

fn open_tcp(flag: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    let failed = |source| ListenError::Address { flag, address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

fn open_unix(path: &Path) -> Result<UnixListener, ListenError> {
    let failed = |source| ListenError::Socket { path: path.to_owned(), source };
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(failed)?;
    }
    remove_stale(path)?;
    // Bound under another name, so that nobody can connect before the mode is set.
    let aside = path.with_extension(format!("{}.new", std::process::id()));
    let listener = UnixListener::bind(&aside).map_err(failed)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&aside, path).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Removes a socket that nobody listens on, as a killed daemon leaves one.
fn remove_stale(path: &Path) -> Result<(), ListenError> {
    let failed = |source| ListenError::Socket { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => Err(ListenError::NoSocket(path.to_owned())),
        Ok(_) if UnixStream::connect(path).is_ok() => Err(ListenError::SocketInUse(path.to_owned())),
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
        let first = open_unix(&path).unwrap();
        let second = open_unix(&path);

        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(second, Err(ListenError::SocketInUse(_))));
        drop(first);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_that_is_no_socket_is_left_alone() {
        let directory = directory("no-socket");
        let path = directory.join("precious");
        fs::write(&path, "data").unwrap();

        assert!(matches!(open_unix(&path), Err(ListenError::NoSocket(_))));
        assert!(path.exists());
        fs::remove_dir_all(directory).unwrap();
    }
}
