//! A host that lies about all others, beside the daemon that it runs: what others hold true must not change by it.

use std::sync::Arc;

use super::{HostId, World};
use crate::connector::ConnectionId;
use crate::identity::{Hash, Identity, PeerKey, Scheme};
use crate::ipam::{self, Certificate, Estate, Range, Reason, Right, RingNews, Succession, Transfer};
use crate::letter::Letter;
use crate::name::MeshId;
use crate::node::ConnectionState;
use crate::store::{CardRecord, Part, Set, Tag, Version};
use crate::wire::{Ask, Message, Offer, Versions};

/// Lives that others are said to have lived.
const LIVES: [Version; 3] = [
    Version { incarnation: u64::MAX, counter: u64::MAX },
    Version { incarnation: 1 << 62, counter: 0 },
    Version { incarnation: 0, counter: u64::MAX },
];

impl World {
    /// The host says to all its neighbours what is not so of everybody.
    pub(super) fn lie(&mut self, liar: HostId) {
        let Some(daemon) = &self.hosts[liar.0].daemon else { return };
        let view = daemon.node.view();
        let open = view.connections.iter().filter_map(|connection| match connection.state {
            ConnectionState::Established { connection, .. } => Some(connection),
            _ => None,
        });
        let open: Vec<ConnectionId> = open.collect();
        let (identity, mesh) = (daemon.identity.clone(), self.options.mesh);
        let others: Vec<PeerKey> = self.live().filter(|host| *host != liar).filter_map(|host| self.key(host)).collect();
        let mut lies = lies(&identity, mesh, &view.own, &others);
        let range = self.options.ipam.as_ref().map(|config| config.range.range());
        if let (Some(ring), Some(range)) = (daemon.node.ring(), range) {
            lies.extend(thefts(&identity, ring, range, &others));
            lies.push(obituaries(&identity, mesh, &others));
        }
        for connection in open {
            self.send(liar, connection, lies.clone());
        }
    }
}

fn lies(identity: &Identity, mesh: MeshId, own: &Arc<Set>, others: &[PeerKey]) -> Vec<Message> {
    let tags: Vec<Tag> = others.iter().map(Tag::from).collect();
    let offers: Vec<Offer> =
        tags.iter().flat_map(|owner| LIVES.map(|version| Offer { owner: *owner, version })).collect();
    let asks = tags.iter().map(|owner| Ask { owner: *owner, base: None, card: None });
    // Its own records under another's name: when that was asked for, it costs the connection.
    let forged = others.iter().map(|owner| {
        let mut part = Part::split(own, CardRecord::Include).remove(0);
        (part.owner, part.version) = (*owner, LIVES[1]);
        Message::Part(Arc::new(part.received()))
    });
    let letters = others.iter().map(|to| Message::Letter(Letter::sign(identity, mesh, *to, vec![7; 100])));
    let mut lies = vec![
        Message::Asks(asks.cycle().take(if tags.is_empty() { 0 } else { 500 }).collect()),
        Message::Versions(Versions { buckets: u64::MAX, offers: offers.clone() }),
        Message::Offers(offers),
    ];
    lies.extend(letters);
    lies.extend(forged);
    lies
}

/// The liar has everything that anybody had, by every right and number; strangers approve.
fn thefts(identity: &Identity, ring: Hash, range: Range, others: &[PeerKey]) -> Vec<Message> {
    let versions = [(0, 1), (0, u32::MAX), (1, 0), (2, 0), (1_000, 1), (u32::MAX, u32::MAX)];
    let versions = versions.map(|(epoch, count)| ipam::Version { epoch, count });
    let stolen = |right: Right| {
        versions.map(|version| Arc::new(Transfer::sign(&ring, range, version, right, identity.key(), identity)))
    };
    let of_each = others.iter().map(|dead| {
        let estate = Estate { dead: *dead, heir: identity.key(), id: 1 };
        let strangers = (100..115).map(|number| Identity::from_secret_bytes(Scheme::Simulated, &[number; 64]));
        let approvals = strangers.map(|by| (by.key(), estate.approve(&ring, u64::MAX, &by))).collect();
        let rights = [Right::TakeOver { from: *dead, id: 1 }, Right::Grant { from: identity.key() }];
        RingNews {
            ring: Some(ring),
            transfers: rights.into_iter().flat_map(stolen).collect(),
            succession: Some(Box::new(Succession { estate, approvals })),
            ..RingNews::default()
        }
    });
    of_each.map(Message::RingNews).collect()
}

/// Everybody is dead.
fn obituaries(identity: &Identity, mesh: MeshId, others: &[PeerKey]) -> Message {
    let reason = Reason::Operator { successor: None };
    let dead = others.iter().map(|dead| Certificate::sign(identity, mesh, *dead, reason.clone(), None));
    Message::RingNews(RingNews { certificates: dead.collect(), ..RingNews::default() })
}
