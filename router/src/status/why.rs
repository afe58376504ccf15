//! `why PEER`: how frames travel to one peer, the reason, and what would change it.

use std::fmt::Write;

use super::time::rfc3339;
use super::{Peer, Snapshot};
use crate::shown::Shown;

/// Why there is nothing to explain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WhyError {
    #[error("no peer has the name, nickname or key `{0}`; `weave-rs status peers` lists them")]
    NoSuchPeer(String),
    #[error("`{wanted}` fits {count} peers; give the name of one, as `weave-rs status peers` prints it")]
    Ambiguous { wanted: String, count: usize },
    #[error("`{0}` is this host itself; frames to it never leave")]
    Ourselves(String),
}

/// Explains the path to `peer`.
pub fn explain(snapshot: &Snapshot, peer: &Peer) -> String {
    let mut text = format!("{}\n", peer.label);
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "{label:>10}: {}", Shown(value));
    };
    line("key", &peer.key);
    line("reachable", if peer.reachable { "yes" } else { "no: no chain of connections leads to it" });
    if let Some(path) = snapshot.paths.iter().find(|path| path.key == peer.key) {
        line("carrier", &path.carrier.to_string());
        line("encrypted", if path.encrypted { "yes" } else { "no" });
        line("mtu", &format!("{}: {}", path.mtu, path.mtu_reason));
        line("since", &rfc3339(path.since));
        line("reason", &path.reason);
        line("outlook", &path.outlook);
        line("sends", &path.sends.to_string());
        line("remote", path.remote.as_deref().unwrap_or("not known yet"));
        if let Some(relay) = &path.relay {
            line("relay", &relay.to_string());
        }
        line("session", &path.session_age_seconds.map_or_else(|| "none".to_owned(), |age| format!("{age} s old")));
    }
    text
}

/// The peer whose name or nickname is `wanted`, else the one whose key starts with it.
///
/// # Errors
/// When `wanted` fits no peer, several, or this host.
pub fn find<'a>(snapshot: &'a Snapshot, wanted: &str) -> Result<&'a Peer, WhyError> {
    let is_called = |peer: &&Peer| peer.label.name == wanted || peer.label.nickname == wanted;
    let has_key = |peer: &&Peer| !wanted.is_empty() && peer.key.starts_with(wanted);
    let mut found: Vec<_> = snapshot.peers.iter().filter(is_called).collect();
    if found.is_empty() {
        found = snapshot.peers.iter().filter(has_key).collect();
    }
    match found.as_slice() {
        [] => Err(WhyError::NoSuchPeer(wanted.to_owned())),
        [peer] if peer.is_self => Err(WhyError::Ourselves(wanted.to_owned())),
        [peer] => Ok(peer),
        several => Err(WhyError::Ambiguous { wanted: wanted.to_owned(), count: several.len() }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::snapshot;
    use super::*;

    fn with_two_peers() -> Snapshot {
        let mut snapshot = snapshot();
        let mut second = snapshot.peers[0].clone();
        second.label = snapshot.paths[0].peer.clone();
        second.key = snapshot.paths[0].key.clone();
        second.is_self = false;
        snapshot.peers.push(second);
        snapshot
    }

    #[test]
    fn a_peer_is_explained_by_name_nickname_or_key() {
        for wanted in ["02:00:00:00:00:02", "host2", "cdcd"] {
            let snapshot = with_two_peers();
            let text = explain(&snapshot, find(&snapshot, wanted).unwrap());

            assert!(text.contains("reason: no answer to heartbeats on the fast path"), "{text}");
            assert!(text.contains("mtu: 1376: frames of 1390 octets arrive"), "{text}");
            assert!(text.contains("outlook: an answered heartbeat moves it to fastdp"), "{text}");
        }
    }

    #[test]
    fn a_nickname_that_begins_another_peers_key_is_that_nickname() {
        let mut snapshot = with_two_peers();
        snapshot.peers[1].label.nickname = "ab".to_owned();

        assert_eq!(find(&snapshot, "ab").unwrap().label.nickname, "ab");
    }

    #[test]
    fn what_cannot_be_explained_says_what_to_ask_instead() {
        let snapshot = with_two_peers();
        let error = |wanted: &str| find(&snapshot, wanted).unwrap_err();

        assert_eq!(error("host9"), WhyError::NoSuchPeer("host9".to_owned()));
        assert_eq!(error(""), WhyError::NoSuchPeer(String::new()));
        assert_eq!(error("host1"), WhyError::Ourselves("host1".to_owned()));
    }
}
