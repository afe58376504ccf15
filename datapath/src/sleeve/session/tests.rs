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

    assert_eq!(sessions.take_retired().len(), 10 - generations::UNCONFIRMED_MAX);
    assert!(sessions.get_mut(Index(9)).is_some());
}
