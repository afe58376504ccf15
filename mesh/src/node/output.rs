//! What a node asks of its shell, in order.

use std::net::IpAddr;

use super::persist::Persist;
use crate::connector::{ConnectionId, Dial};
use crate::identity::PeerKey;
use crate::ipam::{self, Answer, Problem, Ticket};
use crate::name::{MacAddr, PeerName};
use crate::wire::{Message, Refusal};

/// Something for the shell to do.
#[derive(Clone, Debug)]
pub enum Output {
    Persist(Persist),
    Dial(Dial),
    Send {
        connection: ConnectionId,
        message: Message,
    },
    /// Call [`Node::handle_room`](super::Node::handle_room) once when the stream has taken what was sent before.
    AwaitRoom {
        connection: ConnectionId,
    },
    /// Close after what was sent before; no [`Node::handle_closed`](super::Node::handle_closed) is expected.
    Close {
        connection: ConnectionId,
        reason: CloseReason,
    },
    Event(Event),
}

/// Something that the router may want to act on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// [`Node::view`](super::Node::view) has changed; told once until it is asked for again.
    ViewChanged,
    /// [`Node::names`](super::Node::names) has changed; told once until it is asked for again.
    NamesChanged,
    PeerUp(PeerKey),
    PeerDown(PeerKey),
    /// Our name belongs to a peer with a lower key; this is ours from here on.
    Renamed(PeerName),
    /// A live daemon that started earlier has our key: this one must start again as a new identity.
    IdentityTaken,
    Warning(Warning),
    /// The end of an operation on addresses.
    Ipam {
        ticket: Ticket,
        answer: Result<Answer, ipam::Error>,
    },
}

/// Something that a person should know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    #[error("two peers are called {name}: {winner} keeps the name, {loser} takes the one derived from its key")]
    NameCollision { name: PeerName, winner: PeerKey, loser: PeerKey },
    #[error("MAC {mac} of ours is also claimed by peer {winner}, which attached it later and has it")]
    MacTaken { mac: MacAddr, winner: PeerKey },
    #[error("address {address} of ours is also claimed by peer {winner}, which attached it later and has it")]
    AddressTaken { address: IpAddr, winner: PeerKey },
    #[error("peer {peer} sent what it should not: {problem}")]
    BadMessage { peer: PeerKey, problem: String },
    #[error("what was stored of a peer is not used: {problem}")]
    BadState { problem: String },
    #[error("what we publish is over a limit and stays as it was: {problem}")]
    NotPublished { problem: String },
    #[error("peer {peer} and addresses: {problem}")]
    Addresses { peer: PeerKey, problem: Problem },
    #[error("others remember a later life of ours (incarnation {heard}): going on above it")]
    Outlived { heard: u64 },
}

/// Why a connection ends.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    #[error("refused here: {0}")]
    RefusedHere(Refusal),
    #[error("refused by the peer: {0}")]
    RefusedThere(Refusal),
    #[error("another connection to the same peer was kept")]
    Duplicate,
    #[error("the peer restarted and has connected again")]
    Replaced,
    #[error("nothing heard for {0} probe intervals")]
    Silent(u8),
    #[error("we leave the mesh")]
    Goodbye,
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// What the shell saw: reset, end of stream, a record that does not open.
    #[error("{0}")]
    Transport(String),
}
