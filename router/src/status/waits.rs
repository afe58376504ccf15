//! What operations on addresses wait for, and why they are refused, with peers called as people call them.

use weave_mesh::identity::PeerKey;
use weave_mesh::ipam::{Error, Wait};
use weave_mesh::members::HOLD;

/// What is waited for, completing "waiting for …".
pub fn wait(wait: &Wait, label: &dyn Fn(&PeerKey) -> String) -> String {
    match wait {
        Wait::Containers => "the containers of this host to be known".to_owned(),
        Wait::Quorum { have, need, oldest, unmet } => {
            let unmet = if unmet.is_empty() { String::new() } else { format!("; no answer from {}", unmet.join(", ")) };
            let oldest =
                oldest.as_ref().map_or_else(String::new, |it| format!(", not without the oldest machine {it}"));
            format!("a quorum to share out the range ({have} of {need} peers are reachable{oldest}{unmet})")
        }
        Wait::Listing => "two equal answers of the cloud to which machines there are".to_owned(),
        Wait::Electors => "others to share out the range: every peer given to this one is an observer or gives no \
                           addresses; launch it with --ipalloc-init consensus=N, or give it a peer that votes"
            .to_owned(),
        Wait::Ring => "others to share out the range".to_owned(),
        Wait::Comparison => {
            "other peers to tell whether the addresses of this one are still its own: it was away".to_owned()
        }
        Wait::Space => "an address to become available".to_owned(),
        Wait::Peer(peer) => format!("addresses from {}", label(peer)),
        Wait::Unreachable(peer) => {
            format!("{}, which owns the address and is unreachable; if it is dead, `weave-rs rmpeer` it", label(peer))
        }
        Wait::Hold(peer) => format!(
            "{} to be gone for {} s: it was reached not long ago, and a peer that restarts is not dead",
            label(peer),
            HOLD.as_secs()
        ),
        Wait::Consent { heir, missing } => {
            let missing: Vec<_> = missing.iter().map(label).collect();
            format!("the consent of {} that {} takes over from the dead", missing.join(", "), label(heir))
        }
    }
}

/// Why an operation is refused.
pub fn refusal(error: &Error, label: &dyn Fn(&PeerKey) -> String) -> String {
    match error {
        Error::HeldElsewhere { address, peer } => {
            format!("address {address} is owned by other peer {}, where a container has it", label(peer))
        }
        Error::Reachable { peer, .. } => {
            let peer = label(peer);
            format!("peer {peer} is reachable, so it is not dead; stop it first, or run `weave-rs reset` there")
        }
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(_: &PeerKey) -> String {
        "02:00:00:00:00:02(h2)".to_owned()
    }

    #[test]
    fn peers_are_called_by_name() {
        let peer = PeerKey([7; 32]);
        let consent = Wait::Consent { heir: peer, missing: vec![peer, peer] };
        let address = [10, 32, 0, 1].into();

        for text in [
            wait(&Wait::Peer(peer), &label),
            wait(&Wait::Unreachable(peer), &label),
            wait(&consent, &label),
            refusal(&Error::HeldElsewhere { address, peer }, &label),
            refusal(&Error::Reachable { peer, from: peer }, &label),
            wait(&Wait::Hold(peer), &label),
        ] {
            assert!(text.contains("(h2)") && !text.contains(&peer.to_string()), "{text}");
        }
    }
}
