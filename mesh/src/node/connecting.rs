//! A connection opens, is accepted or refused by either end, and ends.

use std::net::SocketAddr;
use std::sync::Arc;

use super::letters::LETTERS;
use super::links::{Connection, Phase};
use super::{CloseReason, Node, Output, Presence, Warning};
use crate::card::{Card, SignedCard};
use crate::connector::{ConnectionId, DialError, DialId, Discovery};
use crate::degree::{Admission, Surroundings};
use crate::identity::PeerKey;
use crate::store::{Content, Edge, Record, Tag};
use crate::time::Instant;
use crate::wire::{Contact, Message, Refusal, Testimony};

/// An open connection whose other end is authenticated.
#[derive(Clone, Debug)]
pub struct Link {
    /// The dial that led to it; none when the other end dialled.
    pub dial: Option<DialId>,
    pub remote: SocketAddr,
    /// The other end's card, from the handshake.
    pub card: SignedCard,
    /// Combined from both ends' random numbers, so that both ends prefer the same of two connections.
    pub uid: u64,
}

/// How many connections with one peer are open while it is decided which stays.
const RIVALS_MAX: usize = 2;

impl Node {
    /// A connection is open and its other end authenticated. Whether it stays is told by the outputs.
    pub fn handle_connected(&mut self, connection: ConnectionId, link: Link, now: Instant) {
        match self.verifier.check(&link.card) {
            Ok(card) => match self.examine(&card, &link, now) {
                Ok(()) => self.accept(connection, &card, link, now),
                Err(refusal) => self.refuse(connection, &card, link.dial, refusal, now),
            },
            Err(error) => {
                let reason = CloseReason::Protocol(error.to_string());
                self.outputs.push_back(Output::Close { connection, reason });
                self.fail_dial(link.dial, &DialError::Connect(error.to_string()), now);
            }
        }
        self.finish(now);
    }

    fn examine(&mut self, card: &Arc<Card>, link: &Link, now: Instant) -> Result<(), Refusal> {
        if self.presence == Presence::Left {
            return Err(Refusal::Referral { contacts: Vec::new() });
        }
        self.examine_identity(card, now)?;
        self.examine_name(card)?;
        self.examine_incarnation(card)?;
        self.examine_rivals(card, link.uid, now)?;
        let is_full = self.connection_limit != 0 && self.links.len() >= self.connection_limit;
        if is_full {
            return Err(Refusal::ConnectionLimit);
        }
        self.examine_degree(card, link)
    }

    /// Whether the key of a new connection's peer is known with a later incarnation, or with this one gone for good:
    /// whoever remembers that would ignore the peer, so it is shown what its key has signed.
    fn examine_incarnation(&self, card: &Card) -> Result<(), Refusal> {
        let Some(member) = self.members.get(&card.key) else { return Ok(()) };
        let departed = member.departed.filter(|departed| departed.incarnation >= card.incarnation);
        let later = match member.record.content() {
            Content::Card(signed) if member.card.incarnation > card.incarnation => Some(signed.clone()),
            _ => None,
        };
        match departed.map(Testimony::Goodbye).or_else(|| later.map(Testimony::Card)) {
            Some(proof) => Err(Refusal::Outlived { proof }),
            None => Ok(()),
        }
    }

    /// Of several connections with one peer: the newest incarnation, and of that the lowest uid.
    fn examine_rivals(&mut self, card: &Card, uid: u64, now: Instant) -> Result<(), Refusal> {
        let rivals = self.links.all_to(&card.key);
        if rivals.iter().any(|(_, rival)| rival.incarnation == card.incarnation && rival.uid <= uid) {
            return Err(Refusal::Duplicate);
        }
        let replaced = rivals.iter().filter(|(_, rival)| rival.incarnation < card.incarnation);
        for (connection, _) in replaced {
            self.close(*connection, CloseReason::Replaced, now);
        }
        let opening = self.links.all_to(&card.key).into_iter().filter(|(_, rival)| rival.phase == Phase::Opening);
        for (connection, _) in opening.skip(RIVALS_MAX - 1) {
            self.close(connection, CloseReason::Duplicate, now);
        }
        Ok(())
    }

    fn examine_degree(&mut self, card: &Card, link: &Link) -> Result<(), Refusal> {
        let connected = self.links.peers();
        if self.discovery == Discovery::Off || connected.contains(&card.key) {
            return Ok(());
        }
        let mut addresses = card.addresses.clone();
        if addresses.is_empty() && link.dial.is_some() {
            addresses.push(link.remote);
        }
        let surroundings = Surroundings {
            own: self.own.card().key,
            topology: &self.topology,
            members: &self.members,
            connector: &self.connector,
            connected: &connected,
            listen_port: self.listen_port,
        };
        match self.degree.admit(Contact { key: card.key, addresses }, &surroundings) {
            Admission::Accept => Ok(()),
            Admission::Refer(contacts) => Err(Refusal::Referral { contacts }),
        }
    }

    fn refuse(&mut self, connection: ConnectionId, card: &Card, dial: Option<DialId>, refusal: Refusal, now: Instant) {
        self.send(connection, Message::Refusal(refusal.clone()));
        let error = dial_error(&refusal, card.key, self.connection_limit);
        self.outputs.push_back(Output::Close { connection, reason: CloseReason::RefusedHere(refusal) });
        self.fail_dial(dial, &error, now);
    }

    fn fail_dial(&mut self, dial: Option<DialId>, error: &DialError, now: Instant) {
        if let Some(dial) = dial {
            self.connector.handle_failed(dial, error, now);
        }
    }

    fn accept(&mut self, id: ConnectionId, card: &Arc<Card>, link: Link, now: Instant) {
        let connection = Connection {
            peer: card.key,
            incarnation: card.incarnation,
            uid: link.uid,
            remote: link.remote,
            dial: link.dial,
            phase: Phase::Opening,
            misses: 0,
            was_heard: true,
            letters: LETTERS,
        };
        self.links.insert(id, connection);
        self.make_room_for(&card.key, now);
        let collision = self.members.note_card(card, &Record::new(Content::Card(link.card)), now);
        self.resolve_names(&card.key, collision, now);
        self.send(id, Message::Open(self.store.summary()));
        self.degree.request_review(now);
    }

    /// Both ends accept the connection.
    pub(super) fn go_live(&mut self, id: ConnectionId, now: Instant) {
        let Some(connection) = self.links.get_mut(id) else { return };
        connection.phase = Phase::Live { since: now };
        let Connection { peer, uid, remote, dial, .. } = *connection;
        self.connector.handle_connected(id, dial, peer, remote, now);
        self.exchange.add_neighbour(id, Tag::from(&peer));
        let losers = self.links.all_to(&peer).into_iter().filter(|(_, rival)| rival.uid > uid);
        for (loser, _) in losers {
            self.close(loser, CloseReason::Duplicate, now);
        }
        self.update_edge(&peer, now);
        self.degree.request_review(now);
        self.view_changed();
        self.inform_ipam(now, |ipam, near| ipam.handle_topology(near));
    }

    /// Publishes an edge to `peer` if a connection to it is live, else none.
    pub(super) fn update_edge(&mut self, peer: &PeerKey, now: Instant) {
        let session = self.session(peer);
        match self.links.live_to(peer) {
            Some((_, connection)) => {
                let (remote, direction) = (connection.remote, connection.direction());
                self.own.put_edge(Edge { peer: *peer, remote, direction, session }, now);
            }
            None => self.own.remove_edge(peer, now),
        }
    }

    /// A connection ended otherwise than by [`Output::Close`].
    pub fn handle_closed(&mut self, connection: ConnectionId, reason: CloseReason, now: Instant) {
        self.forget_connection(connection, &reason, now);
        self.finish(now);
    }

    /// Tells the other end why, and closes.
    pub(super) fn turn_away(&mut self, connection: ConnectionId, refusal: Refusal, now: Instant) {
        self.send(connection, Message::Refusal(refusal.clone()));
        self.close(connection, CloseReason::RefusedHere(refusal), now);
    }

    pub(super) fn close(&mut self, connection: ConnectionId, reason: CloseReason, now: Instant) {
        self.forget_connection(connection, &reason, now);
        self.outputs.push_back(Output::Close { connection, reason });
    }

    /// A peer broke the protocol: closed, and worth a warning.
    pub(super) fn close_for_breach(&mut self, connection: ConnectionId, problem: String, now: Instant) {
        let Some(peer) = self.links.get(connection).map(|connection| connection.peer) else { return };
        self.warn(Warning::BadMessage { peer, problem: problem.clone() });
        self.close(connection, CloseReason::Protocol(problem), now);
    }

    fn forget_connection(&mut self, id: ConnectionId, reason: &CloseReason, now: Instant) {
        let Some(connection) = self.links.remove(id) else { return };
        let peer = connection.peer;
        if connection.is_live() {
            self.exchange.remove_neighbour(id, &self.store, &self.members, now);
            self.connector.handle_closed(id, reason, now);
            self.update_edge(&peer, now);
        } else {
            let error = match reason {
                CloseReason::RefusedThere(refusal) => dial_error(refusal, peer, self.connection_limit),
                CloseReason::Duplicate => DialError::Duplicate { peer },
                _ => DialError::Connect(reason.to_string()),
            };
            self.fail_dial(connection.dial, &error, now);
        }
        self.degree.request_review(now);
        self.view_changed();
    }

    /// The other end does not want the connection.
    pub(super) fn handle_refusal(&mut self, connection: ConnectionId, refusal: Refusal, now: Instant) {
        let Some(peer) = self.links.get(connection).map(|connection| connection.peer) else { return };
        match &refusal {
            Refusal::Referral { contacts } => {
                self.degree.avoid(peer, now);
                self.degree.handle_referral(contacts.clone(), now);
            }
            Refusal::Surplus | Refusal::ConnectionLimit | Refusal::NameCollision { .. } => self.degree.avoid(peer, now),
            Refusal::Itself | Refusal::Duplicate | Refusal::DuplicateIdentity { .. } | Refusal::Outlived { .. } => {}
        }
        self.close(connection, CloseReason::RefusedThere(refusal.clone()), now);
        if let Refusal::Outlived { proof } = refusal {
            self.handle_testimony(&proof, now);
        }
    }

    pub(super) fn send(&mut self, connection: ConnectionId, message: Message) {
        self.outputs.push_back(Output::Send { connection, message });
    }

    /// Sends a last message to everyone and takes part no longer.
    pub(super) fn leave(&mut self, last: &Message, reason: &CloseReason, now: Instant) {
        self.presence = Presence::Left;
        self.connector.retire();
        for connection in self.links.ids() {
            self.send(connection, last.clone());
            self.close(connection, reason.clone(), now);
        }
        self.finish(now);
    }
}

fn dial_error(refusal: &Refusal, peer: PeerKey, limit: usize) -> DialError {
    match refusal {
        Refusal::Itself => DialError::Itself,
        Refusal::NameCollision { name, holder, newcomer } => {
            DialError::NameCollision { name: *name, holder: *holder, newcomer: *newcomer }
        }
        Refusal::Duplicate => DialError::Duplicate { peer },
        Refusal::Referral { .. } => DialError::Referred { peer },
        Refusal::ConnectionLimit => DialError::ConnectionLimit { limit },
        Refusal::Surplus | Refusal::DuplicateIdentity { .. } | Refusal::Outlived { .. } => {
            DialError::Connect(refusal.to_string())
        }
    }
}
