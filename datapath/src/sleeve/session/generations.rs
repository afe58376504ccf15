//! The change from one session to the next.
//!
//! ```text
//!   initiator:  answer read ────────────────► current ── newer one agreed ──► previous ── 180 s ──► gone
//!   responder:  answer sent ──► unconfirmed ── first sealed packet ──► current ──► previous ──► gone
//!                                    └── another is confirmed, or 10 s ──► gone
//! ```
//!
//! Invariants:
//! - packets are sealed under `current` only, opened under every generation that is left;
//! - the responder seals nothing under a session before the initiator has proved that it holds the keys.

use std::time::Duration;

use weave_mesh::time::Instant;

use super::{REJECT_AFTER, Session};
use crate::sleeve::packet::Index;

/// How long the responder waits for the initiator's first packet.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// Answers of ours that may await their first packet: a handshake is tried by several ways at once.
pub(super) const UNCONFIRMED_MAX: usize = 4;

/// The generations of one peer.
#[derive(Debug, Default)]
pub struct Sessions {
    current: Option<Box<Session>>,
    previous: Option<Box<Session>>,
    unconfirmed: Vec<Session>,
    /// Names of sessions that are gone, for the owner of the index table.
    retired: Vec<Index>,
}

impl Sessions {
    pub fn current(&self) -> Option<&Session> {
        self.current.as_deref()
    }

    pub fn current_mut(&mut self) -> Option<&mut Session> {
        self.current.as_deref_mut()
    }

    /// The session under which a packet to `local` is sealed.
    pub fn get_mut(&mut self, local: Index) -> Option<&mut Session> {
        let confirmed = self.current.iter_mut().chain(&mut self.previous).map(|session| &mut **session);
        confirmed.chain(&mut self.unconfirmed).find(|session| session.local == local)
    }

    /// As the initiator: uses a session from here on.
    pub fn adopt(&mut self, session: Session) {
        self.replace_current(session);
    }

    /// As the responder: keeps a session until its first packet.
    pub fn offer(&mut self, session: Session) {
        if self.unconfirmed.len() == UNCONFIRMED_MAX {
            self.retired.push(self.unconfirmed.remove(0).local);
        }
        self.unconfirmed.push(session);
    }

    /// A packet sealed under `local` was opened; true if that confirms a session of ours.
    pub fn confirm(&mut self, local: Index) -> bool {
        let Some(at) = self.unconfirmed.iter().position(|session| session.local == local) else { return false };
        let session = self.unconfirmed.remove(at);
        self.replace_current(session);
        true
    }

    fn replace_current(&mut self, session: Session) {
        self.retired.extend(self.previous.take().map(|session| session.local));
        self.retired.extend(self.unconfirmed.drain(..).map(|session| session.local));
        self.previous = self.current.replace(Box::new(session));
    }

    /// Forgets what is past its time.
    pub fn expire(&mut self, now: Instant) {
        for slot in [&mut self.current, &mut self.previous] {
            let gone = slot.take_if(|session| now.since(session.born) >= REJECT_AFTER);
            self.retired.extend(gone.map(|session| session.local));
        }
        let retired = &mut self.retired;
        self.unconfirmed.retain(|session| {
            let keep = now.since(session.born) < CONFIRM_WITHIN;
            if !keep {
                retired.push(session.local);
            }
            keep
        });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        let confirmed = self.current.take().into_iter().chain(self.previous.take());
        self.retired.extend(confirmed.map(|session| session.local));
        self.retired.extend(self.unconfirmed.drain(..).map(|session| session.local));
    }

    /// The next time at which [`Self::expire`] forgets something.
    pub fn expires_at(&self) -> Option<Instant> {
        let confirmed = self.current.iter().chain(&self.previous).map(|session| session.born + REJECT_AFTER);
        confirmed.chain(self.unconfirmed.iter().map(|session| session.born + CONFIRM_WITHIN)).min()
    }

    pub fn take_retired(&mut self) -> Vec<Index> {
        std::mem::take(&mut self.retired)
    }
}
