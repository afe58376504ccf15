//! Where a unix socket is, and the socket itself if it was opened for us.

use std::io;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Clone, Debug)]
pub struct SocketPlace {
    path: PathBuf,
    given: Option<Arc<UnixListener>>,
}

impl SocketPlace {
    /// One that listens already.
    ///
    /// # Errors
    /// When it has no path, so that nobody could be told where it is.
    pub fn given(listener: UnixListener) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let path = address.as_pathname().ok_or_else(|| io::Error::other("the socket has no path"))?;
        Ok(Self { path: path.to_owned(), given: Some(Arc::new(listener)) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The socket that was opened for us, for one life of the daemon.
    pub(crate) fn listener(&self) -> Option<io::Result<UnixListener>> {
        self.given.as_ref().map(|given| given.try_clone())
    }
}

impl<P: Into<PathBuf>> From<P> for SocketPlace {
    fn from(path: P) -> Self {
        Self { path: path.into(), given: None }
    }
}
