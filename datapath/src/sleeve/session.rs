//! Keys in use between two peers, and the change from one generation to the next.
//!
//! ```text
//!   initiator:  answer read ────────────────► current ── newer one agreed ──► previous ── 180 s ──► gone
//!   responder:  answer sent ──► unconfirmed ── first sealed packet ──► current ──► previous ──► gone
//!                                    └── another is confirmed, or 10 s ──► gone
//! ```
//!
//! Invariants:
//! - packets are sealed under `current` only, opened under every generation that is left;
//! - the responder seals nothing under a session before the initiator has proved that it holds the keys;
//! - no session seals or opens anything past [`REJECT_AFTER`] or [`REJECT_AFTER_PACKETS`].

use std::time::Duration;

use weave_mesh::time::Instant;

use crate::drops::Drop;
use crate::sleeve::handshake::Agreement;
use crate::sleeve::packet::{DATA_HEADER_BYTES, DataHeader, Index, Payload};
use crate::sleeve::replay::ReplayWindow;
use crate::sleeve::seal::{Cipher, OpeningKey, SealingKey, TAG_BYTES, derive};

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
/// How long the responder waits for the initiator's first packet.
const CONFIRM_WITHIN: Duration = Duration::from_secs(10);
/// Answers of ours that may await their first packet: a handshake is tried by several ways at once.
const UNCONFIRMED_MAX: usize = 4;

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

#[cfg(test)]
mod tests {
    use weave_mesh::card::SignedCard;
    use zeroize::Zeroizing;

    use super::*;
    use crate::sleeve::packet::{Packet, decode};

    fn agreement(send: u8, receive: u8) -> Agreement {
        let card: SignedCard = postcard::from_bytes(&[&[0, 64][..], &[0; 64]].concat()).unwrap();
        let key = |byte| Zeroizing::new([byte; 32]);
        Agreement { cipher: Cipher::Aes256Gcm, send: key(send), receive: key(receive), card }
    }

    fn pair(now: Instant) -> (Session, Session) {
        let alice = Session::new(&agreement(1, 2), Role::Initiator, Index(10), Index(20), now);
        let bob = Session::new(&agreement(2, 1), Role::Responder, Index(20), Index(10), now);
        (alice, bob)
    }

    fn sealed(session: &mut Session, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0; OVERHEAD_BYTES + payload.len()];
        packet[DATA_HEADER_BYTES..][..payload.len()].copy_from_slice(payload);
        session.seal(Payload::Frame, &mut packet);
        packet
    }

    fn open(session: &mut Session, packet: &[u8], now: Instant) -> Result<(Vec<u8>, bool), Drop> {
        let Ok(Packet::Data(header)) = decode(packet) else { panic!("no data packet") };
        session.open(header, &mut packet.to_vec(), now).map(|opened| (opened.payload.to_vec(), opened.is_newest))
    }

    #[test]
    fn a_packet_opens_once_at_the_other_end() {
        let (mut alice, mut bob) = pair(Instant::ZERO);
        let packet = sealed(&mut alice, b"frame");

        assert_eq!(open(&mut bob, &packet, Instant::ZERO), Ok((b"frame".to_vec(), true)));
        assert_eq!(open(&mut bob, &packet, Instant::ZERO), Err(Drop::Replayed));
    }

    #[test]
    fn a_forged_packet_does_not_move_the_window() {
        let (mut alice, mut bob) = pair(Instant::ZERO);
        let genuine = sealed(&mut alice, b"frame");
        let mut forged = genuine.clone();
        forged[8..16].copy_from_slice(&(1u64 << 31).to_be_bytes());

        assert_eq!(open(&mut bob, &forged, Instant::ZERO), Err(Drop::ForgedPacket));
        assert!(open(&mut bob, &genuine, Instant::ZERO).is_ok());
    }

    #[test]
    fn an_overtaken_packet_opens_and_is_not_the_newest() {
        let (mut alice, mut bob) = pair(Instant::ZERO);
        let (first, second) = (sealed(&mut alice, b"1"), sealed(&mut alice, b"2"));

        assert!(open(&mut bob, &second, Instant::ZERO).unwrap().1);
        assert!(!open(&mut bob, &first, Instant::ZERO).unwrap().1);
    }

    #[test]
    fn a_session_is_refused_after_180_seconds_and_2_to_the_32_packets() {
        let (mut alice, mut bob) = pair(Instant::ZERO);
        let packet = sealed(&mut alice, b"late");
        let late = Instant::ZERO + REJECT_AFTER;

        assert!(!alice.can_seal(late));
        assert_eq!(open(&mut bob, &packet, late), Err(Drop::Exhausted));

        alice.next_counter = REJECT_AFTER_PACKETS - 1;
        assert!(alice.can_seal(Instant::ZERO));
        let last = sealed(&mut alice, b"last");
        assert!(!alice.can_seal(Instant::ZERO));
        assert!(open(&mut bob, &last, Instant::ZERO).is_ok());
        let past = sealed(&mut alice, b"past");
        assert_eq!(open(&mut bob, &past, Instant::ZERO), Err(Drop::Exhausted));
    }

    #[test]
    fn a_new_session_is_due_after_120_seconds_or_2_to_the_28_packets() {
        let (mut alice, bob) = pair(Instant::ZERO);

        assert_eq!(alice.rekey_at(REKEY_AFTER), Instant::ZERO + REKEY_AFTER);
        assert!(bob.rekey_at(REKEY_AFTER) > alice.rekey_at(REKEY_AFTER));
        alice.next_counter = REKEY_AFTER_PACKETS;
        assert_eq!(alice.rekey_at(REKEY_AFTER), Instant::ZERO);
    }

    fn numbered(local: u32, born: Instant) -> Session {
        Session::new(&agreement(1, 2), Role::Responder, Index(local), Index(0), born)
    }

    #[test]
    fn a_responder_seals_under_a_session_only_after_it_was_confirmed() {
        let mut sessions = Sessions::default();
        sessions.adopt(numbered(1, Instant::ZERO));

        sessions.offer(numbered(2, Instant::ZERO));
        sessions.offer(numbered(3, Instant::ZERO));
        assert_eq!(sessions.current().map(Session::local), Some(Index(1)));

        assert!(sessions.confirm(Index(2)));
        assert!(!sessions.confirm(Index(2)));
        assert_eq!(sessions.current().map(Session::local), Some(Index(2)));
        assert!(sessions.get_mut(Index(1)).is_some(), "the older generation still opens");
        assert_eq!(sessions.take_retired(), [Index(3)]);
    }

    #[test]
    fn generations_are_forgotten_in_time() {
        let mut sessions = Sessions::default();
        sessions.adopt(numbered(1, Instant::ZERO));
        sessions.adopt(numbered(2, Instant::ZERO + Duration::from_secs(100)));
        sessions.offer(numbered(3, Instant::ZERO + Duration::from_secs(100)));

        for (seconds, gone) in [(110, Index(3)), (180, Index(1)), (280, Index(2))] {
            let at = Instant::ZERO + Duration::from_secs(seconds);
            assert_eq!(sessions.expires_at(), Some(at));
            sessions.expire(at);
            assert_eq!(sessions.take_retired(), [gone]);
        }
        assert_eq!(sessions.expires_at(), None);
    }

    #[test]
    fn unconfirmed_sessions_are_few() {
        let mut sessions = Sessions::default();
        (0..10).for_each(|local| sessions.offer(numbered(local, Instant::ZERO)));

        assert_eq!(sessions.take_retired().len(), 10 - UNCONFIRMED_MAX);
        assert!(sessions.get_mut(Index(9)).is_some());
    }
}
