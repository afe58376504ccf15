//! Messages come in; a set is accepted; who is reachable follows from it.

use std::sync::Arc;
use std::time::Duration;

use super::claims::{Tally, Weight};
use super::links::Phase;
use super::{CloseReason, Event, Node, Standing, Warning};
use crate::connector::ConnectionId;
use crate::dns::is_naming;
use crate::identity::PeerKey;
use crate::members::Reach;
use crate::store::{Content, Haste, Received, RecordKey, Set, Version};
use crate::time::Instant;
use crate::topology::Change;
use crate::wire::{Goodbye, Message, Offer, Summary, Versions};

/// With so few sets a list of versions is shorter than the hashes that would find the differing ones.
const LISTED_AT_ONCE_MAX: usize = 32;
/// How long decisions about MACs and addresses wait for more changes, for each peer there is.
const CLAIMS_INTERVAL_PER_PEER: Duration = Duration::from_micros(300);

impl Node {
    pub fn handle_message(&mut self, connection: ConnectionId, message: Message, now: Instant) {
        let Some(state) = self.links.get_mut(connection) else { return };
        state.was_heard = true;
        match (state.phase, message) {
            (_, Message::Refusal(refusal)) => self.handle_refusal(connection, refusal, now),
            (Phase::Opening, Message::Open(summary)) => self.handle_open(connection, summary, now),
            (Phase::Opening, _) => self.close_for_breach(connection, "it spoke before opening".into(), now),
            (Phase::Live { .. }, message) => self.handle_gossip(connection, message, now),
        }
        self.finish(now);
    }

    /// The stream of `connection` has taken all that was sent before the [`Output::AwaitRoom`](super::Output::AwaitRoom).
    pub fn handle_room(&mut self, connection: ConnectionId, now: Instant) {
        self.exchange.handle_room(connection, &mut self.store);
        self.finish(now);
    }

    fn handle_open(&mut self, connection: ConnectionId, summary: Summary, now: Instant) {
        let was_away = self.is_back(connection);
        self.go_live(connection, now);
        self.publish(now);
        self.open_ring(connection);
        if was_away {
            self.inform_ipam(now, |ipam, near| ipam.tell_deaths(connection, near));
        }
        // Both ends sent a hash; one of them answering is enough.
        let is_ours_to_answer = self.links.get(connection).is_some_and(|state| self.key() < state.peer);
        if is_ours_to_answer {
            self.handle_summary(connection, summary);
        }
    }

    /// Whether the peer of a new connection is one that was there before and out of reach since.
    fn is_back(&self, connection: ConnectionId) -> bool {
        let peer = self.links.get(connection).and_then(|link| self.members.get(&link.peer));
        peer.is_some_and(|member| matches!(member.reach, Reach::Unreachable { .. } | Reach::Lost { .. }))
    }

    fn handle_gossip(&mut self, connection: ConnectionId, message: Message, now: Instant) {
        match message {
            Message::Probe | Message::Open(_) | Message::Refusal(_) => {}
            Message::Offers(offers) => self.handle_offers(connection, &offers, now),
            Message::Asks(asks) => self.exchange.handle_asks(connection, &asks, &mut self.store),
            Message::Delta(delta) => {
                let known = (&self.store, &self.members);
                let received = self.exchange.handle_delta(connection, delta, known, &mut self.verifier, now);
                self.receive(connection, received, now);
            }
            Message::Part(part) => {
                match self.exchange.handle_part(connection, part, &self.members, &mut self.verifier, now) {
                    Ok(received) => self.receive(connection, received, now),
                    Err(error) => self.close_for_breach(connection, error.to_string(), now),
                }
            }
            Message::Summary(summary) => self.handle_summary(connection, summary),
            Message::Buckets(buckets) => {
                let differing = self.store.differing(&buckets);
                self.send_versions(connection, differing);
            }
            Message::Versions(versions) => self.handle_versions(connection, &versions, now),
            Message::Goodbye(goodbye) => self.handle_goodbye(connection, goodbye, now),
            Message::RingState(state) => self.handle_ring_state(connection, &state, now),
            Message::RingNews(news) => self.handle_ring_news(connection, &news, now),
            Message::Letter(letter) => self.handle_letter(connection, letter, now),
        }
    }

    fn handle_summary(&mut self, connection: ConnectionId, theirs: Summary) {
        if theirs == self.store.summary() {
            return;
        }
        if self.store.len() <= LISTED_AT_ONCE_MAX {
            self.send_versions(connection, u64::MAX);
        } else {
            self.send(connection, Message::Buckets(self.store.buckets()));
        }
    }

    fn send_versions(&mut self, connection: ConnectionId, buckets: u64) {
        for versions in self.store.versions(buckets) {
            self.send(connection, Message::Versions(versions));
        }
    }

    fn handle_versions(&mut self, connection: ConnectionId, versions: &Versions, now: Instant) {
        self.handle_offers(connection, &versions.offers, now);
        let owners = self.store.newer_than(versions);
        self.exchange.offer(connection, owners, &self.store);
    }

    fn handle_offers(&mut self, connection: ConnectionId, offers: &[Offer], now: Instant) {
        let vouched = self.exchange.handle_offers(connection, offers, &self.store, &self.members, now);
        for owner in vouched {
            self.handle_vouched(&owner);
        }
    }

    /// A neighbour has the same version of a set that we hold outside the graph (from before a restart or a partition):
    /// it is current.
    fn handle_vouched(&mut self, owner: &PeerKey) {
        if !self.topology.contains(owner)
            && let Some(set) = self.store.get(owner)
        {
            self.topology.update(Arc::clone(set), None);
        }
    }

    fn receive(&mut self, from: ConnectionId, received: Option<Received>, now: Instant) {
        let Some(Received { set, delta }) = received else { return };
        let version = set.version();
        if set.owner() == self.key() {
            self.handle_own_version(version, now);
        } else if self.store.lacks(&set) && !self.members.has_departed(&set.owner(), version.incarnation) {
            if !self.has_room_for(&set, from) {
                self.exchange.refuse(from, &set, now);
                return;
            }
            self.keep(from, Received { set: Arc::clone(&set), delta }, now);
        }
        self.exchange.settle(&set, &self.store, &self.members, now);
    }

    fn keep(&mut self, from: ConnectionId, received: Received, now: Instant) {
        let Received { set, delta } = received;
        let owner = set.owner();
        let peers = delta.as_ref().map(|delta| delta.peers());
        let touches_endpoints = delta.as_ref().is_none_or(|delta| delta.touches_endpoints());
        let touches_names = delta.as_ref().is_none_or(|delta| delta.touches(is_naming));
        let is_of_containers = delta.is_some() && (touches_endpoints || touches_names);
        let was_known = self.store.get(&owner).is_some();
        self.store.insert(Arc::clone(&set), delta);
        if let Some(card) = set.get(&RecordKey::Card) {
            self.make_room_for(&owner, now);
            let collision = self.members.note_card(set.card(), card, now);
            self.resolve_names(&owner, collision, now);
        }
        self.members.note_change(&owner);
        if touches_endpoints && (was_known || set.endpoints().next().is_some()) {
            self.note_endpoints(&set, now);
        }
        self.relays.take();
        self.follow_names(&set, touches_names);
        self.topology.update(set, peers.as_deref());
        self.follow_topology(now);
        if self.store.is_listed(&owner) {
            let haste = Haste::of_containers(is_of_containers);
            self.exchange.announce(&owner, Some(from), haste, &self.store, now);
        }
        self.view_changed();
    }

    pub(super) fn note_endpoints(&mut self, set: &Set, now: Instant) {
        let latest = set.endpoints().map(|(_, endpoint)| endpoint.attached).max();
        self.attach_clock.witness(latest.unwrap_or_default(), now);
        self.request_claims(now);
    }

    /// Endpoints or the standing of their owners have changed. The more peers, the more changes are taken together.
    pub(super) fn request_claims(&mut self, now: Instant) {
        let peers = u32::try_from(self.store.len()).unwrap_or(u32::MAX);
        self.claims_pace.request(CLAIMS_INTERVAL_PER_PEER * peers, now);
    }

    /// Publishes what is due.
    pub(super) fn publish(&mut self, now: Instant) {
        let haste = Haste::of_containers(self.own.has_other_containers());
        match self.own.publish(&mut self.verifier, now) {
            Ok(Some(set)) => {
                let owner = set.owner();
                self.store.insert(Arc::clone(&set), None);
                self.relays.take();
                self.topology.update(set, None);
                self.exchange.announce(&owner, None, haste, &self.store, now);
                self.view_changed();
            }
            Ok(None) => {}
            Err(error) => self.warn(Warning::NotPublished { problem: error.to_string() }),
        }
    }

    /// Lists who became reachable, unlists who is not.
    pub(super) fn follow_topology(&mut self, now: Instant) {
        let (mut is_changed, mut is_lost) = (false, false);
        while let Some(change) = self.topology.poll_change() {
            match change {
                Change::Up(peer) if !self.has_room_behind_others(&peer) => self.drop_set(&peer, now),
                Change::Up(peer) => {
                    self.store.list(&peer);
                    let collision = self.members.set_reachable(&peer, now);
                    self.resolve_names(&peer, collision, now);
                    self.start_answering(&peer);
                    self.exchange.announce(&peer, None, Haste::InTurn, &self.store, now);
                    self.event(Event::PeerUp(peer));
                }
                // It came up, and there was no room for it.
                Change::Down(peer) if !self.is_up(&peer) => {}
                Change::Down(peer) => {
                    self.store.unlist(&peer);
                    self.members.set_unreachable(&peer, now);
                    is_lost = true;
                    if self.members.get(&peer).is_some_and(|member| member.answering) {
                        self.schedule_lapse(&peer, now);
                    }
                    self.event(Event::PeerDown(peer));
                }
            }
            is_changed = true;
            self.relays.take();
            let (Change::Up(peer) | Change::Down(peer)) = change;
            if self.has_endpoints(&peer) {
                self.request_claims(now);
            }
            self.degree.request_review(now);
            self.view_changed();
        }
        if is_lost {
            self.trim_unreachable(now);
        }
        if is_changed {
            self.inform_ipam(now, |ipam, near| ipam.handle_topology(near));
        }
    }

    /// Whether it was said that it is reachable.
    fn is_up(&self, peer: &PeerKey) -> bool {
        self.members.get(peer).is_some_and(|member| member.reach.is_reachable())
    }

    fn has_endpoints(&self, peer: &PeerKey) -> bool {
        self.store.get(peer).is_some_and(|set| set.endpoints().next().is_some())
    }

    /// Decides anew who has which MAC and address, and warns of what we lost.
    pub(super) fn update_claims(&mut self, now: Instant) {
        if self.claims_pace.due().is_none_or(|due| due > now) {
            return;
        }
        self.claims_pace.note_done(now);
        let own = self.key();
        let mut tally = Tally::default();
        for (owner, member) in self.members.iter() {
            let weight = match self.standing(owner, member) {
                Standing::Neighbour { .. } | Standing::Member { .. } => Weight::Live,
                Standing::Held { .. } => Weight::Held,
                Standing::Gone { .. } => continue,
            };
            let endpoints = self.store.get(owner).into_iter().flat_map(|set| set.endpoints());
            for (_, endpoint) in endpoints {
                tally.add(*owner, self.attach_clock.weigh(weight, endpoint.attached), endpoint);
            }
        }
        self.own.endpoints().values().for_each(|endpoint| tally.add(own, Weight::Live, endpoint));
        let claims = tally.decide();
        let lost = self.lost_claims(&claims);
        if claims != *self.claims {
            self.claims = Arc::new(claims);
            self.view_changed();
        }
        lost.into_iter().for_each(|warning| self.warn(warning));
    }

    /// What of ours another owner has in `claims` and had not before.
    fn lost_claims(&self, claims: &super::Claims) -> Vec<Warning> {
        let own = self.key();
        let mut lost = Vec::new();
        for endpoint in self.own.endpoints().values() {
            let mac = endpoint.mac;
            if let Some(winner) = claims.macs.get(&mac).copied()
                && winner != own
                && self.claims.macs.get(&mac) != Some(&winner)
            {
                lost.push(Warning::MacTaken { mac, winner });
            }
            for address in endpoint.addresses.iter().map(|subnet| subnet.address) {
                if let Some(claim) = claims.addresses.get(&address)
                    && claim.owner != own
                    && self.claims.addresses.get(&address).map(|claim| claim.owner) != Some(claim.owner)
                {
                    lost.push(Warning::AddressTaken { address, winner: claim.owner });
                }
            }
        }
        lost
    }

    /// A peer leaves for good: nothing of it is held, and everyone is told once.
    fn handle_goodbye(&mut self, from: ConnectionId, goodbye: Goodbye, now: Instant) {
        let owner = goodbye.owner;
        if !goodbye.is_signed(&self.verifier) {
            return;
        }
        if owner == self.key() {
            // A twin of ours has left; we have not.
            self.handle_own_version(Version { incarnation: goodbye.incarnation.saturating_add(1), counter: 0 }, now);
            return;
        }
        if !self.members.depart(goodbye) {
            return;
        }
        self.drop_set(&owner, now);
        self.follow_topology(now);
        let others: Vec<ConnectionId> = self.links.live().map(|(id, _)| id).filter(|id| *id != from).collect();
        for connection in others {
            self.send(connection, Message::Goodbye(goodbye));
        }
        if self.links.get(from).is_some_and(|connection| connection.peer == owner) {
            self.close(from, CloseReason::Transport("the peer left the mesh".into()), now);
        }
        self.inform_ipam(now, |ipam, near| ipam.handle_goodbye(goodbye, near));
        self.view_changed();
    }

    /// Forgets what `owner` publishes.
    pub(super) fn drop_set(&mut self, owner: &PeerKey, now: Instant) {
        if self.has_endpoints(owner) {
            self.request_claims(now);
        }
        self.stop_answering(owner);
        self.strangers.remove(owner);
        self.sponsors.remove(owner);
        self.topology.remove(owner);
        self.store.remove(owner);
    }
}

impl crate::store::Delta {
    /// The peers whose edges to the owner it touches.
    fn peers(&self) -> Vec<PeerKey> {
        let put = self.put.iter().filter_map(|record| match record.content() {
            Content::Edge(edge) => Some(edge.peer),
            Content::Card(_) | Content::Endpoint(..) | Content::HostName(..) => None,
        });
        let removed = self.removed.iter().filter_map(|key| match key {
            RecordKey::Edge(peer) => Some(*peer),
            RecordKey::Card | RecordKey::Endpoint(_) | RecordKey::HostName(_) => None,
        });
        put.chain(removed).collect()
    }

    fn touches_endpoints(&self) -> bool {
        self.touches(|key| matches!(key, RecordKey::Endpoint(_)))
    }

    fn touches(&self, is_sought: impl Fn(&RecordKey) -> bool) -> bool {
        self.put.iter().any(|record| is_sought(&record.key())) || self.removed.iter().any(is_sought)
    }
}
