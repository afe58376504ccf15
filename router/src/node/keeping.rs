//! What control writes down as it goes, and what it does when the disk refuses.
//!
//! | | refused |
//! |---|---|
//! | an address is taken | it is not given: whoever asked gets the error |
//! | an address is given back, a port is gone | tried again; after a restart it would be held a little longer |
//! | the ring, a vote, a promise | tried again; until then nobody is told anything about addresses |
//!
//! Invariants:
//! - nobody is told that he has an address before the disk has it;
//! - once the journal has missed a change nothing is appended to it: it is rewritten from what holds, or stays behind.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use tracing::{debug, error, info};
use weave_mesh::ipam::Change;
use weave_mesh::time::Instant;
use weave_mesh::wire::Message;

use super::Control;
use crate::store::{AddressJournal, FileError};

/// How long after a refusal the disk is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// What the disk has, and what it lacks.
#[derive(Debug)]
pub(super) struct Keeping {
    /// Who holds which address; absent when none are given.
    journal: Option<AddressJournal>,
    /// The journal lacks a change.
    is_behind: bool,
    /// Addresses that were taken since, and why that is not on disk.
    unkept: BTreeMap<Ipv4Addr, String>,
    ledger_is_behind: bool,
    /// What is to be written of the ring.
    ring: Option<Vec<u8>>,
    retry: Option<Instant>,
}

impl Keeping {
    pub(super) const fn new(journal: Option<AddressJournal>) -> Self {
        Self { journal, is_behind: false, unkept: BTreeMap::new(), ledger_is_behind: false, ring: None, retry: None }
    }

    pub(super) const fn due(&self) -> Option<Instant> {
        self.retry
    }

    /// Whether `message` may rely on what the disk lacks. Whoever misses it writes again, or compares rings with us later.
    pub(super) const fn forbids(&self, message: &Message) -> bool {
        self.ring.is_some() && matches!(message, Message::Letter(_) | Message::RingNews(_) | Message::RingState(_))
    }

    /// Why an address that was taken is not on disk, if it is not.
    pub(super) fn unkept(&self, address: Ipv4Addr) -> Option<String> {
        self.unkept.get(&address).cloned()
    }
}

impl Control {
    pub(super) fn keep_address(&mut self, change: &Change) {
        let kept = match &mut self.keeping.journal {
            None => return,
            Some(journal) if !self.keeping.is_behind => journal.append(change),
            Some(_) => self.rewrite_journal(),
        };
        match (kept, change) {
            (Ok(()), _) => self.shorten_journal(),
            (Err(error), Change::Take { address, .. }) => {
                self.keeping.unkept.insert(address.address(), error.to_string());
                self.fall_behind(&error);
            }
            (Err(error), Change::Give { address, .. }) => {
                self.keeping.unkept.remove(address);
                self.fall_behind(&error);
            }
        }
    }

    fn fall_behind(&mut self, error: &FileError) {
        if !self.keeping.is_behind {
            error!(%error, "cannot write down who holds which address; no more are given until that is possible");
        }
        self.keeping.is_behind = true;
        self.keeping.retry.get_or_insert_with(|| self.clock.now() + RETRY_INTERVAL);
    }

    fn shorten_journal(&mut self) {
        if self.keeping.journal.as_ref().is_some_and(AddressJournal::is_overgrown)
            && let Err(error) = self.rewrite_journal()
        {
            debug!(%error, "the journal of addresses grows on");
        }
    }

    /// What is already decided and not yet written comes twice, and the second time changes nothing.
    fn rewrite_journal(&mut self) -> Result<(), FileError> {
        let Some(journal) = &mut self.keeping.journal else { return Ok(()) };
        journal.compact(AddressJournal::changes(self.node.all_addresses()))?;
        if std::mem::take(&mut self.keeping.is_behind) {
            info!("who holds which address is on disk again");
        }
        self.keeping.unkept.clear();
        Ok(())
    }

    pub(super) fn keep_ring(&mut self, ring: Vec<u8>) {
        let kept = self.store.write_ring(&ring);
        if let Err(error) = &kept {
            error!(%error, "cannot write down who owns which addresses; telling nobody until that is possible");
            self.keeping.retry.get_or_insert_with(|| self.clock.now() + RETRY_INTERVAL);
        }
        self.keeping.ring = kept.is_err().then_some(ring);
    }

    /// Writes the ledger, now or as soon as the disk lets us: for what does no harm meanwhile.
    pub(super) fn keep_ledger(&mut self) {
        let kept = self.store.write_ledger(&self.ledger);
        if let Err(error) = &kept {
            error!(%error, "cannot write down the containers of this host; trying again");
            self.keeping.retry.get_or_insert_with(|| self.clock.now() + RETRY_INTERVAL);
        }
        self.keeping.ledger_is_behind = kept.is_err();
    }

    /// Tries again what the disk refused.
    pub(super) fn catch_up(&mut self, now: Instant) {
        if self.keeping.retry.is_none_or(|at| at > now) {
            return;
        }
        self.keeping.retry = None;
        if self.keeping.is_behind
            && let Err(error) = self.rewrite_journal()
        {
            self.fall_behind(&error);
        }
        if self.keeping.ledger_is_behind {
            self.keep_ledger();
        }
        if let Some(ring) = self.keeping.ring.take() {
            self.keep_ring(ring);
        }
    }
}
