//! Asks a daemon over its control socket, without starting a client process for it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_netns_tests::weave::Weave;

/// How many peers, itself included, a daemon holds a live record of; zero while it does not answer.
pub(crate) fn reachable_peers(daemon: &Weave) -> usize {
    get(daemon, "/status/peers").map_or(0, |peers| count_reachable(&peers))
}

fn count_reachable(peers: &serde_json::Value) -> usize {
    // The counter of a peer of which only the card arrived so far is zero.
    let has_set = |peer: &serde_json::Value| peer["version"][1].as_u64().is_some_and(|counter| counter > 0);
    let is_live = |peer: &&serde_json::Value| peer["reachable"] == true && has_set(peer);
    peers.as_array().map_or(0, |all| all.iter().filter(is_live).count())
}

/// A document of the control API.
pub(crate) fn get(daemon: &Weave, path: &str) -> Result<serde_json::Value> {
    Ok(serde_json::from_str(&Session::open(daemon)?.ask("GET", path)?)?)
}

/// A connection that is kept for many requests.
#[derive(Debug)]
pub(crate) struct Session(BufReader<UnixStream>);

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

impl Session {
    pub(crate) fn open(daemon: &Weave) -> Result<Self> {
        let stream = UnixStream::connect(daemon.socket())?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }

    /// The body of a request that must succeed.
    pub(crate) fn ask(&mut self, method: &str, path: &str) -> Result<String> {
        let head = "HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\nContent-Length: 0\r\n\r\n";
        self.0.get_mut().write_all(format!("{method} {path} {head}").as_bytes())?;
        let (status, length) = self.head().with_context(|| format!("{method} {path}"))?;
        let mut body = vec![0; length];
        self.0.read_exact(&mut body)?;
        let body = String::from_utf8(body)?;
        ensure!(status.starts_with('2'), "{method} {path}: {status}: {body}");
        Ok(body)
    }

    /// Status and length of the body.
    fn head(&mut self) -> Result<(String, usize)> {
        let status = self.line()?.split_once(' ').context("no status")?.1.to_owned();
        let mut length = 0;
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                return Ok((status, length));
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse()?;
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(self.0.read_line(&mut line)? > 0, "the daemon hung up");
        Ok(line.trim_end().to_owned())
    }
}
