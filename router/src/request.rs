//! What admin work asks of the control task: one value per question, each with the channel for its answer.

use tokio::sync::{mpsc, oneshot};
use weave_mesh::card::Subnet;
use weave_mesh::connector::{Earlier, Target, TooManyTargets};

use crate::attach::{AttachError, Container};
use crate::node::Manner;
use crate::status::Material;

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
        reply: Reply<Result<(), TooManyTargets>>,
    },
    Forget {
        targets: Vec<Target>,
        reply: Reply<()>,
    },
    Attach {
        container: Container,
        addresses: Vec<Subnet>,
        reply: Reply<Result<Vec<Subnet>, AttachError>>,
    },
    /// Without addresses: all of them.
    Detach {
        container: Container,
        addresses: Vec<Subnet>,
        reply: Reply<Result<Vec<Subnet>, AttachError>>,
    },
    Expose {
        addresses: Vec<Subnet>,
        manner: Manner,
        reply: Reply<Result<Vec<Subnet>, AttachError>>,
    },
    /// Without addresses: all of them.
    Hide {
        addresses: Vec<Subnet>,
        reply: Reply<Result<Vec<Subnet>, AttachError>>,
    },
    /// Says goodbye, removes kernel state and state directory, and ends the daemon; answers before it ends.
    Reset(Reply<Result<(), String>>),
}

/// The control task is gone: the daemon is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the daemon is stopping; ask again when it is back")]
pub struct Stopping;

/// The asking side.
#[derive(Clone, Debug)]
pub struct Requester(mpsc::Sender<Request>);

/// A channel for requests: the asking side and the control task's.
pub fn channel() -> (Requester, mpsc::Receiver<Request>) {
    let (sender, receiver) = mpsc::channel(REQUESTS_MAX);
    (Requester(sender), receiver)
}

impl Requester {
    /// Asks what `request` builds around the channel for the answer.
    ///
    /// # Errors
    /// When the control task ends before it answers.
    pub async fn ask<T>(&self, request: impl FnOnce(Reply<T>) -> Request) -> Result<T, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.0.send(request(reply)).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }
}
