//! Unix sockets that only root may open: made here, or before us by whoever starts us, as a socket unit of systemd does.
//!
//! One that was made before us outlives us: whoever connects while there is no daemon waits for the next one instead of
//! being refused.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use crate::config::SocketPlace;

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

/// A listening unix socket. Dropping it removes it, if it was made here.
#[derive(Debug)]
pub struct UnixSocket {
    listener: UnixListener,
    path: PathBuf,
    is_made_here: bool,
}

impl UnixSocket {
    /// Takes what was opened for us, or opens one.
    ///
    /// # Errors
    /// When it is in use or cannot be opened.
    pub fn at(flag: &'static str, place: &SocketPlace) -> Result<Self, ListenError> {
        let Some(given) = place.listener() else { return Self::open(flag, place.path()) };
        let path = place.path().to_owned();
        let listener = given.and_then(|listener| listener.set_nonblocking(true).map(|()| listener));
        match listener {
            Ok(listener) => Ok(Self { listener, path, is_made_here: false }),
            Err(source) => Err(ListenError::Socket { flag, path, source }),
        }
    }

    pub(super) fn open(flag: &'static str, path: &Path) -> Result<Self, ListenError> {
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
        Ok(Self { listener, path: path.to_owned(), is_made_here: true })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// For the runtime that is to serve it.
    ///
    /// # Errors
    /// When no descriptor is left.
    pub(crate) fn listener(&self) -> io::Result<tokio::net::UnixListener> {
        tokio::net::UnixListener::from_std(self.listener.try_clone()?)
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        if self.is_made_here {
            let _ = fs::remove_file(&self.path);
        }
    }
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
        let first = UnixSocket::open("--socket", &path).unwrap();
        let second = UnixSocket::open("--socket", &path);

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

        assert!(matches!(UnixSocket::open("--socket", &path), Err(ListenError::NoSocket { .. })));
        assert!(path.exists());
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_socket_that_was_opened_for_us_is_served_and_stays_where_it_is() {
        let directory = directory("given-socket");
        let path = directory.join("docker.sock");
        let given = UnixListener::bind(&path).unwrap();
        let place = SocketPlace::given(given).unwrap();

        let socket = UnixSocket::at("--docker-proxy", &place).unwrap();
        assert_eq!(place.path(), path);
        let client = UnixStream::connect(&path).unwrap();
        assert!(socket.listener.accept().is_ok());
        drop((socket, client));

        UnixStream::connect(&path).expect("whoever opened it still listens");
        UnixSocket::at("--docker-proxy", &place).expect("another life of the daemon");
        fs::remove_dir_all(directory).unwrap();
    }
}
