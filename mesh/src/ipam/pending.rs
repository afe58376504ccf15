//! Operations that wait, until they are answered, refused or cancelled.
//!
//! ```text
//!   begin ──► attempt ──► answered
//!                └──► waits ── something has changed ──► attempt, again
//! ```
//!
//! Invariant: an operation is answered once, or cancelled.

use super::operation::{Attempt, Operation};
use super::{Action, Answer, Cidr, ClaimMode, Error, Ipam, OPERATIONS_MAX, Surroundings, Ticket, Wait};
use crate::identity::PeerKey;

#[derive(Clone, Debug)]
pub(super) struct Pending {
    pub(super) operation: Operation,
    pub(super) wait: Wait,
}

impl Ipam {
    pub(crate) fn allocate(&mut self, ticket: Ticket, container: &str, subnet: Cidr, near: &Surroundings<'_>) {
        let container = container.to_owned();
        self.begin(ticket, Operation::Allocate { container, subnet }, near);
    }

    pub(crate) fn claim(
        &mut self,
        ticket: Ticket,
        container: &str,
        address: Cidr,
        mode: ClaimMode,
        near: &Surroundings<'_>,
    ) {
        let container = container.to_owned();
        self.begin(ticket, Operation::Claim { container, address, mode }, near);
    }

    pub(crate) fn wait_for_ring(&mut self, ticket: Ticket, near: &Surroundings<'_>) {
        self.begin(ticket, Operation::AwaitRing, near);
    }

    pub(crate) fn hand_over(&mut self, ticket: Ticket, near: &Surroundings<'_>) {
        self.begin(ticket, Operation::HandOver, near);
    }

    /// The caller is gone.
    pub(crate) fn cancel(&mut self, ticket: Ticket) {
        self.pending.remove(&ticket);
    }

    pub(super) fn begin(&mut self, ticket: Ticket, operation: Operation, near: &Surroundings<'_>) {
        match self.attempt(&operation, near) {
            Ok(answer) => self.actions.push_back(Action::Answer(ticket, answer)),
            Err(_) if self.pending.len() >= OPERATIONS_MAX => {
                self.actions.push_back(Action::Answer(ticket, Err(Error::TooMany)));
            }
            Err(wait) => drop(self.pending.insert(ticket, Pending { operation, wait })),
        }
    }

    pub(super) fn retry(&mut self, near: &Surroundings<'_>) {
        for (ticket, mut pending) in std::mem::take(&mut self.pending) {
            match self.attempt(&pending.operation, near) {
                Ok(answer) => self.actions.push_back(Action::Answer(ticket, answer)),
                Err(wait) => {
                    pending.wait = wait;
                    self.pending.insert(ticket, pending);
                }
            }
        }
    }

    fn attempt(&mut self, operation: &Operation, near: &Surroundings<'_>) -> Attempt {
        match operation {
            Operation::Allocate { container, subnet } => self.try_allocate(container, *subnet, near),
            Operation::Claim { container, address, mode } => self.try_claim(container, *address, *mode, near),
            Operation::AwaitRing => self.await_ring(near).map(|()| Ok(Answer::Ready)),
            Operation::TakeOver { peer, addresses } => self.try_take_over(*peer, *addresses, near),
            Operation::HandOver => self.try_hand_over(near),
        }
    }

    pub(super) fn refuse_all_of(&mut self, container: &str) -> bool {
        let is_its = |pending: &Pending| pending.operation.container() == Some(container);
        let tickets: Vec<Ticket> =
            self.pending.iter().filter(|(_, pending)| is_its(pending)).map(|(id, _)| *id).collect();
        for ticket in &tickets {
            self.pending.remove(ticket);
            let refused = Err(Error::Released { container: container.to_owned() });
            self.actions.push_back(Action::Answer(*ticket, refused));
        }
        !tickets.is_empty()
    }

    /// A container elsewhere, or of another peer here, has the address.
    pub(super) fn refuse_claims(&mut self, address: u32, peer: PeerKey) {
        let is_claim = |operation: &Operation| matches!(operation, Operation::Claim { address: claimed, .. } if u32::from(claimed.address()) == address);
        let pending = self.pending.iter().filter(|(_, pending)| is_claim(&pending.operation));
        let tickets: Vec<Ticket> = pending.map(|(ticket, _)| *ticket).collect();
        for ticket in tickets {
            self.pending.remove(&ticket);
            let refused = Error::HeldElsewhere { address: address.into(), peer };
            self.actions.push_back(Action::Answer(ticket, Err(refused)));
        }
    }
}
