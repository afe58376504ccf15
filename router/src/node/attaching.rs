//! Attaching, detaching and exposing, as control sees them: one operation each, whose every step has its reverse.
//!
//! ```text
//!   attach   look ─► addresses ─► turn ─► record ─► port ─► weave ─► answer
//!   detach   look ───────────────► turn ─► port ─► record ─► weave ─► answer
//!   expose           addresses ───────────► record ─────────► weave ─► answer
//!
//!   look       whose namespace or endpoint, which port  weave   endpoints, plan; done when the kernel has it
//!   addresses  given or claimed, one after the other    turn    one operation at a time changes a port
//!   record     on disk, and published                   port    veth, in the container's namespace or for Docker to move
//! ```
//!
//! A step that fails turns the operation round (`attach/chain.rs`): what was begun is taken back, and then the client has
//! the reason. A client that goes away takes its question back while addresses are waited for; what has begun on a port is
//! finished.
//!
//! Invariant: when an operation has ended, kernel, ledger, address books and published endpoints say the same.

use std::collections::BTreeMap;
use std::time::Duration;

use tracing::{info, warn};
use weave_datapath::linux::kernel::Generation;
use weave_datapath::linux::veth::Attached;
use weave_datapath::plan::LinkName;
use weave_mesh::card::Subnet;
use weave_mesh::ipam::{Cidr, Ticket};
use weave_mesh::time::Instant;

use self::jobs::{Finished, Jobs, Place};
use super::{Control, Manner};
use crate::attach::{AttachError, Attachment, Chain, Container, Manual, Next, Wanted};
use crate::expose::HOST_LABEL;
use crate::request::{AddressError, Reply};

pub(super) use self::steps::any_mac;

mod jobs;
mod steps;

/// Operations under way; for each a client waits.
const OPERATIONS_MAX: usize = 1_024;
/// How long the kernel may take to have a plan. The keeper's pace and a busy machine make it a second.
const KERNEL_TIMEOUT: Duration = Duration::from_secs(30);

pub(super) type Answer = Result<Vec<Subnet>, AttachError>;

/// Who is told what became of it, and takes it back under this ticket.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) ticket: Ticket,
    pub(super) reply: Reply<Answer>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OperationId(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Look,
    Addresses,
    Turn,
    Record,
    Port,
    Weave,
}

const ATTACH: &[Step] = &[Step::Look, Step::Addresses, Step::Turn, Step::Record, Step::Port, Step::Weave];
const DETACH: &[Step] = &[Step::Look, Step::Turn, Step::Port, Step::Record, Step::Weave];
const EXPOSE: &[Step] = &[Step::Addresses, Step::Record, Step::Weave];

/// What is asked for.
#[derive(Debug)]
enum Errand {
    Attach(Attachable),
    /// These addresses, or all.
    Detach(Vec<Subnet>),
    /// Which addresses were not exposed before.
    Expose(Manner, Vec<Subnet>),
}

/// How a container is attached.
#[derive(Debug)]
pub(super) struct Attachable {
    /// It is called so from now on.
    pub(super) name: Option<String>,
    /// Whether that was asked for.
    pub(super) named: bool,
    pub(super) multicast_route: bool,
    /// It is to be so at every start.
    pub(super) by_hand: bool,
}

/// A container, and where it is.
#[derive(Debug)]
struct Seat {
    container: Container,
    /// Absent until it was looked for, and when there is no namespace any more.
    place: Option<Place>,
    /// Of a port that is there or to come; known once it was looked for.
    host_link: Option<LinkName>,
    /// The port as it was found; after a detachment, what is left of it.
    found: Option<Attached>,
    /// Nobody else changes the port meanwhile.
    has_turn: bool,
    /// What was written down of it, and what it was, before this operation changed them.
    recorded: Option<Former<Attachment>>,
    made: Option<Former<Attached>>,
}

/// What was there before, if anything was.
#[derive(Debug)]
struct Former<T>(Option<T>);

/// One request under way.
#[derive(Debug)]
struct Operation {
    chain: Chain<Step, AttachError>,
    errand: Errand,
    /// Of the host itself there is none.
    seat: Option<Seat>,
    client: Client,
    begun: Instant,
    wanted: Vec<Wanted>,
    /// Under which id addresses are filed.
    holder: String,
    /// What was obtained so far of what is wanted; of a detachment, what was taken away.
    addresses: Vec<Subnet>,
    /// What the holder had before, and what he has gained.
    held: Vec<Cidr>,
    fresh: Vec<Cidr>,
    /// The question that is open.
    asked: Option<Ticket>,
    /// The plan that has it all, and until when that is waited for.
    plan: Option<(Generation, Instant)>,
}

impl Operation {
    fn host_link(&self) -> Option<&LinkName> {
        self.seat.as_ref()?.host_link.as_ref()
    }

    /// Whether nothing has been changed yet but who holds which address.
    fn can_be_taken_back(&self) -> bool {
        matches!(self.chain.next(), Next::Do(Step::Look | Step::Addresses | Step::Turn))
    }
}

/// How a step went.
enum Progress {
    Over(Result<(), AttachError>),
    /// Something else will tell.
    Waits,
}

/// All operations under way.
#[derive(Debug, Default)]
pub(super) struct Attaching {
    operations: BTreeMap<OperationId, Operation>,
    last: u64,
    jobs: Jobs,
    /// The first plan that has a port made by this daemon. One of the same name may be gone that was there before.
    first_plans: BTreeMap<LinkName, Generation>,
}

impl Attaching {
    /// Whether a plan that names `host_link` means the port of that name that is there now.
    pub(super) fn is_of(&self, host_link: &str, plan: Generation) -> bool {
        let first = host_link.parse().ok().and_then(|host_link: LinkName| self.first_plans.get(&host_link));
        first.is_none_or(|first| *first <= plan)
    }

    /// Whether somebody takes the port away who has yet to write that down.
    pub(super) fn takes_away(&self, host_link: &str) -> bool {
        let is_its = |operation: &Operation| {
            let has_turn = operation.seat.as_ref().is_some_and(|seat| seat.has_turn);
            let is_detached = matches!(operation.errand, Errand::Detach(_));
            is_detached && has_turn && operation.host_link().is_some_and(|own| own.as_str() == host_link)
        };
        self.operations.values().any(is_its)
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let plans = self.operations.values().filter_map(|operation| operation.plan);
        plans.map(|(_, until)| until).chain(self.jobs.due()).min()
    }

    /// The next result of work in a namespace.
    pub(super) async fn next(&mut self) -> Finished {
        self.jobs.next().await
    }

    /// A port that is gone is gone with its first plan.
    pub(super) fn forget_port(&mut self, host_link: &str) {
        self.first_plans.retain(|known, _| known.as_str() != host_link);
    }

    fn find(&self, is_it: impl Fn(&Operation) -> bool) -> Vec<OperationId> {
        self.operations.iter().filter(|(_, operation)| is_it(operation)).map(|(id, _)| *id).collect()
    }
}

impl Control {
    pub(super) fn attach(&mut self, container: Container, wanted: Vec<Wanted>, manner: Attachable, client: Client) {
        self.begin(ATTACH, Errand::Attach(manner), Some(container), wanted, client);
    }

    pub(super) fn detach(&mut self, container: Container, addresses: Vec<Subnet>, client: Client) {
        self.begin(DETACH, Errand::Detach(addresses), Some(container), Vec::new(), client);
    }

    pub(super) fn expose(&mut self, wanted: Vec<Wanted>, manner: Manner, client: Client) {
        self.begin(EXPOSE, Errand::Expose(manner, Vec::new()), None, wanted, client);
    }

    fn begin(
        &mut self,
        steps: &'static [Step],
        errand: Errand,
        container: Option<Container>,
        mut wanted: Vec<Wanted>,
        client: Client,
    ) {
        if self.attaching.operations.len() >= OPERATIONS_MAX {
            let _ = client.reply.send(Err(AttachError::Busy(OPERATIONS_MAX)));
            return;
        }
        if wanted.is_empty() && !matches!(errand, Errand::Detach(_)) {
            wanted.push(Wanted::In(None));
        }
        self.attaching.last += 1;
        let id = OperationId(self.attaching.last);
        let operation = Operation {
            chain: Chain::new(steps),
            errand,
            holder: container.as_ref().map_or(HOST_LABEL, |container| &container.label).to_owned(),
            seat: container.map(Seat::of),
            client,
            begun: self.clock.now(),
            wanted,
            addresses: Vec::new(),
            held: Vec::new(),
            fresh: Vec::new(),
            asked: None,
            plan: None,
        };
        self.attaching.operations.insert(id, operation);
        self.pursue(id);
    }

    /// Takes steps until one has to wait.
    fn pursue(&mut self, id: OperationId) {
        while let Some(mut operation) = self.attaching.operations.remove(&id) {
            let progress = match operation.chain.next() {
                Next::Do(step) => self.take_step(id, &mut operation, step),
                Next::Undo(step) => self.take_back(id, &mut operation, step),
                Next::End => return self.conclude(operation),
            };
            let result = match progress {
                Progress::Over(result) => Some(result),
                Progress::Waits => None,
            };
            self.attaching.operations.insert(id, operation);
            match result {
                Some(result) => self.note(id, result),
                None => return,
            }
        }
    }

    fn note(&mut self, id: OperationId, result: Result<(), AttachError>) {
        let Some(operation) = self.attaching.operations.get_mut(&id) else { return };
        match result {
            Err(error) if !matches!(operation.chain.next(), Next::Undo(_)) => operation.chain.fail(error),
            Err(error) => {
                warn!(%error, "cannot take everything back");
                operation.chain.advance();
            }
            Ok(()) => operation.chain.advance(),
        }
    }

    /// What an operation waited for has come.
    fn resume(&mut self, id: OperationId, result: Result<(), AttachError>) {
        self.note(id, result);
        self.pursue(id);
    }

    fn conclude(&mut self, operation: Operation) {
        let Operation { chain, errand, client, addresses, seat, .. } = operation;
        if let (Some(seat), false) = (&seat, chain.has_failed()) {
            self.note_manual(&seat.container.label, &errand, &addresses);
        }
        let errand = match errand {
            Errand::Attach(_) => "attach",
            Errand::Detach(_) => "detach",
            Errand::Expose(..) => "expose",
        };
        let answer = match chain.into_failure() {
            None => {
                info!(addresses = addresses.len(), errand, "ports changed");
                Ok(addresses)
            }
            Some(error) => {
                warn!(%error, errand, "ports are as they were");
                Err(error)
            }
        };
        // A client that went away learns it from `ps`.
        let _ = client.reply.send(answer);
        self.pursue_those_in_turn();
    }

    /// What an operator has done to a container is so at its next start, too.
    fn note_manual(&mut self, container: &str, errand: &Errand, addresses: &[Subnet]) {
        match errand {
            Errand::Attach(Attachable { named, multicast_route, by_hand: true, .. }) => {
                let (addresses, named, multicast_route) = (addresses.to_vec(), *named, *multicast_route);
                self.remember(container, Manual { addresses, named, multicast_route });
            }
            Errand::Detach(addresses) => self.forget_manual(container, addresses),
            Errand::Attach(_) | Errand::Expose(..) => {}
        }
    }

    /// A port is free for the next operation.
    fn pursue_those_in_turn(&mut self) {
        let waiting = self.attaching.find(|operation| operation.chain.next() == Next::Do(Step::Turn));
        waiting.into_iter().for_each(|id| self.pursue(id));
    }

    /// The client with this ticket waits no longer: its operation is taken back if it only waits, else finished.
    pub(super) fn take_back_operation(&mut self, ticket: Ticket) {
        let its = self.attaching.find(|operation| operation.client.ticket == ticket && operation.can_be_taken_back());
        for id in its {
            let Some(operation) = self.attaching.operations.get_mut(&id) else { continue };
            let (asked, waited) = (operation.asked.take(), self.clock.now().since(operation.begun));
            let reason = asked.map_or_else(Vec::new, |asked| self.waited_for(Some(asked)));
            if let Some(asked) = asked {
                self.withdraw(asked);
            }
            let reason = reason.into_iter().next().unwrap_or_else(|| "the container's port".to_owned());
            self.resume(id, Err(AddressError::GivenUp { waited, reason }.into()));
        }
    }

    /// A question of an operation is answered.
    pub(super) fn handle_obtained(&mut self, id: OperationId, ticket: Ticket, answer: Result<Cidr, AddressError>) {
        let Some(operation) = self.attaching.operations.get_mut(&id).filter(|it| it.asked == Some(ticket)) else {
            return;
        };
        operation.asked = None;
        match answer {
            Ok(address) => {
                operation.note_obtained(address);
                self.pursue(id);
            }
            Err(error) => self.resume(id, Err(error.into())),
        }
    }

    pub(super) fn handle_job(&mut self, Finished { job, done }: Finished) {
        let now = self.clock.now();
        match self.attaching.jobs.finish(job, now) {
            Some(id) => {
                let result = self.note_done(id, done);
                self.resume(id, result);
            }
            None => self.clean_up_after(done, now),
        }
    }

    pub(super) fn expire_operations(&mut self, now: Instant) {
        for (id, error) in self.attaching.jobs.expire(now) {
            self.resume(id, Err(error));
        }
        let late = self.attaching.find(|operation| operation.plan.is_some_and(|(_, until)| until <= now));
        for id in late {
            let why = "it has not taken the plan yet; see the log".to_owned();
            self.end_waiting(id, Err(AttachError::Closed(why)));
        }
    }

    /// Answers those whose plan the kernel has, once our neighbours have been told of their containers: what a container says
    /// first, others are to know by then whose it is.
    pub(super) fn answer_operations(&mut self) {
        if self.node.has_unpublished_containers() {
            return;
        }
        let applied = self.weaving.applied();
        let due = self.attaching.find(|operation| operation.plan.is_some_and(|(plan, _)| plan <= applied));
        for id in due {
            let host_link = self.attaching.operations.get(&id).and_then(Operation::host_link);
            let result = self.opened(host_link);
            self.end_waiting(id, result);
        }
    }

    /// A container has gone while the kernel was to open its port.
    pub(super) fn note_port_gone(&mut self, host_link: &str) {
        let is_its = |operation: &Operation| {
            let is_attached = matches!(operation.errand, Errand::Attach(_)) && operation.plan.is_some();
            is_attached && operation.host_link().is_some_and(|own| own.as_str() == host_link)
        };
        for id in self.attaching.find(is_its) {
            self.end_waiting(id, Err(AttachError::Gone));
        }
    }

    fn end_waiting(&mut self, id: OperationId, result: Result<(), AttachError>) {
        if let Some(operation) = self.attaching.operations.get_mut(&id) {
            operation.plan = None;
        }
        self.resume(id, result);
    }
}

impl Seat {
    fn of(container: Container) -> Self {
        Self { container, place: None, host_link: None, found: None, has_turn: false, recorded: None, made: None }
    }
}
