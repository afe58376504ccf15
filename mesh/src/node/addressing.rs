//! The node's side of IPAM: operations in, answers and messages out.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::{Event, Node, Output, Persist, Warning};
use crate::connector::ConnectionId;
use crate::identity::{Hash, PeerKey};
use crate::ipam::{
    Action, Answer, Cidr, ClaimMode, Config, ConfigError, Error, Ipam, IpamView, Restored, RingNews, RingState,
    Surroundings, Ticket,
};
use crate::letter::Letter;
use crate::time::Instant;
use crate::wire::Message;

/// The surroundings of IPAM, borrowed from fields that it is none of.
macro_rules! surroundings {
    ($node:ident) => {
        Surroundings {
            card: $node.own.card(),
            identity: $node.own.identity(),
            verifier: &$node.verifier,
            topology: &$node.topology,
            links: &$node.links,
            members: &$node.members,
            connector: &$node.connector,
            roster: &$node.roster,
            claims: &$node.claims,
            now: $node.now,
        }
    };
}

impl Node {
    pub(super) fn start_ipam(&mut self, config: Config, restored: &Restored, seed: u64) -> Result<(), ConfigError> {
        let ipam = Ipam::new(config, restored, seed, &surroundings!(self))?;
        self.ipam = Some(ipam);
        Ok(())
    }

    /// Breaks a rule of IPAM from here on.
    #[cfg(test)]
    pub(crate) fn break_rule(&mut self, rule: crate::ipam::Rule) {
        if let Some(ipam) = &mut self.ipam {
            ipam.break_rule(rule);
        }
    }

    /// Tells which running containers were found with which addresses. Nothing is allocated before; call it once after
    /// every start, also when there is none.
    pub fn resume_containers(&mut self, found: &[(String, Cidr)], now: Instant) {
        self.with_ipam(now, |ipam, _| ipam.resume(found));
    }

    /// Gives `container` the lowest free address of `subnet` that we own, or the one that it has there already. The answer
    /// comes as [`Event::Ipam`], and so do those of all operations with a ticket.
    pub fn allocate(&mut self, ticket: Ticket, container: &str, subnet: Cidr, now: Instant) {
        self.operate(ticket, now, |ipam, near| ipam.allocate(ticket, container, subnet, near));
    }

    /// Gives `container` this very address.
    pub fn claim(&mut self, ticket: Ticket, container: &str, address: Cidr, mode: ClaimMode, now: Instant) {
        self.operate(ticket, now, |ipam, near| ipam.claim(ticket, container, address, mode, near));
    }

    /// Answered once the ring exists.
    pub fn wait_for_ring(&mut self, ticket: Ticket, now: Instant) {
        self.operate(ticket, now, |ipam, near| ipam.wait_for_ring(ticket, near));
    }

    /// `rmpeer`: certifies that `peer` is dead; answered when its addresses have another owner.
    pub fn take_over(&mut self, ticket: Ticket, peer: PeerKey, now: Instant) {
        let from = self.key();
        if peer == from || self.topology.is_reachable(&peer) {
            self.answer(ticket, Err(Error::Reachable { peer, from }));
        } else {
            self.operate(ticket, now, |ipam, near| ipam.take_over(ticket, peer, near));
        }
    }

    /// `reset`: gives what we own to a reachable peer. Release what containers hold before.
    pub fn hand_over(&mut self, ticket: Ticket, now: Instant) {
        self.operate(ticket, now, |ipam, near| ipam.hand_over(ticket, near));
    }

    /// The caller of an operation is gone: it is not answered any more.
    pub fn cancel(&mut self, ticket: Ticket, now: Instant) {
        self.with_ipam(now, |ipam, _| ipam.cancel(ticket));
    }

    /// `container` gives back one address, or all.
    ///
    /// # Errors
    /// When it has none, or not that one.
    pub fn release(&mut self, container: &str, address: Option<Ipv4Addr>, now: Instant) -> Result<(), Error> {
        self.with_ipam(now, |ipam, near| ipam.release(container, address, near)).unwrap_or(Err(Error::Off))
    }

    /// What `container` has of `addresses` is `heir`'s from here on, and nobody else's in between.
    pub fn pass_on(&mut self, container: &str, heir: &str, addresses: &[Ipv4Addr], now: Instant) {
        self.with_ipam(now, |ipam, _| ipam.pass_on(container, heir, addresses));
    }

    /// The addresses that `container` has, with the prefix length of the subnet each was allocated in.
    pub fn addresses(&self, container: &str) -> &[Cidr] {
        self.ipam.as_ref().map_or(&[], |ipam| ipam.addresses(container))
    }

    /// Every container with its addresses.
    pub fn all_addresses(&self) -> BTreeMap<String, Vec<Cidr>> {
        self.ipam.as_ref().map(|ipam| ipam.held()).unwrap_or_default()
    }

    /// Which ring it is, once there is one.
    pub(crate) fn ring(&self) -> Option<Hash> {
        self.ipam.as_ref()?.state().ring
    }

    /// Whether a first ring waits for what the cloud says.
    pub fn waits_for_listing(&self) -> bool {
        self.ipam.as_ref().is_some_and(Ipam::waits_for_listing)
    }

    /// Of how many dead something is remembered, into how many pieces the ring is cut, and how much of its history is kept.
    pub(crate) fn remembered_addresses(&self) -> (usize, usize, usize) {
        self.ipam.as_ref().map(Ipam::remembered).unwrap_or_default()
    }

    /// Absent when no addresses are managed.
    pub fn ipam_view(&self) -> Option<IpamView> {
        self.ipam.as_ref().map(|ipam| ipam.view(&surroundings!(self)))
    }

    fn operate(&mut self, ticket: Ticket, now: Instant, operation: impl FnOnce(&mut Ipam, &Surroundings<'_>)) {
        if self.with_ipam(now, operation).is_none() {
            self.answer(ticket, Err(Error::Off));
        }
    }

    fn with_ipam<T>(&mut self, now: Instant, work: impl FnOnce(&mut Ipam, &Surroundings<'_>) -> T) -> Option<T> {
        self.now = now;
        let result = work(self.ipam.as_mut()?, &surroundings!(self));
        self.finish(now);
        Some(result)
    }

    /// For what is part of handling another input, which ends with [`Self::finish`].
    pub(super) fn inform_ipam(&mut self, now: Instant, work: impl FnOnce(&mut Ipam, &Surroundings<'_>)) {
        self.now = now;
        if let Some(ipam) = &mut self.ipam {
            work(ipam, &surroundings!(self));
        }
    }

    /// A neighbour compares its ring with ours.
    pub(super) fn handle_ring_state(&mut self, from: ConnectionId, theirs: &RingState, now: Instant) {
        self.inform_ipam(now, |ipam, near| ipam.handle_state(from, theirs, near));
    }

    pub(super) fn handle_ring_news(&mut self, from: ConnectionId, news: &RingNews, now: Instant) {
        let Some(peer) = self.links.get(from).map(|link| link.peer) else { return };
        self.inform_ipam(now, |ipam, near| ipam.handle_news(from, peer, news, near));
    }

    /// Tells a new neighbour which ring we have.
    pub(super) fn open_ring(&mut self, to: ConnectionId) {
        if let Some(state) = self.ipam.as_ref().and_then(Ipam::opening_state) {
            self.send(to, Message::RingState(state));
        }
    }

    /// Tells a neighbour which ring we have, for it to compare.
    pub(super) fn send_ring_state(&mut self, to: ConnectionId) {
        if let Some(state) = self.ipam.as_ref().and_then(Ipam::told_state) {
            self.send(to, Message::RingState(state));
        }
    }

    /// Carries out what IPAM has decided.
    pub(super) fn follow_ipam(&mut self, now: Instant) {
        self.inform_ipam(now, |ipam, near| ipam.settle(near));
        while let Some(action) = self.ipam.as_mut().and_then(Ipam::poll_action) {
            match action {
                Action::PersistRing(bytes) => self.outputs.push_back(Output::Persist(Persist::Ring(bytes))),
                Action::PersistOwned(change) => self.outputs.push_back(Output::Persist(Persist::Owned(change))),
                Action::Answer(ticket, answer) => self.answer(ticket, answer),
                Action::Write(to, body) => {
                    self.post(Letter::sign(self.own.identity(), self.own.card().mesh, to, body));
                }
                Action::Spread { news, except } => self.spread(&news, except),
                Action::Tell(connection, news) => self.send(connection, Message::RingNews(news)),
                Action::TellState(connection, state) => self.send(connection, Message::RingState(state)),
                Action::Problem(peer, problem) => self.warn(Warning::Addresses { peer, problem }),
                Action::Forget(peer) => self.forget_member(&peer, now),
                Action::Refute(incarnation) => self.rise_above(incarnation, now),
                Action::Breach(peer, problem) => {
                    self.warn(Warning::BadMessage { peer, problem: problem.to_owned() });
                }
            }
        }
    }

    fn spread(&mut self, news: &RingNews, except: Option<ConnectionId>) {
        let live: Vec<ConnectionId> = self.links.live().map(|(id, _)| id).filter(|id| Some(*id) != except).collect();
        for connection in live {
            self.send(connection, Message::RingNews(news.clone()));
        }
    }

    fn answer(&mut self, ticket: Ticket, answer: Result<Answer, Error>) {
        self.event(Event::Ipam { ticket, answer });
    }
}
