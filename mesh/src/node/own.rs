//! What we publish of ourselves, and when.
//!
//! ```text
//!   connected, session ──► edges     ┐ dirty ── edges: the first at once, then at most every 500 ms   ┐
//!   set_endpoints      ──► endpoints ┤          endpoints, names: 64 at once, every 50 ms on average ─┴─► next version
//!   change_host_names  ──► names     ┘
//! ```
//!
//! Invariants:
//! - versions of our own set only grow, also past versions that others remember of an earlier life;
//! - a published set has our present card, edges, endpoints and host names, all of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::card::{Card, CardError, SignedCard};
use crate::identity::{Identity, PeerKey};
use crate::name::PeerName;
use crate::pace::{Bursts, Pace};
use crate::store::{
    Content, Draft, Edge, Endpoint, EndpointId, HostName, HostNameId, Record, RecordKey, Set, SetError, Version,
};
use crate::time::Instant;
use crate::verifier::Verifier;

const EDGES_INTERVAL: Duration = Duration::from_millis(500);
/// Endpoints and names, on average; everybody hears of every version.
const ENDPOINTS_INTERVAL: Duration = Duration::from_millis(50);
/// So many versions leave at once after a quiet time: whoever starts a container, or gives a name, does not wait.
const ENDPOINTS_BURST: u32 = 64;
/// What changes in so short a time is one version.
const ENDPOINTS_SPACING: Duration = Duration::from_millis(2);
/// How far above a later incarnation of ours we jump. Recognisable: whoever hears its own incarnation plus this much is
/// heard by a live twin, which started earlier.
pub(super) const JUMP: u64 = 1_000;

/// How far above our incarnation at start we rise when others call us dead, microseconds: ten years. Near the largest
/// number there would be no way further up.
const LEAD_MAX: u64 = 10 * 365 * 86_400 * 1_000_000;

#[derive(Debug)]
pub(super) struct Own {
    identity: Identity,
    card: Card,
    signed: SignedCard,
    card_record: Record,
    edges: BTreeMap<PeerKey, Edge>,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    host_names: BTreeMap<HostNameId, HostName>,
    set: Arc<Set>,
    incarnation_max: u64,
    edges_pace: Pace,
    endpoints_pace: Bursts,
}

/// What of our endpoints and names is other than before.
#[derive(Debug, Default)]
pub(super) struct Differences {
    pub(super) gone: Vec<Record>,
    pub(super) new: Vec<Record>,
}

impl Differences {
    /// Endpoints that were put in another one's place are in both.
    fn between(before: &BTreeMap<EndpointId, Endpoint>, after: &BTreeMap<EndpointId, Endpoint>) -> Self {
        let record = |(id, endpoint): (&EndpointId, &Endpoint)| Record::new(Content::Endpoint(*id, endpoint.clone()));
        let missing = |from: &BTreeMap<EndpointId, Endpoint>, others: &BTreeMap<EndpointId, Endpoint>| {
            from.iter().filter(|(id, endpoint)| others.get(*id) != Some(*endpoint)).map(record).collect()
        };
        Self { gone: missing(before, after), new: missing(after, before) }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.new.is_empty()
    }
}

/// A card that cannot be published.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum OwnError {
    #[error(transparent)]
    Card(#[from] CardError),
    #[error(transparent)]
    Set(#[from] SetError),
}

impl Own {
    pub(super) fn new(card: Card, identity: Identity, verifier: &mut Verifier) -> Result<Self, OwnError> {
        let (card, signed) = fit(card, &identity)?;
        let card_record = Record::new(Content::Card(signed.clone()));
        let mut draft = Draft::new(card.key);
        draft.put(card_record.clone())?;
        let version = Version { incarnation: card.incarnation, counter: 1 };
        let set = Arc::new(draft.sign(version, &identity, verifier)?);
        Ok(Self {
            incarnation_max: card.incarnation.saturating_add(LEAD_MAX),
            identity,
            card,
            signed,
            card_record,
            edges: BTreeMap::new(),
            endpoints: BTreeMap::new(),
            host_names: BTreeMap::new(),
            set,
            edges_pace: Pace::default(),
            endpoints_pace: Bursts::new(ENDPOINTS_BURST, ENDPOINTS_SPACING, ENDPOINTS_INTERVAL),
        })
    }

    pub(super) const fn identity(&self) -> &Identity {
        &self.identity
    }

    pub(super) const fn card(&self) -> &Card {
        &self.card
    }

    pub(super) const fn signed_card(&self) -> &SignedCard {
        &self.signed
    }

    pub(super) const fn set(&self) -> &Arc<Set> {
        &self.set
    }

    /// The highest incarnation above which we rise because others speak of it.
    pub(super) const fn incarnation_max(&self) -> u64 {
        self.incarnation_max
    }

    pub(super) const fn endpoints(&self) -> &BTreeMap<EndpointId, Endpoint> {
        &self.endpoints
    }

    pub(super) fn put_edge(&mut self, edge: Edge, now: Instant) {
        if self.edges.get(&edge.peer) != Some(&edge) {
            self.edges.insert(edge.peer, edge);
            self.edges_pace.request(EDGES_INTERVAL, now);
        }
    }

    pub(super) fn remove_edge(&mut self, peer: &PeerKey, now: Instant) {
        if self.edges.remove(peer).is_some() {
            self.edges_pace.request(EDGES_INTERVAL, now);
        }
    }

    pub(super) fn set_endpoints(&mut self, endpoints: BTreeMap<EndpointId, Endpoint>, now: Instant) -> Differences {
        let differences = Differences::between(&self.endpoints, &endpoints);
        self.endpoints = endpoints;
        self.request_endpoints(&differences, now);
        differences
    }

    /// Takes names away and gives others; the work is that of the change, however many there are.
    pub(super) fn change_host_names(&mut self, gone: &[HostName], new: Vec<HostName>, now: Instant) -> Differences {
        let record = |id, host_name: HostName| Record::new(Content::HostName(id, host_name));
        let take = |host_name: &HostName| self.host_names.remove_entry(&host_name.id());
        let gone = gone.iter().filter_map(take).map(|(id, host_name)| record(id, host_name)).collect();
        let give = |host_name: HostName| {
            let id = host_name.id();
            let is_new = self.host_names.insert(id, host_name.clone()).is_none();
            is_new.then(|| record(id, host_name))
        };
        let differences = Differences { gone, new: new.into_iter().filter_map(give).collect() };
        self.request_endpoints(&differences, now);
        differences
    }

    pub(super) fn host_names(&self) -> usize {
        self.host_names.len()
    }

    fn request_endpoints(&mut self, differences: &Differences, now: Instant) {
        if !differences.is_empty() {
            self.endpoints_pace.request(now);
        }
    }

    /// Takes another name or incarnation; published with the next version, which is due at once.
    pub(super) fn set_card(&mut self, name: PeerName, incarnation: u64, now: Instant) -> Result<(), CardError> {
        self.replace_card(Card { name, incarnation, ..self.card.clone() }, now)
    }

    /// Lists other addresses; published like another name.
    pub(super) fn set_addresses(&mut self, addresses: Vec<SocketAddr>, now: Instant) -> Result<(), CardError> {
        self.replace_card(Card { addresses, ..self.card.clone() }, now)
    }

    fn replace_card(&mut self, card: Card, now: Instant) -> Result<(), CardError> {
        (self.card, self.signed) = fit(card, &self.identity)?;
        self.card_record = Record::new(Content::Card(self.signed.clone()));
        self.edges_pace.request_now(now);
        Ok(())
    }

    /// Whether the next version has other endpoints or names.
    pub(super) const fn has_other_containers(&self) -> bool {
        self.endpoints_pace.due().is_some()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.edges_pace.due().into_iter().chain(self.endpoints_pace.due()).min()
    }

    /// The next version, if one is due. An error leaves the published set as it was.
    pub(super) fn publish(&mut self, verifier: &mut Verifier, now: Instant) -> Result<Option<Arc<Set>>, SetError> {
        if self.poll_timeout().is_none_or(|due| due > now) {
            return Ok(None);
        }
        self.edges_pace.note_done(now);
        self.endpoints_pace.note_done(now);
        let Version { incarnation, counter } = self.set.version();
        let counter = if incarnation == self.card.incarnation { counter + 1 } else { 1 };
        let version = Version { incarnation: self.card.incarnation, counter };
        let mut draft = Draft::from_set(&self.set);
        if !self.change(&mut draft)? && version.incarnation == incarnation {
            return Ok(None);
        }
        self.set = Arc::new(draft.sign(version, &self.identity, verifier)?);
        Ok(Some(Arc::clone(&self.set)))
    }

    /// Makes `draft`, which is as published, say what holds; returns whether anything differs.
    fn change(&self, draft: &mut Draft) -> Result<bool, SetError> {
        let is_gone = |key: &RecordKey| match key {
            RecordKey::Card => false,
            RecordKey::Edge(peer) => !self.edges.contains_key(peer),
            RecordKey::Endpoint(id) => !self.endpoints.contains_key(id),
            RecordKey::HostName(id) => !self.host_names.contains_key(id),
        };
        let gone: Vec<RecordKey> = self.set.records().map(Record::key).filter(is_gone).collect();
        let mut changed = self.changed_records();
        if self.set.get(&RecordKey::Card) != Some(&self.card_record) {
            changed.push(self.card_record.clone());
        }
        gone.iter().for_each(|key| draft.remove(key));
        let is_different = !gone.is_empty() || !changed.is_empty();
        changed.into_iter().try_for_each(|record| draft.put(record))?;
        Ok(is_different)
    }

    fn changed_records(&self) -> Vec<Record> {
        let published = |key: RecordKey| self.set.get(&key).map(Record::content);
        let edges = self.edges.values().filter_map(|edge| {
            let content = Content::Edge(edge.clone());
            (published(RecordKey::Edge(edge.peer)) != Some(&content)).then_some(content)
        });
        let endpoints = self.endpoints.iter().filter_map(|(id, endpoint)| match published(RecordKey::Endpoint(*id)) {
            Some(Content::Endpoint(_, published)) if published == endpoint => None,
            _ => Some(Content::Endpoint(*id, endpoint.clone())),
        });
        // An id is made of what is said: under the same one nothing else can have been published.
        let host_names = self.host_names.iter().filter(|(id, _)| published(RecordKey::HostName(**id)).is_none());
        let host_names = host_names.map(|(id, host_name)| Content::HostName(*id, host_name.clone()));
        edges.chain(endpoints).chain(host_names).map(Record::new).collect()
    }
}

/// The card, without the last of its addresses if it has no room for all.
fn fit(mut card: Card, identity: &Identity) -> Result<(Card, SignedCard), CardError> {
    loop {
        match SignedCard::sign(&card, identity) {
            Err(CardError::TooLong(_)) if card.addresses.pop().is_some() => {}
            Err(error) => return Err(error),
            Ok(signed) => return Ok((card, signed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::card::{Subnet, TRUSTED_SUBNETS_MAX};
    use crate::name::MacAddr;
    use crate::store::fixtures::{Owner, verifier};
    use crate::store::{Direction, Session};

    fn own() -> Own {
        let owner = Owner::new(1);
        Own::new(owner.card, owner.identity, &mut verifier()).unwrap()
    }

    fn edge(peer: u8) -> Edge {
        let remote = ([10, 0, 0, peer], 6783).into();
        Edge { peer: PeerKey([peer; 32]), remote, direction: Direction::Inbound, session: Session::Indirect }
    }

    fn endpoints(count: u64) -> BTreeMap<EndpointId, Endpoint> {
        let endpoint = |attached| Endpoint {
            mac: MacAddr::ZERO,
            addresses: Vec::new(),
            container: "c".into(),
            names: Vec::new(),
            attached,
        };
        (0..count).map(|id| (EndpointId(id), endpoint(id))).collect()
    }

    fn publish(own: &mut Own, now: Instant) -> Option<u64> {
        own.publish(&mut verifier(), now).unwrap().map(|set| set.version().counter)
    }

    #[test]
    fn the_first_edge_is_published_at_once_and_those_that_follow_together() {
        let mut own = own();
        let start = Instant::ZERO;

        own.put_edge(edge(1), start);
        assert_eq!(publish(&mut own, start), Some(2));
        own.put_edge(edge(2), start);
        own.put_edge(edge(3), start);
        assert_eq!(publish(&mut own, start), None);

        assert_eq!(own.poll_timeout(), Some(start + EDGES_INTERVAL));
        assert_eq!(publish(&mut own, start + EDGES_INTERVAL), Some(3));
        assert_eq!(own.set().edges().count(), 3);
    }

    #[test]
    fn endpoints_do_not_wait_for_the_pace_of_edges() {
        let mut own = own();
        own.put_edge(edge(1), Instant::ZERO);
        publish(&mut own, Instant::ZERO);
        own.put_edge(edge(2), Instant::ZERO);

        own.set_endpoints(endpoints(2), Instant::ZERO);
        assert_eq!(publish(&mut own, Instant::ZERO), Some(3));
        own.set_endpoints(endpoints(1), Instant::ZERO);

        assert_eq!(own.poll_timeout(), Some(Instant::ZERO + ENDPOINTS_SPACING));
        assert_eq!(publish(&mut own, Instant::ZERO + ENDPOINTS_SPACING), Some(4));
        assert_eq!((own.set().endpoints().count(), own.set().edges().count()), (1, 2));
    }

    #[test]
    fn fifty_changes_in_a_row_are_published_at_once_and_a_thousand_at_the_interval() {
        let mut own = own();
        let mut now = Instant::ZERO;
        let mut waits = Vec::new();
        for count in 1..=1_000 {
            own.set_endpoints(endpoints(count % 7), now);
            let due = own.poll_timeout().unwrap();
            waits.push(due - now);
            now = due;
            assert!(publish(&mut own, now).is_some());
            now += Duration::from_millis(5);
        }

        assert_eq!(waits[..50], [Duration::ZERO; 50]);
        let expected = ENDPOINTS_INTERVAL * (1_000 - ENDPOINTS_BURST);
        assert!(now - Instant::ZERO >= expected, "{now} for a thousand versions");
    }

    #[test]
    fn what_changes_and_changes_back_makes_no_version() {
        let mut own = own();
        own.put_edge(edge(1), Instant::ZERO);

        own.remove_edge(&PeerKey([1; 32]), Instant::ZERO);

        assert_eq!(publish(&mut own, Instant::ZERO), None);
        assert_eq!(own.set().version().counter, 1);
    }

    #[test]
    fn other_addresses_make_a_version_at_once_and_keep_the_incarnation() {
        let mut own = own();
        let addresses = vec![([198, 51, 100, 1], 6783).into()];

        own.set_addresses(addresses.clone(), Instant::ZERO).unwrap();
        assert_eq!(publish(&mut own, Instant::ZERO), Some(2));

        assert_eq!((&own.set().card().addresses, own.set().card().incarnation), (&addresses, 1));
    }

    #[test]
    fn addresses_for_which_a_card_has_no_room_are_left_out() {
        let Owner { identity, mut card } = Owner::new(1);
        let subnet = |last: u16| Subnet { address: [0xfd00, 1, 2, 3, 4, 5, 6, last].into(), prefix_len: 128 };
        card.nickname = "n".repeat(63);
        card.instance_id = "i".repeat(32);
        card.trusted_subnets = (0..TRUSTED_SUBNETS_MAX as u16).map(subnet).collect();
        let mut own = Own::new(card, identity, &mut verifier()).unwrap();
        let addresses: Vec<SocketAddr> = (1..5).map(|last| ([0xfd00, 1, 2, 3, 4, 5, 6, last], 6783).into()).collect();

        own.set_addresses(addresses.clone(), Instant::ZERO).unwrap();

        let listed = &own.card().addresses;
        assert!(listed.len() < addresses.len() && !listed.is_empty() && addresses.starts_with(listed), "{listed:?}");
    }

    #[test]
    fn a_higher_incarnation_starts_counting_anew_and_keeps_everything() {
        let mut own = own();
        own.put_edge(edge(1), Instant::ZERO);
        publish(&mut own, Instant::ZERO);

        own.set_card(own.card().name, 9, Instant::ZERO).unwrap();
        assert_eq!(publish(&mut own, Instant::ZERO), Some(1));

        assert_eq!(own.set().version().incarnation, 9);
        assert_eq!((own.set().card().incarnation, own.set().edges().count()), (9, 1));
    }
}
