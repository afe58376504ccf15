//! Addresses, as control sees them: questions go to the mesh machine under a ticket, and its answers come when they can.
//!
//! ```text
//!   request ─► ticket ─► mesh machine ─► changes on disk ─► answer ─► reply
//!                              ▲ cancelled when the asker goes
//! ```
//!
//! Invariant: no work here grows with the number of addresses given, but for lists that somebody asks for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tracing::{debug, info, warn};
use weave_mesh::card::Subnet;
use weave_mesh::identity::PeerKey;
use weave_mesh::ipam::{Answer, Cidr, ClaimMode, Owner, Ticket};
use weave_mesh::time::Instant;

use super::attaching::OperationId;
use super::{Control, Outcome, burying};
use crate::attach::{Attachment, Ledger};
use crate::expose::{Exposure, HOST_LABEL};
use crate::request::{AddressError, Question, Reply, Unknown};
use crate::status::{titles, waits};

/// How long a parting peer tries to hand its ranges over.
const HAND_OVER_TIMEOUT: Duration = Duration::from_secs(5);
/// The ticket of our own question, whether our ranges are handed over; those of requests count up from zero, those of
/// operations from the middle.
const HAND_OVER: Ticket = Ticket(u64::MAX);
const OPERATIONS: u64 = 1 << 63;

type Answered = Result<Answer, AddressError>;

/// Who is told the answer.
#[derive(Debug)]
enum Asker {
    Caller(Reply<Answered>),
    Operation(OperationId),
}

/// A question that is open.
#[derive(Debug)]
struct Asked {
    asker: Asker,
    container: String,
    /// The address that was named in it.
    claimed: Option<Cidr>,
}

/// Who asked what. The mesh machine limits how many wait.
#[derive(Debug, Default)]
pub(super) struct Addressing {
    asking: BTreeMap<Ticket, Asked>,
    /// How many questions operations have asked.
    asked: u64,
    /// Who waits until our ranges are handed over, and until when at most.
    leaving: Option<(Instant, Reply<Result<(), String>>)>,
}

impl Addressing {
    pub(super) fn due(&self) -> Option<Instant> {
        self.leaving.as_ref().map(|(until, _)| *until)
    }
}

impl Control {
    pub(super) fn pose(&mut self, ticket: Ticket, question: Question, reply: Reply<Answered>) {
        if let Question::Allocate { container, .. } | Question::Claim { container, .. } = &question {
            self.revive(container);
        }
        self.put(ticket, question, Asker::Caller(reply));
    }

    /// Puts the question of an operation, whose ticket is the answer.
    pub(super) fn pose_for(&mut self, operation: OperationId, question: Question) -> Ticket {
        let ticket = Ticket(OPERATIONS + self.addressing.asked);
        self.addressing.asked += 1;
        self.put(ticket, question, Asker::Operation(operation));
        ticket
    }

    fn put(&mut self, ticket: Ticket, question: Question, asker: Asker) {
        let (container, claimed) = match &question {
            Question::Allocate { container, .. } => (container.clone(), None),
            Question::Claim { container, address, .. } => (container.clone(), Some(*address)),
            Question::Ring | Question::TakeOver(_) => (String::new(), None),
        };
        self.addressing.asking.insert(ticket, Asked { asker, container, claimed });
        let Some(config) = &self.allocation else {
            return self.answer_asker(ticket, Err(AddressError::SwitchedOff));
        };
        let (default_subnet, now) = (config.default_subnet, self.clock.now());
        match question {
            Question::Allocate { container, subnet } => {
                self.node.allocate(ticket, &container, subnet.unwrap_or(default_subnet), now);
            }
            Question::Claim { container, address, unknown } => {
                self.node.claim(ticket, &container, address, self.claim_mode(unknown), now);
            }
            Question::Ring => self.node.wait_for_ring(ticket, now),
            Question::TakeOver(name) => match self.dead_peer(&name) {
                Ok(Some(peer)) => self.node.take_over(ticket, peer, now),
                Ok(None) => self.answer_asker(ticket, Ok(Answer::TakenOver { addresses: 0 })),
                Err(error) => self.answer_asker(ticket, Err(error)),
            },
        }
    }

    /// A container that takes what nobody can vouch for yet is taken at its word.
    fn claim_mode(&self, unknown: Unknown) -> ClaimMode {
        let is_known = || self.node.ipam_view().is_some_and(|view| view.is_ready);
        match unknown {
            Unknown::Taken if !is_known() => ClaimMode::Found,
            Unknown::Taken | Unknown::Awaited => ClaimMode::Ask,
        }
    }

    pub(super) fn handle_answer(&mut self, ticket: Ticket, answer: Result<Answer, weave_mesh::ipam::Error>) {
        if ticket == HAND_OVER {
            debug!(?answer, "address ranges handed over");
            self.leave();
            return;
        }
        self.answer_asker(ticket, answer.map_err(|error| self.refused(&error)));
    }

    fn refused(&self, error: &weave_mesh::ipam::Error) -> AddressError {
        let text = waits::refusal(error, &|key| self.title(key));
        AddressError::Refused(titles::titled(&text, &|digits| self.container_title(digits)))
    }

    /// What a container of this host is called that holds addresses.
    fn container_title(&self, id: &str) -> Option<String> {
        let mut tenants = self.ledger.entries().flat_map(|(_, attachment)| &attachment.tenants);
        let tenant = tenants.find(|tenant| tenant.container == id);
        let is_known = tenant.is_some() || !self.node.addresses(id).is_empty();
        is_known.then(|| titles::container(id, tenant.and_then(|tenant| tenant.names.first().map(String::as_str))))
    }

    fn answer_asker(&mut self, ticket: Ticket, answer: Answered) {
        let Some(Asked { asker, container, claimed }) = self.addressing.asking.remove(&ticket) else { return };
        let answer = answer.and_then(|answer| match answered(&answer, claimed) {
            Some(address) => self.confirm(&container, address).map(|()| answer),
            None => Ok(answer),
        });
        match asker {
            Asker::Caller(reply) => drop(reply.send(answer)),
            Asker::Operation(id) => {
                let no_address = |answer| AddressError::Refused(format!("{answer:?} is no address"));
                let address = answer.and_then(|answer| answered(&answer, claimed).ok_or_else(|| no_address(answer)));
                self.handle_obtained(id, ticket, address);
            }
        }
    }

    /// An address that is not on disk is nobody's: after a restart it would be given again.
    fn confirm(&mut self, container: &str, address: Cidr) -> Result<(), AddressError> {
        let Some(why) = self.keeping.unkept(address.address()) else { return Ok(()) };
        let _ = self.release(container, Some(address.address()));
        Err(AddressError::NotKept { address: address.address(), why })
    }

    /// How a peer is called in answers.
    fn title(&self, peer: &PeerKey) -> String {
        self.node
            .set_of(peer)
            .map_or_else(|| peer.to_string(), |set| format!("{}({})", set.card().name, set.card().nickname))
    }

    /// Takes a question back; what it waited for is the answer.
    pub(super) fn cancel(&mut self, ticket: Ticket, reply: Reply<String>) {
        self.take_back_operation(ticket);
        let _ = reply.send(self.waited_for(Some(ticket)).pop().unwrap_or_default());
        self.withdraw(ticket);
    }

    /// Nobody waits for the answer any more.
    pub(super) fn withdraw(&mut self, ticket: Ticket) {
        self.addressing.asking.remove(&ticket);
        self.node.cancel(ticket, self.clock.now());
    }

    /// What one question waits for, or all of them, each thing once.
    pub(super) fn waited_for(&self, ticket: Option<Ticket>) -> Vec<String> {
        let pending = self.node.ipam_view().map(|view| view.pending).unwrap_or_default();
        let wanted = pending.iter().filter(|pending| ticket.is_none_or(|ticket| ticket == pending.ticket));
        let mut texts: Vec<_> = wanted.map(|pending| waits::wait(&pending.wait, &|key| self.title(key))).collect();
        texts.sort();
        texts.dedup();
        texts
    }

    /// Frees one address of a container, or all of them.
    pub(super) fn release(&mut self, container: &str, address: Option<Ipv4Addr>) -> Result<(), AddressError> {
        let freed = self.node.release(container, address, self.clock.now());
        freed.map_err(|error| self.refused(&error))
    }

    /// The same for what was on a port that is gone or has less than before; what was never filed is no matter.
    pub(super) fn release_all(&mut self, container: &str, addresses: &[Subnet]) {
        for address in addresses.iter().filter_map(|subnet| cidr(*subnet)) {
            if let Err(error) = self.release(container, Some(address.address())) {
                debug!(container, %error, "nothing to free");
            }
        }
    }

    pub(super) fn holdings(&self, container: Option<String>) -> BTreeMap<String, Vec<Cidr>> {
        match container {
            Some(container) => {
                let addresses = self.node.addresses(&container).to_vec();
                BTreeMap::from([(container, addresses)])
            }
            None => self.node.all_addresses(),
        }
    }

    /// Tells the mesh machine which containers are there, and forgets those that cannot come back.
    pub(super) fn resume_containers(&mut self) {
        let held = self.node.all_addresses();
        let attached: Vec<Attachment> = self.ledger.entries().map(|(_, attachment)| attachment.clone()).collect();
        let is_there = |container: &str| self.ledger.knows(container);
        let gone: Vec<String> =
            held.into_keys().filter(|container| burying::is_namespace(container) && !is_there(container)).collect();
        for container in gone {
            info!(container, "container is gone since the last start, its addresses are free");
            let _ = self.release(&container, None);
        }
        let found = attached.iter().flat_map(|attachment| {
            let addresses = attachment.addresses.iter().filter_map(|subnet| cidr(*subnet));
            addresses.map(|address| (attachment.holder.clone(), address))
        });
        let exposed = self.exposure.iter().filter_map(|exposed| Some((HOST_LABEL.to_owned(), cidr(exposed.subnet)?)));
        let found: Vec<_> = found.chain(exposed).collect();
        self.unfile(&found);
        self.node.resume_containers(&found, self.clock.now());
    }

    /// An address that was found somewhere is filed under no other container: such books are older than what is there.
    fn unfile(&mut self, found: &[(String, Cidr)]) {
        let holders: BTreeMap<Ipv4Addr, &str> =
            found.iter().map(|(container, address)| (address.address(), container.as_str())).collect();
        for (container, addresses) in self.node.all_addresses() {
            for address in addresses.iter().map(|held| held.address()) {
                if holders.get(&address).is_some_and(|holder| *holder != container) {
                    warn!(container, %address, "an address is not where the books have it");
                    let _ = self.release(&container, Some(address));
                }
            }
        }
    }

    /// Begins to leave for good: no container has a port any more, so what they hold is free, and our ranges go to a peer
    /// that stays.
    pub(super) fn begin_leaving(&mut self, reply: Reply<Result<(), String>>) {
        let now = self.clock.now();
        (self.ledger, self.exposure) = (Ledger::default(), Exposure::default());
        self.weave();
        for container in self.node.all_addresses().into_keys() {
            let _ = self.release(&container, None);
        }
        self.addressing.leaving = Some((now + HAND_OVER_TIMEOUT, reply));
        self.node.hand_over(HAND_OVER, now);
    }

    /// Nobody took our ranges in time.
    pub(super) fn leave_if_due(&mut self, now: Instant) {
        if self.addressing.due().is_some_and(|until| until <= now) {
            warn!("nobody has taken our address ranges; `weave-rs rmpeer` elsewhere gets them back");
            self.leave();
        }
    }

    fn leave(&mut self) {
        let Some((_, reply)) = self.addressing.leaving.take() else { return };
        self.node.say_goodbye(self.clock.now());
        self.outcome = Some(Outcome::Reset(reply));
    }

    /// The peer that an operator calls dead by its name, its nickname or the beginning of its key. Of several the
    /// unreachable one.
    fn dead_peer(&self, wanted: &str) -> Result<Option<PeerKey>, AddressError> {
        let view = self.node.view();
        let found = view.peers.iter().filter(|(key, peer)| {
            let is_called = peer.card.name.to_string() == wanted || peer.card.nickname == wanted;
            is_called || key.to_string() == wanted
        });
        let owners = self.node.ipam_view().map(|view| view.owned).unwrap_or_default();
        // One that nobody remembers may own a range all the same.
        let unknown = owners.into_keys().filter_map(|owner| match owner {
            Owner::Peer(key) if key.to_string() == wanted && !view.peers.contains_key(&key) => Some(key),
            Owner::Peer(_) | Owner::Named(_) => None,
        });
        let found: Vec<PeerKey> = found.map(|(key, _)| *key).chain(unknown).collect();
        let unreachable: Vec<PeerKey> = found.iter().filter(|key| !self.node.is_reachable(key)).copied().collect();
        match (unreachable.as_slice(), found.as_slice()) {
            ([], []) => Ok(None),
            ([peer], _) | ([], [peer, ..]) => Ok(Some(*peer)),
            (several, _) => {
                let keys: Vec<_> = several.iter().map(ToString::to_string).collect();
                Err(AddressError::Ambiguous { name: wanted.to_owned(), keys: keys.join(" or ") })
            }
        }
    }
}

/// An address of a question that is answered.
fn answered(answer: &Answer, claimed: Option<Cidr>) -> Option<Cidr> {
    match answer {
        Answer::Allocated(address) => Some(*address),
        Answer::Claimed => claimed,
        _ => None,
    }
}

/// An IPv4 address as the mesh machine knows it; it manages no others.
pub(crate) fn cidr(subnet: Subnet) -> Option<Cidr> {
    match subnet.address {
        IpAddr::V4(address) => Cidr::new(address, subnet.prefix_len).ok(),
        IpAddr::V6(_) => None,
    }
}
