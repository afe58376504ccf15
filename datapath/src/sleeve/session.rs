//! Keys in use between two peers.
//!
//! Invariant: no session seals or opens anything past [`REJECT_AFTER`] or [`REJECT_AFTER_PACKETS`].

use std::time::Duration;

use weave_mesh::time::Instant;

use crate::drops::Drop;
use crate::sleeve::handshake::Agreement;
use crate::sleeve::packet::{DATA_HEADER_BYTES, DataHeader, Index, Payload};
use crate::sleeve::replay::ReplayWindow;
use crate::sleeve::seal::{Cipher, OpeningKey, SealingKey, TAG_BYTES, derive};

mod generations;

pub use generations::Sessions;

/// When the initiator of a session makes the next one, unless it was told to sooner.
pub const REKEY_AFTER: Duration = Duration::from_secs(120);
/// How much longer than the initiator the responder waits, in quarters of the interval.
const RESPONDER_QUARTERS: u32 = 5;
/// When a session is refused by both ends.
pub const REJECT_AFTER: Duration = Duration::from_secs(180);
/// Packets after which the next session is made.
pub const REKEY_AFTER_PACKETS: u64 = 1 << 28;
/// Packets after which a session is refused: far below the limits of both ciphers.
pub const REJECT_AFTER_PACKETS: u64 = 1 << 32;
/// What sealing adds in front of and behind a payload.
pub const OVERHEAD_BYTES: usize = DATA_HEADER_BYTES + TAG_BYTES;

/// Who sent the first message of a session's handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Initiator,
    Responder,
}

/// One generation of keys.
#[derive(Debug)]
pub struct Session {
    local: Index,
    remote: Index,
    role: Role,
    cipher: Cipher,
    born: Instant,
    sealing: SealingKey,
    opening: OpeningKey,
    next_counter: u64,
    replay: ReplayWindow,
    heartbeat_out: [u8; 32],
    heartbeat_in: [u8; 32],
}

/// An opened packet.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    pub payload: &'a mut [u8],
    /// No packet of this session with a higher counter was received: it says where its sender is.
    pub is_newest: bool,
}

impl Session {
    /// `local` names it in packets to us, `remote` in packets to the other end.
    pub fn new(agreement: &Agreement, role: Role, local: Index, remote: Index, now: Instant) -> Self {
        Self {
            local,
            remote,
            role,
            cipher: agreement.cipher,
            born: now,
            sealing: SealingKey::new(agreement.cipher, &agreement.send),
            opening: OpeningKey::new(agreement.cipher, &agreement.receive),
            next_counter: 0,
            replay: ReplayWindow::default(),
            heartbeat_out: *derive(&agreement.send, "heartbeat"),
            heartbeat_in: *derive(&agreement.receive, "heartbeat"),
        }
    }

    pub const fn local(&self) -> Index {
        self.local
    }

    pub const fn remote(&self) -> Index {
        self.remote
    }

    pub const fn cipher(&self) -> Cipher {
        self.cipher
    }

    /// The counter under which the next packet will be sealed.
    pub const fn next_counter(&self) -> u64 {
        self.next_counter
    }

    /// Which packets of the other end were received.
    pub const fn window(&self) -> &ReplayWindow {
        &self.replay
    }

    pub const fn born(&self) -> Instant {
        self.born
    }

    /// Keys of the heartbeats that we send and that we receive.
    pub const fn heartbeat_keys(&self) -> (&[u8; 32], &[u8; 32]) {
        (&self.heartbeat_out, &self.heartbeat_in)
    }

    /// Whether [`Self::seal`] may be called.
    pub fn can_seal(&self, now: Instant) -> bool {
        self.next_counter < REJECT_AFTER_PACKETS && now.since(self.born) < REJECT_AFTER
    }

    /// When this end makes the next session, if initiators do after `interval`.
    pub fn rekey_at(&self, interval: Duration) -> Instant {
        if self.next_counter >= REKEY_AFTER_PACKETS {
            return self.born;
        }
        match self.role {
            Role::Initiator => self.born + interval,
            Role::Responder => self.born + interval * RESPONDER_QUARTERS / 4,
        }
    }

    /// Seals in place: `packet` has room for the header, then the payload, then room for the tag. The caller has asked
    /// [`Self::can_seal`].
    pub fn seal(&mut self, payload: Payload, packet: &mut [u8]) {
        let counter = self.next_counter;
        self.next_counter += 1;
        let header = DataHeader { payload, receiver: self.remote, counter }.encode();
        let (front, rest) = packet.split_at_mut(DATA_HEADER_BYTES);
        let (body, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
        front.copy_from_slice(&header);
        tag.copy_from_slice(&self.sealing.seal(counter, &header, body));
    }

    /// Opens `packet`, whose header was decoded to `header`, in place.
    ///
    /// # Errors
    /// Why it is dropped.
    pub fn open<'a>(&mut self, header: DataHeader, packet: &'a mut [u8], now: Instant) -> Result<Opened<'a>, Drop> {
        if header.counter >= REJECT_AFTER_PACKETS || now.since(self.born) >= REJECT_AFTER {
            return Err(Drop::Exhausted);
        }
        if !self.replay.would_accept(header.counter) {
            return Err(Drop::Replayed);
        }
        let (front, sealed) = packet.split_at_mut_checked(DATA_HEADER_BYTES).ok_or(Drop::MalformedDatagram)?;
        let payload = self.opening.open(header.counter, front, sealed).map_err(|_| Drop::ForgedPacket)?;
        let is_newest = self.replay.is_newest(header.counter);
        self.replay.accept(header.counter);
        Ok(Opened { payload, is_newest })
    }
}

#[cfg(test)]
mod tests;
