//! Sockets that were opened for the daemon before it started, by socket units of systemd (sd_listen_fds(3)).
//!
//! Whoever connects to one while there is no daemon waits for the next one, instead of being refused.

use anyhow::{Context, Result, bail, ensure};
use listenfd::ListenFd;
use weave_router::config::SocketPlace;

use crate::environment;

/// What a socket unit calls them (`FileDescriptorName=`).
const PROXY: &str = "docker-proxy";
const PLUGIN: &str = "docker-plugin";

/// As far as there are any.
#[derive(Debug, Default)]
pub(crate) struct GivenSockets {
    proxy: Option<SocketPlace>,
    plugin: Option<SocketPlace>,
}

impl GivenSockets {
    /// Takes those of this process, of which the environment tells; they are there once.
    pub(crate) fn take() -> Result<Self> {
        let mut listed = ListenFd::from_env();
        let names = environment::variable("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut given = Self::default();
        for index in 0..listed.len() {
            let name = names.next().unwrap_or_default();
            let socket = given.called(name)?;
            let listener = listed.take_unix_listener(index)?.with_context(|| format!("there is no socket `{name}`"))?;
            ensure!(socket.is_none(), "there are two sockets called `{name}`");
            *socket = Some(SocketPlace::given(listener)?);
        }
        Ok(given)
    }

    fn called(&mut self, name: &str) -> Result<&mut Option<SocketPlace>> {
        match name {
            PROXY => Ok(&mut self.proxy),
            PLUGIN => Ok(&mut self.plugin),
            _ => {
                bail!("a socket that was opened for us is called `{name}`: FileDescriptorName= is {PROXY} or {PLUGIN}")
            }
        }
    }

    /// Where Docker's API is passed on: the one that was opened for us, or at the path that the flag gives.
    pub(crate) fn proxy(&mut self, flag: Option<SocketPlace>) -> Result<Option<SocketPlace>> {
        one("--docker-proxy", self.proxy.take(), flag)
    }

    /// Where Docker finds its plugin, likewise.
    pub(crate) fn plugin(&mut self, flag: Option<SocketPlace>) -> Result<Option<SocketPlace>> {
        one("--docker-plugin", self.plugin.take(), flag)
    }
}

fn one(name: &str, given: Option<SocketPlace>, flag: Option<SocketPlace>) -> Result<Option<SocketPlace>> {
    if let (Some(given), Some(flag)) = (&given, &flag) {
        let (given, flag) = (given.path(), flag.path());
        ensure!(
            given == flag,
            "{name}={}, and a socket at {} was opened for us; leave one out",
            flag.display(),
            given.display()
        );
    }
    Ok(given.or(flag))
}
