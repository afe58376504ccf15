//! Everything that time does to a node.

use std::sync::Arc;
use std::time::Duration;

use rand_core::RngCore;

use super::{CloseReason, Node, Output, Persist, Presence, StoredMember};
use crate::allowance::Allowance;
use crate::connector::Discovery;
use crate::degree::Surroundings;
use crate::identity::PeerKey;
use crate::ipam::Ipam;
use crate::members::HOLD;
use crate::store::{Outgoing, RecordKey, SET_BYTES_MAX, Set};
use crate::time::Instant;
use crate::wire::{Message, Refusal};

const PROBE_INTERVAL: Duration = Duration::from_secs(3);
/// After so many silent probe intervals a connection is given up.
const MISSES_MAX: u8 = 3;
/// How often neighbours compare stores.
const COMPARE_INTERVAL: Duration = Duration::from_secs(30);
/// How often unreachable members are looked at.
const SWEEP_INTERVAL: Duration = Duration::from_secs(5);
/// An unreachable peer's set leaves the graph after this long: its edges are out of date. Long enough for a set that
/// overtook the one that connects it.
const STALE_AFTER: Duration = Duration::from_secs(10);
/// How often changed members are persisted. A daemon that dies before has not met them, and takes the kernel entries that
/// lead to them away when it is back.
const PERSIST_INTERVAL: Duration = Duration::from_millis(500);
/// How much of what members publish is written at once and a second, octets: twice the longest set, and what a disk that
/// others use does not notice.
pub(super) const PERSISTING: Allowance = Allowance::new(2 << 20, 2 * SET_BYTES_MAX as u64);
/// What a member costs beside its set, octets.
const PERSIST_BYTES_EACH: u64 = 512;
/// How long edges that left may wait for others before the graph is searched anew.
const SETTLE_DELAY: Duration = Duration::from_millis(50);

/// When what is due.
#[derive(Debug)]
pub(super) struct Timers {
    probe: Instant,
    compare: Instant,
    sweep: Option<Instant>,
    swept: Instant,
    persist: Option<Instant>,
    settle: Option<Instant>,
}

impl Timers {
    /// Peers that start together do not probe together.
    pub(super) fn new(rng: &mut impl RngCore, now: Instant) -> Self {
        let mut within = |interval: Duration| {
            let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
            now + Duration::from_micros(rng.next_u64() % micros)
        };
        Self {
            probe: within(PROBE_INTERVAL),
            compare: within(COMPARE_INTERVAL),
            sweep: None,
            swept: now,
            persist: None,
            settle: None,
        }
    }
}

/// Whether the timer was due; if so it is off.
fn take_due(timer: &mut Option<Instant>, now: Instant) -> bool {
    timer.take_if(|at| *at <= now).is_some()
}

impl Node {
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.presence == Presence::Left {
            return None;
        }
        let timers = [self.timers.sweep, self.timers.persist, self.timers.settle];
        let machines = [
            self.own.poll_timeout(),
            self.exchange.poll_timeout(),
            self.degree.poll_timeout(),
            self.connector.poll_timeout(),
            self.claims_pace.due(),
            self.jumps.due(),
            self.ipam.as_ref().map(Ipam::poll_timeout),
            self.lapses.first().map(|(at, _)| *at),
        ];
        let optional = timers.into_iter().chain(machines).flatten().min();
        Some(optional.unwrap_or(self.timers.probe).min(self.timers.probe).min(self.timers.compare))
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.presence == Presence::Left {
            return;
        }
        if self.timers.probe <= now {
            self.timers.probe = now + PROBE_INTERVAL;
            self.probe(now);
        }
        if self.timers.compare <= now {
            self.timers.compare = now + COMPARE_INTERVAL;
            self.compare();
            self.forget_lost(now);
        }
        if take_due(&mut self.timers.settle, now) {
            self.topology.settle();
            self.follow_topology(now);
        }
        if take_due(&mut self.timers.sweep, now) {
            self.sweep(now);
        }
        if take_due(&mut self.timers.persist, now) {
            self.persist_members(now);
        }
        self.review_degree(now);
        self.connector.handle_timeout(now);
        self.finish(now);
    }

    /// What every input ends with: consequences that belong to the same moment, and the timers they need.
    pub(super) fn finish(&mut self, now: Instant) {
        self.now = now;
        self.jump_if_due(now);
        self.publish(now);
        self.follow_topology(now);
        self.update_claims(now);
        self.end_lapses(now);
        self.tell_names();
        self.exchange.handle_timeout(&self.store, &self.members, now);
        if self.topology.is_stale() {
            self.timers.settle.get_or_insert(now + SETTLE_DELAY);
        }
        if self.members.unreachable_count() > 0 {
            self.timers.sweep.get_or_insert(now + SWEEP_INTERVAL);
        }
        if self.members.has_changes() {
            self.timers.persist.get_or_insert(now + PERSIST_INTERVAL);
        }
        self.follow_ipam(now);
        while let Some(outgoing) = self.exchange.poll() {
            match outgoing {
                Outgoing::Send(connection, message) => self.send(connection, message),
                Outgoing::AwaitRoom(connection) => self.outputs.push_back(Output::AwaitRoom { connection }),
            }
        }
        if let Some(wishes) = self.connector.take_wishes() {
            self.outputs.push_back(Output::Persist(Persist::Wishes(wishes)));
        }
        while let Some(dial) = self.connector.poll_dial() {
            self.outputs.push_back(Output::Dial(dial));
        }
    }

    fn probe(&mut self, now: Instant) {
        for connection in self.links.count_misses(MISSES_MAX) {
            self.close(connection, CloseReason::Silent(MISSES_MAX), now);
        }
        let live: Vec<_> = self.links.live().map(|(id, _)| id).collect();
        for connection in live {
            self.send(connection, Message::Probe);
        }
    }

    /// Of two neighbours the one with the higher key sends its hash, the other answers if its own differs.
    fn compare(&mut self) {
        let own = self.key();
        let lower: Vec<_> = self.links.live().filter(|(_, link)| link.peer < own).map(|(id, _)| id).collect();
        for connection in lower {
            self.send(connection, Message::Summary(self.store.summary()));
            self.send_ring_state(connection);
        }
    }

    /// Looks at unreachable members: out of the graph, past their hold, forgotten.
    fn sweep(&mut self, now: Instant) {
        let mut stale = Vec::new();
        let mut is_hold_over = false;
        for (key, member) in self.members.iter().filter(|(_, member)| !member.reach.is_reachable()) {
            let age = now.since(member.reach.since());
            if age >= STALE_AFTER && self.topology.contains(key) {
                stale.push(*key);
            }
            let hold_ends = member.reach.since() + HOLD;
            is_hold_over |= self.timers.swept < hold_ends && hold_ends <= now;
        }
        stale.iter().for_each(|key| self.topology.remove(key));
        self.timers.swept = now;
        let expired = self.members.expire(now);
        expired.iter().for_each(|key| self.drop_set(key, now));
        if is_hold_over || !expired.is_empty() {
            self.request_claims(now);
            self.view_changed();
        }
    }

    /// The short ones first: who publishes much, and often, waits until the others are written.
    fn persist_members(&mut self, now: Instant) {
        let changed = self.members.take_changed().into_iter();
        let mut changed: Vec<(usize, PeerKey)> =
            changed.map(|key| (self.store.get(&key).map_or(0, |set| set.bytes()), key)).collect();
        changed.sort_unstable();
        for (bytes, key) in changed {
            if !self.persisting.take(PERSIST_BYTES_EACH + bytes as u64, now) {
                self.members.note_change(&key);
                continue;
            }
            let Some(member) = self.members.get(&key) else { continue };
            let is_current = |set: &&Arc<Set>| set.get(&RecordKey::Card) == Some(&member.record);
            let set = self.store.get(&key).filter(is_current).cloned();
            let stored = StoredMember::new(key, member.record.clone(), set, member.address, member.answering);
            self.outputs.push_back(Output::Persist(Persist::Member(stored)));
        }
    }

    fn review_degree(&mut self, now: Instant) {
        let connected = self.links.peers();
        let surroundings = Surroundings {
            own: self.own.card().key,
            topology: &self.topology,
            members: &self.members,
            connector: &self.connector,
            connected: &connected,
            listen_port: self.listen_port,
        };
        let Some(review) = self.degree.review(&surroundings, now) else { return };
        if self.discovery == Discovery::Off {
            return;
        }
        self.connector.set_wanted(&review.wanted, |peer| self.topology.is_reachable(peer), now);
        if let Some(peer) = review.surplus
            && let Some((connection, _)) = self.links.live_to(&peer)
        {
            self.degree.avoid(peer, now);
            self.turn_away(connection, Refusal::Surplus, now);
        }
    }
}
