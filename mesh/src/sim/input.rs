//! What a host feeds its node, as values: recorded, they replay the node alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::connector::{ConnectionId, DialError, DialId, Earlier, Target};
use crate::identity::{Identity, PeerKey};
use crate::ipam::{Cidr, ClaimMode, Ticket};
use crate::node::{CloseReason, Config, ConfigError, Event, Link, Node, Output, Persist, Restored};
use crate::roster::Listing;
use crate::store::{Endpoint, EndpointId};
use crate::time::{Instant, UnixTime};
use crate::wire::Message;

#[derive(Clone, Debug)]
pub enum Input {
    DialFailed(DialId, DialError),
    Connected(ConnectionId, Box<Link>),
    Message(ConnectionId, Message),
    Closed(ConnectionId, CloseReason),
    Room(ConnectionId),
    Timeout,
    Connect(Vec<Target>, Earlier),
    Forget(Vec<Target>),
    Endpoints(BTreeMap<EndpointId, Endpoint>),
    DirectSessions(BTreeSet<PeerKey>),
    Goodbye,
    Resume(Vec<(String, Cidr)>),
    Allocate(Ticket, String, Cidr),
    Claim(Ticket, String, Cidr),
    Release(String),
    TakeOver(Ticket, PeerKey),
    HandOver(Ticket),
    Listing(Listing),
}

impl Input {
    /// Refusals of commands are the operator's concern, not the simulation's.
    pub fn apply(self, node: &mut Node, now: Instant) {
        match self {
            Self::DialFailed(dial, error) => node.handle_dial_failed(dial, &error, now),
            Self::Connected(connection, link) => node.handle_connected(connection, *link, now),
            Self::Message(connection, message) => node.handle_message(connection, message, now),
            Self::Closed(connection, reason) => node.handle_closed(connection, reason, now),
            Self::Room(connection) => node.handle_room(connection, now),
            Self::Timeout => node.handle_timeout(now),
            Self::Connect(targets, earlier) => drop(node.connect(&targets, earlier, now)),
            Self::Forget(targets) => node.forget(&targets, now),
            Self::Endpoints(endpoints) => drop(node.set_endpoints(endpoints, now)),
            Self::DirectSessions(peers) => node.set_direct_sessions(peers, now),
            Self::Goodbye => node.say_goodbye(now),
            Self::Resume(found) => node.resume_containers(&found, now),
            Self::Allocate(ticket, container, subnet) => node.allocate(ticket, &container, subnet, now),
            Self::Claim(ticket, container, address) => node.claim(ticket, &container, address, ClaimMode::Ask, now),
            Self::Release(container) => drop(node.release(&container, None, now)),
            Self::TakeOver(ticket, peer) => node.take_over(ticket, peer, now),
            Self::HandOver(ticket) => node.hand_over(ticket, now),
            Self::Listing(listing) => node.follow_listing(&listing, now),
        }
    }
}

/// One run of one node, complete.
#[derive(Clone, Debug)]
pub struct Recording {
    pub config: Config,
    pub identity: Identity,
    pub restored: Restored,
    pub seed: u64,
    pub started: (Instant, UnixTime),
    pub inputs: Vec<(Instant, Input)>,
    /// What the node put out, as text, in order.
    pub outputs: Vec<String>,
}

impl Recording {
    /// Runs a new node over the recorded inputs, and returns what it puts out.
    ///
    /// # Errors
    /// When the configuration makes no node.
    pub fn replay(&self) -> Result<Vec<String>, ConfigError> {
        let (now, wall) = self.started;
        let (config, identity) = (self.config.clone(), self.identity.clone());
        let mut node = Node::new(config, identity, self.restored.clone(), self.seed, now, wall)?;
        let mut outputs = drain(&mut node);
        for (now, input) in &self.inputs {
            input.clone().apply(&mut node, *now);
            outputs.extend(drain(&mut node));
        }
        Ok(outputs)
    }
}

fn drain(node: &mut Node) -> Vec<String> {
    std::iter::from_fn(|| node.poll_output()).filter_map(|output| describe(&output)).collect()
}

/// An output as text; what travels or is stored by its bytes, since nothing else of it counts. That the view has changed
/// is left out: it is told again only when somebody looked, and looking is no input.
pub(super) fn describe(output: &Output) -> Option<String> {
    Some(match output {
        Output::Event(Event::ViewChanged | Event::NamesChanged) => return None,
        Output::Send { connection, message } => format!("send {connection} {:?}", message.encode()),
        Output::Persist(Persist::Member(member)) => format!("persist {:?}", member.encode()),
        Output::Persist(_) | Output::Dial(_) | Output::AwaitRoom { .. } | Output::Close { .. } | Output::Event(_) => {
            format!("{output:?}")
        }
    })
}
