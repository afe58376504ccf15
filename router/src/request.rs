//! What admin work asks of the control task: one value per question, each with the channel for its answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use weave_docker::events::{Census, ContainerEvent};
use weave_mesh::card::Subnet;
use weave_mesh::connector::{Earlier, Target};
use weave_mesh::ipam::{self, Answer, Cidr, Ticket};
use weave_mesh::name::MacAddr;

use crate::attach::{AttachError, Container, Endpoint, Manual, Routes, Wanted};
use crate::discovery::{self, List};
use crate::naming::{NameError, Pattern};
use crate::node::Manner;
use crate::status::{DnsMaterial, Material};

/// Requests that may wait for control; beyond it the API waits.
const REQUESTS_MAX: usize = 64;

/// Where an answer goes. A requester that left is no error.
pub type Reply<T> = oneshot::Sender<T>;

/// One question or command.
#[derive(Debug)]
pub enum Request {
    Snapshot(Reply<Material>),
    Connect {
        targets: Vec<Target>,
        earlier: Earlier,
        reply: Reply<Result<(), String>>,
    },
    Forget {
        targets: Vec<Target>,
        reply: Reply<Result<(), String>>,
    },
    Attach {
        ticket: Ticket,
        container: Container,
        /// An address of the default subnet when there is none.
        wanted: Vec<Wanted>,
        /// Whether the container's name is to lead to its addresses.
        named: bool,
        /// Whether its IPv4 multicast leaves by the overlay.
        multicast_route: bool,
        /// An operator asks: if the container is one of Docker's it is to be so at every start.
        by_hand: bool,
        reply: Reply<Result<Vec<Subnet>, AttachError>>,
    },
    /// Without addresses: all of them.
    Detach {
        ticket: Ticket,
        container: Container,
        addresses: Vec<Subnet>,
        reply: Reply<Result<Vec<Subnet>, AttachError>>,
    },
    /// An address of the default subnet when none is wanted.
    Expose {
        ticket: Ticket,
        wanted: Vec<Wanted>,
        manner: Manner,
        reply: Reply<Result<Vec<Subnet>, AttachError>>,
    },
    /// These addresses and all of these networks; without either everything.
    Hide {
        addresses: Vec<Subnet>,
        networks: Vec<Subnet>,
        reply: Reply<Result<Vec<Subnet>, AttachError>>,
    },
    /// A question about addresses; the answer may have to wait for other peers.
    Pose {
        ticket: Ticket,
        question: Question,
        reply: Reply<Result<Answer, AddressError>>,
    },
    /// The asker of a question or operation has gone, or waits no longer; what a question waited for. An operation that
    /// only waits is taken back and answered.
    Cancel {
        ticket: Ticket,
        reply: Reply<String>,
    },
    /// Frees an address of a container, or all of them.
    Release {
        container: String,
        address: Option<Ipv4Addr>,
        reply: Reply<Result<(), AddressError>>,
    },
    /// The addresses of one container, or of every one.
    Holdings {
        container: Option<String>,
        reply: Reply<BTreeMap<String, Vec<Cidr>>>,
    },
    /// How addresses are given; nothing when they are not.
    Allocation(Reply<Option<ipam::Config>>),
    /// What questions wait for, each thing once.
    WaitedFor(Reply<Vec<String>>),
    /// All of Docker's containers, after a time in which we heard nothing of them. The answer is who is to be found.
    Containers {
        census: Census,
        reply: Reply<Vec<String>>,
    },
    /// Who holds an address on this host.
    Holder {
        address: IpAddr,
        reply: Reply<Option<Holder>>,
    },
    /// Frees an address of a container that does not run, and whose port is gone.
    Vacate {
        holder: Holder,
        address: IpAddr,
        reply: Reply<()>,
    },
    /// The container that a target means of which there is no namespace; `id` is what its engine calls it, if it knows it.
    Recall {
        target: String,
        id: Option<String>,
        reply: Reply<Option<Container>>,
    },
    /// A container that was found running: what it is called, and on which endpoints of Docker's networks, with its aliases
    /// there. The answer is what it is to have.
    Found {
        container: Container,
        endpoints: Vec<(Endpoint, Vec<String>)>,
        reply: Reply<Option<Manual>>,
    },
    /// Something happened to one of Docker's containers. The answer is whether it is to be found.
    Container {
        id: String,
        event: ContainerEvent,
        reply: Reply<bool>,
    },
    /// What Docker wants of its networks.
    Network(NetworkRequest),
    /// Gives a container a name at `addresses`, or at all that it has; the answer is what there is to say about that.
    AddName {
        container: Container,
        addresses: Vec<IpAddr>,
        /// Its own when `None`.
        name: Option<String>,
        reply: Reply<Result<Option<String>, NameError>>,
    },
    RemoveNames {
        pattern: Pattern,
        reply: Reply<Result<(), NameError>>,
    },
    /// `None` when no names are served.
    Dns(Reply<Option<DnsMaterial>>),
    /// What a list of peers or machines says. The answer is what the next one should tell.
    Discovered {
        list: List,
        reply: Reply<discovery::Wanted>,
    },
    /// Ends the daemon and leaves kernel state and state directory as they are; answers before it ends.
    Stop(Reply<()>),
    /// Hands our address ranges over, says goodbye, removes kernel state and state directory, and ends the daemon; answers before it ends.
    Reset(Reply<Result<(), String>>),
}

/// What Docker wants of its networks, beside attaching and detaching.
#[derive(Debug)]
pub enum NetworkRequest {
    /// Docker makes an endpoint with an address that it has asked for; it is attached and detached as a container is. The
    /// answer is its MAC.
    CreateEndpoint {
        endpoint: Endpoint,
        address: Subnet,
        /// Chosen by us when absent.
        mac: Option<MacAddr>,
        reply: Reply<Result<MacAddr, AttachError>>,
    },
    /// Docker gives an address back that it has asked for.
    ReturnAddress { address: Ipv4Addr, reply: Reply<Result<(), AttachError>> },
    /// Whether multicast of containers leaves by a network of Docker's.
    SetMulticast { network: String, is_routed: bool, reply: Reply<Result<(), AttachError>> },
    /// Which routes of its container go by an endpoint that was joined.
    Route { endpoint: Endpoint, network: String, reply: Reply<Routes> },
}

/// A container of this host that holds an address, and the port by which it has it, if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub container: String,
    pub port: Option<String>,
}

/// What may have to wait for other peers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// An address of `subnet`, else of the default one.
    Allocate { container: String, subnet: Option<Cidr> },
    /// This very address.
    Claim { container: String, address: Cidr, unknown: Unknown },
    /// That this host can give addresses.
    Ring,
    /// The ranges of the dead peer of this name or nickname.
    TakeOver(String),
}

/// What is done with a claim while nobody knows who owns the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    Awaited,
    /// The address is the container's, as in the original's `noErrorOnUnknown`.
    Taken,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("this host gives no addresses: it was launched with an empty --ipalloc-range")]
    SwitchedOff,
    /// As the mesh machine says it, with peers called by their names.
    #[error("{0}")]
    Refused(String),
    #[error("several unreachable peers are called {name}: give the key of one, {keys}")]
    Ambiguous { name: String, keys: String },
    #[error("cannot write down who has {address}: {why}")]
    NotKept { address: Ipv4Addr, why: String },
    #[error("given up after {:.0} s of waiting for {reason}", waited.as_secs_f64())]
    GivenUp { waited: Duration, reason: String },
    #[error(transparent)]
    Stopping(#[from] Stopping),
}

/// The control task is gone: the daemon is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is stopping; ask again when it is back")]
pub struct Stopping;

/// The asking side.
#[derive(Clone, Debug)]
pub struct Requester {
    requests: mpsc::Sender<Request>,
    tickets: Arc<AtomicU64>,
}

/// A channel for requests: the asking side and the control task's.
pub fn channel() -> (Requester, mpsc::Receiver<Request>) {
    let (requests, receiver) = mpsc::channel(REQUESTS_MAX);
    (Requester { requests, tickets: Arc::default() }, receiver)
}

impl Requester {
    /// Asks what `request` builds around the channel for the answer.
    ///
    /// # Errors
    /// When the control task ends before it answers.
    pub async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(request(reply)).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    fn open(&self) -> (Ticket, Open) {
        let ticket = Ticket(self.tickets.fetch_add(1, Ordering::Relaxed));
        (ticket, Open { requester: self.clone(), ticket: Some(ticket) })
    }

    /// Asks for an operation and waits until it is done, or taken back: by us when `patience` is at its end before
    /// anything but waiting has begun, or when the asker is dropped.
    ///
    /// # Errors
    /// Says why nothing has changed.
    pub async fn commit(
        &self,
        patience: Option<Duration>,
        request: impl FnOnce(Ticket, Reply<Result<Vec<Subnet>, AttachError>>) -> Request,
    ) -> Result<Vec<Subnet>, AttachError> {
        let (ticket, mut open) = self.open();
        let mut answer = std::pin::pin!(self.ask(|reply| request(ticket, reply)));
        let early = match patience {
            Some(patience) => tokio::time::timeout(patience, &mut answer).await.ok(),
            None => Some(answer.as_mut().await),
        };
        let answer = match early {
            Some(answer) => answer,
            None => {
                self.ask(|reply| Request::Cancel { ticket, reply }).await.map_err(AddressError::from)?;
                answer.await
            }
        };
        open.ticket = None;
        answer.map_err(AddressError::from)?
    }

    /// Poses a question and waits for its answer, no longer than `patience` if there is one. An asker that is dropped
    /// takes its question back.
    ///
    /// # Errors
    /// When the answer is a refusal, or comes too late.
    pub async fn pose(&self, question: Question, patience: Option<Duration>) -> Result<Answer, AddressError> {
        let (ticket, mut open) = self.open();
        let answer = self.ask(|reply| Request::Pose { ticket, question, reply });
        let answer = match patience {
            None => Some(answer.await),
            Some(patience) => tokio::time::timeout(patience, answer).await.ok(),
        };
        open.ticket = None;
        match answer {
            Some(answer) => answer?,
            None => {
                let reason = self.ask(|reply| Request::Cancel { ticket, reply }).await?;
                Err(AddressError::GivenUp { waited: patience.unwrap_or_default(), reason })
            }
        }
    }
}

/// A question without an answer yet; dropping it takes the question back.
struct Open {
    requester: Requester,
    ticket: Option<Ticket>,
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some(ticket) = self.ticket else { return };
        let requester = self.requester.clone();
        tokio::spawn(async move { requester.ask(|reply| Request::Cancel { ticket, reply }).await });
    }
}
