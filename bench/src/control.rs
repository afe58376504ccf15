//! Asks a daemon over its control socket, without starting a client process for it.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, Result};
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
    let mut stream = UnixStream::connect(daemon.socket())?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\nAccept: application/json\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("no body")?;
    Ok(serde_json::from_str(body)?)
}
