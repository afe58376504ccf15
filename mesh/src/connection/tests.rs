//! Whole connections between two machines, and every way in which one ends early.

use proptest::prelude::*;

use super::*;
use crate::identity::Scheme;
use crate::name::{MacAddr, PeerName};
use crate::store::{Tag, Version};
use crate::wire::{DecodeError, MESSAGE_BYTES_MAX, OFFERS_MAX, Offer};

const PASSWORD: Psk = [1; 32];
const OTHER: Psk = [2; 32];
const THIRD: Psk = [3; 32];

fn config(byte: u8, mesh: &str, psks: &[Psk]) -> Arc<Config> {
    let identity = Identity::from_secret_bytes(Scheme::Ed25519, &[byte; 64]);
    let name = PeerName::derived_from(&identity.key().0);
    let card = Card {
        mesh: MeshId::of(mesh),
        key: identity.key(),
        noise_key: identity.noise_key(),
        knock: identity.knock(),
        name,
        nickname: "n".repeat(20),
        bridge_mac: MacAddr::default(),
        port: 6783,
        addresses: Vec::new(),
        trusted_subnets: Vec::new(),
        instance_id: String::new(),
        machine: [0; 32],
        incarnation: 1,
    };
    let card = SignedCard::sign(&card, &identity).unwrap();
    Arc::new(Config { identity, card, mesh: MeshId::of(mesh), psks: psks.to_vec() })
}

/// Two ends of one stream.
struct Pair {
    dialler: Connection,
    listener: Connection,
}

impl Pair {
    fn new(dialler: Arc<Config>, listener: Arc<Config>) -> Self {
        Self {
            dialler: Connection::new(Role::Dialler, dialler, [8; 32], Instant::ZERO),
            listener: Connection::new(Role::Listener, listener, [9; 32], Instant::ZERO),
        }
    }

    fn of_passwords(dialler: &[Psk], listener: &[Psk]) -> Self {
        Self::new(config(1, "weave", dialler), config(2, "weave", listener))
    }

    /// Carries bytes both ways until nothing moves; why each end failed, if it did.
    fn settle(&mut self) -> (Option<Error>, Option<Error>) {
        let mut said = (None, None);
        loop {
            let (up, down) = (sent(&mut self.dialler), sent(&mut self.listener));
            if up.is_empty() && down.is_empty() {
                return said;
            }
            said.1 = self.listener.handle_bytes(&up).err();
            said.0 = self.dialler.handle_bytes(&down).err();
        }
    }
}

fn sent(connection: &mut Connection) -> Vec<u8> {
    std::iter::from_fn(|| connection.poll_transmit()).flatten().collect()
}

fn connected(connection: &mut Connection) -> Option<Box<Connected>> {
    match connection.poll_event() {
        Some(Event::Connected(connected)) => Some(connected),
        _ => None,
    }
}

/// A message of about 18 bytes for each offer.
fn offers(count: u64) -> Message {
    let version = Version { incarnation: 1_800_000_000_000_000, counter: count };
    Message::Offers(vec![Offer { owner: Tag([7; 8]), version }; count as usize])
}

/// The messages that arrived, encoded.
fn messages(connection: &mut Connection) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| connection.poll_event())
        .filter_map(|event| match event {
            Event::Message(message) => Some(message.encode()),
            Event::Connected(_) => None,
        })
        .collect()
}

#[test]
fn both_ends_learn_each_others_card_and_one_uid() {
    let mut pair = Pair::of_passwords(&[PASSWORD], &[PASSWORD]);

    assert_eq!(pair.settle(), (None, None));

    let (listener, dialler) = (connected(&mut pair.dialler).unwrap(), connected(&mut pair.listener).unwrap());
    assert_eq!(dialler.card.key, config(1, "weave", &[]).identity.key());
    assert_eq!(listener.card.key, config(2, "weave", &[]).identity.key());
    assert_eq!(dialler.uid, listener.uid);
    assert_eq!((pair.dialler.poll_timeout(), pair.listener.poll_timeout()), (None, None));
}

#[test]
fn messages_of_every_size_arrive_in_order_over_as_many_records_as_they_need() {
    let mut pair = Pair::of_passwords(&[PASSWORD], &[PASSWORD]);
    pair.settle();
    messages(&mut pair.listener);
    let sent: Vec<Message> = (0..OFFERS_MAX as u64).step_by(50).map(offers).collect();

    for message in &sent {
        pair.dialler.send(message).unwrap();
    }
    let bytes = pair.dialler.backlog_bytes();
    assert_eq!(pair.settle(), (None, None));

    assert!(bytes > 2 * RECORD_MAX_BYTES);
    let encoded: Vec<_> = sent.iter().map(Message::encode).collect();
    assert_eq!(messages(&mut pair.listener), encoded);
}

#[test]
fn small_messages_that_wait_share_a_record() {
    let mut pair = Pair::of_passwords(&[PASSWORD], &[PASSWORD]);
    pair.settle();
    messages(&mut pair.listener);
    for _ in 0..100 {
        pair.dialler.send(&Message::Probe).unwrap();
    }

    let record = pair.dialler.poll_transmit().unwrap();
    assert_eq!(pair.dialler.poll_transmit(), None);
    pair.listener.handle_bytes(&record).unwrap();

    assert_eq!(messages(&mut pair.listener).len(), 100);
}

#[test]
fn a_wrong_password_is_named_at_both_ends() {
    let mut pair = Pair::of_passwords(&[PASSWORD], &[OTHER, THIRD]);

    let said = pair.settle();

    assert_eq!(said, (Some(Error::Rejected), Some(Error::WrongPassword)));
    assert!(Error::Rejected.to_string().contains("wrong password"));
    assert!(connected(&mut pair.dialler).is_none() && connected(&mut pair.listener).is_none());
}

#[test]
fn the_listener_tries_all_its_passwords_on_the_diallers_first() {
    for listener in [&[PASSWORD, OTHER, THIRD], &[OTHER, PASSWORD, THIRD], &[OTHER, THIRD, PASSWORD]] {
        let mut pair = Pair::of_passwords(&[PASSWORD, OTHER], listener);
        assert_eq!(pair.settle(), (None, None));

        pair.dialler.send(&offers(1)).unwrap();
        pair.listener.send(&offers(2)).unwrap();
        pair.settle();

        assert_eq!(messages(&mut pair.listener), [offers(1).encode()]);
        assert_eq!(messages(&mut pair.dialler), [offers(2).encode()]);
    }
}

#[test]
fn another_mesh_is_named_at_both_ends() {
    let mut pair = Pair::new(config(1, "blue", &[PASSWORD]), config(2, "green", &[PASSWORD]));

    let (dialler, listener) = pair.settle();

    let (blue, green) = (MeshId::of("blue"), MeshId::of("green"));
    assert_eq!(dialler, Some(Error::OtherMesh { ours: blue, theirs: green }));
    assert_eq!(listener, Some(Error::OtherMesh { ours: green, theirs: blue }));
}

#[test]
fn a_card_of_another_identity_is_refused() {
    let thief = Arc::new(Config {
        identity: Identity::from_secret_bytes(Scheme::Ed25519, &[5; 64]),
        card: config(1, "weave", &[PASSWORD]).card.clone(),
        mesh: MeshId::of("weave"),
        psks: vec![PASSWORD],
    });
    let honest = config(2, "weave", &[PASSWORD]);

    assert_eq!(Pair::new(thief.clone(), honest.clone()).settle().1, Some(Error::OtherKey));
    assert_eq!(Pair::new(honest, thief).settle().0, Some(Error::OtherKey));
}

#[test]
fn the_dialler_sends_nothing_before_the_listener_has_proved_itself() {
    let mut pair = Pair::of_passwords(&[PASSWORD], &[PASSWORD]);

    assert_eq!(pair.dialler.send(&Message::Probe), Err(Error::NotOpen));
}

#[test]
fn weave_net_itself_is_told_apart() {
    let mut dialler = Connection::new(Role::Dialler, config(1, "weave", &[PASSWORD]), [8; 32], Instant::ZERO);

    let error = dialler.handle_bytes(b"weave\x01\x02").unwrap_err();

    assert_eq!(error, Error::Version { ours: Versions { min: 3, max: 3 }, theirs: Versions { min: 1, max: 2 } });
}

#[test]
fn an_altered_version_byte_breaks_the_handshake() {
    let mut pair = Pair::of_passwords(&[PASSWORD], &[PASSWORD]);
    let (mut up, down) = (sent(&mut pair.dialler), sent(&mut pair.listener));
    *up.last_mut().unwrap() = 4;

    pair.listener.handle_bytes(&up).unwrap();
    pair.dialler.handle_bytes(&down).unwrap();

    assert_eq!(pair.settle(), (None, Some(Error::Handshake)));
}

#[test]
fn a_silent_end_is_given_up_after_ten_seconds() {
    let mut listener = Connection::new(Role::Listener, config(1, "weave", &[PASSWORD]), [8; 32], Instant::ZERO);
    let deadline = listener.poll_timeout().unwrap();

    assert_eq!(deadline, Instant::ZERO + Duration::from_secs(10));
    assert_eq!(listener.handle_timeout(Instant::from_micros(9_999_999)), Ok(()));
    assert_eq!(listener.handle_timeout(deadline), Err(Error::Deadline(HANDSHAKE_TIMEOUT)));
    assert_eq!(listener.handle_bytes(b"weave"), Err(Error::Deadline(HANDSHAKE_TIMEOUT)));
}

#[test]
fn a_long_message_before_authentication_is_refused_by_its_length() {
    let mut listener = Connection::new(Role::Listener, config(1, "weave", &[PASSWORD]), [8; 32], Instant::ZERO);

    let error = listener.handle_bytes(b"weave\x03\x03\x02\x01").unwrap_err();

    assert_eq!(error, Error::TooLong { bytes: 513, limit: 512 });
}

#[test]
fn the_longest_card_fits_the_handshake() {
    let identity = Identity::from_secret_bytes(Scheme::Ed25519, &[1; 64]);
    let mut card = config(1, "weave", &[]).card.verify(Scheme::Ed25519).unwrap();
    let (mut encoded, mut signed) = (0, None);
    card.addresses = vec!["[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap(); 4];
    card.incarnation = u64::MAX;
    card.instance_id = "i".repeat(32);
    while let Ok(longer) = SignedCard::sign(&card, &identity) {
        encoded = postcard::to_stdvec(&longer).unwrap().len();
        signed = Some(longer);
        card.nickname.push('n');
    }
    let dialler = Config { card: signed.unwrap(), ..(*config(1, "weave", &[PASSWORD])).clone() };

    let mut pair = Pair::new(Arc::new(dialler), config(2, "weave", &[PASSWORD]));

    assert!(encoded > 300);
    assert_eq!(pair.settle(), (None, None));
}

#[test]
fn a_reader_that_stops_is_given_up_when_the_queue_is_full() {
    let mut pair = Pair::of_passwords(&[PASSWORD], &[PASSWORD]);
    pair.settle();
    let message = offers(OFFERS_MAX as u64);

    let error = std::iter::repeat_with(|| pair.dialler.send(&message)).find_map(Result::err).unwrap();

    assert!(matches!(error, Error::Backlog { limit: SEND_QUEUE_MAX_BYTES, .. }));
    assert_eq!(pair.dialler.send(&Message::Probe), Err(error));
}

#[test]
fn a_repeated_record_is_refused() {
    let mut pair = Pair::of_passwords(&[PASSWORD], &[PASSWORD]);
    pair.settle();
    pair.dialler.send(&Message::Probe).unwrap();
    let record = pair.dialler.poll_transmit().unwrap();

    assert_eq!(pair.listener.handle_bytes(&record), Ok(()));
    assert_eq!(pair.listener.handle_bytes(&record), Err(Error::Seal));
}

#[test]
fn a_sealed_message_that_does_not_decode_ends_the_connection() {
    let mut pair = Pair::of_passwords(&[PASSWORD], &[PASSWORD]);
    pair.settle();
    let State::Open(session) = &mut pair.dialler.state else { panic!("open") };
    let record = session.seal_raw(&[0, 1, 0xff]);

    assert_eq!(pair.listener.handle_bytes(&record), Err(Error::Message(DecodeError::Malformed)));
}

#[test]
fn an_announced_length_over_the_limit_is_refused_before_it_is_buffered() {
    let mut pair = Pair::of_passwords(&[PASSWORD], &[PASSWORD]);
    pair.settle();
    let State::Open(session) = &mut pair.dialler.state else { panic!("open") };
    let record = session.seal_raw(&u16::MAX.to_be_bytes());

    let error = pair.listener.handle_bytes(&record).unwrap_err();

    assert_eq!(error, Error::TooLong { bytes: 65_535, limit: MESSAGE_BYTES_MAX });
}

/// In which exchange of bytes both ends are open: after two headers, three messages and the listener's card.
const OPEN_ROUND: usize = 5;
const ROUNDS: usize = 7;

/// The bytes of a whole conversation: of the dialler, of the listener.
fn conversation() -> (Vec<Vec<u8>>, Vec<Vec<u8>>) {
    let mut pair = Pair::of_passwords(&[PASSWORD], &[OTHER, PASSWORD]);
    let (mut up, mut down) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        if round == OPEN_ROUND {
            pair.dialler.send(&offers(7)).unwrap();
            pair.listener.send(&offers(8)).unwrap();
        }
        let (upward, downward) = (sent(&mut pair.dialler), sent(&mut pair.listener));
        pair.listener.handle_bytes(&upward).unwrap();
        pair.dialler.handle_bytes(&downward).unwrap();
        up.push(upward);
        down.push(downward);
    }
    (up, down)
}

#[test]
fn the_same_seeds_give_the_same_bytes() {
    assert_eq!(conversation(), conversation());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_give_an_error_or_nothing(bytes in prop::collection::vec(any::<u8>(), 0..2_000), header in any::<bool>()) {
        for role in [Role::Dialler, Role::Listener] {
            let mut connection = Connection::new(role, config(1, "weave", &[PASSWORD]), [8; 32], Instant::ZERO);
            if header {
                connection.handle_bytes(b"weave\x03\x03").unwrap();
            }
            let _ = connection.handle_bytes(&bytes);
            prop_assert!(connection.poll_event().is_none());
        }
    }

    #[test]
    fn an_altered_conversation_never_delivers_what_was_not_sent(at in 0_usize..1_700, bit in 0_u8..8, cut in any::<bool>()) {
        let mut pair = Pair::of_passwords(&[PASSWORD], &[OTHER, PASSWORD]);
        let mut position = 0;
        for round in 0..ROUNDS {
            if round == OPEN_ROUND && let (State::Open(_), State::Open(_)) = (&pair.dialler.state, &pair.listener.state) {
                pair.dialler.send(&offers(7)).unwrap();
                pair.listener.send(&offers(8)).unwrap();
            }
            let (mut up, mut down) = (sent(&mut pair.dialler), sent(&mut pair.listener));
            for bytes in [&mut up, &mut down] {
                if let Some(index) = at.checked_sub(position).filter(|index| *index < bytes.len()) {
                    if cut { bytes.truncate(index) } else { bytes[index] ^= 1 << bit }
                }
                position += bytes.len();
            }
            let _ = (pair.listener.handle_bytes(&up), pair.dialler.handle_bytes(&down));
        }
        for message in messages(&mut pair.listener) {
            prop_assert_eq!(message, offers(7).encode());
        }
        for message in messages(&mut pair.dialler) {
            prop_assert_eq!(message, offers(8).encode());
        }
    }

    #[test]
    fn it_does_not_matter_how_the_stream_is_cut(sizes in prop::collection::vec(1_usize..97, 1..20)) {
        let mut pair = Pair::of_passwords(&[PASSWORD], &[OTHER, PASSWORD]);
        let mut sizes = sizes.into_iter().cycle();
        for round in 0..ROUNDS {
            if round == OPEN_ROUND {
                pair.dialler.send(&offers(7)).unwrap();
            }
            let (up, down) = (sent(&mut pair.dialler), sent(&mut pair.listener));
            for (bytes, end) in [(up, &mut pair.listener), (down, &mut pair.dialler)] {
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (now, later) = rest.split_at(sizes.next().unwrap().min(rest.len()));
                    end.handle_bytes(now).unwrap();
                    rest = later;
                }
            }
        }
        prop_assert_eq!(messages(&mut pair.listener), vec![offers(7).encode()]);
    }
}
