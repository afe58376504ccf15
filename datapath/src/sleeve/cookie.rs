//! Keeps handshakes from costing more than they should: who cannot receive what we send gets no computation of ours.
//!
//! ```text
//!   mac1 = MAC(hash(responder's static key and knock), message)  says: the sender has the responder's card: a member
//!   mac2 = MAC(cookie, message and mac1)                         says: the sender receives at the address it sends from
//!
//!   initiation ─► mac1 right? ─► few handshakes lately? ──────────────────────────► admit
//!                    │ no: drop      │ no ─► mac2 right? ─► source's rate kept? ──► admit
//!                                              │ no ─► few replies lately? ─► send a cookie, remember nothing
//! ```
//!
//! Replies have a budget, and there is another one for addresses at which a peer is known to be: a reply to an address
//! that nobody has waits in the kernel for three seconds, in the buffer that sessions send from, and takes one of about
//! a thousand places in its table of neighbours.
//!
//! Invariants:
//! - a message that is not admitted leaves no memory: sources share a fixed table of buckets;
//! - whatever addresses a flood names, its replies take a small part of the socket's buffer;
//! - a cookie is a function of a secret that changes every two minutes and of the address, port and envelope source
//!   that the message came from; it is sealed so that only whoever sent the message can use it.

use std::net::SocketAddr;
use std::time::Duration;

use blake2::Blake2sMac;
use blake2::digest::consts::{U16, U32};
use blake2::digest::{FixedOutput, KeyInit, Update};
use rand_core::RngCore;
use subtle::ConstantTimeEq;
use weave_mesh::identity::{Knock, NoiseKey, digest};
use weave_mesh::time::Instant;

use crate::sleeve::packet::{COOKIE_NONCE_BYTES, COOKIE_REPLY_BYTES, Index, MAC_BYTES, Macs, encode_cookie};
use crate::sleeve::rate::Bucket;
use crate::sleeve::relay::RelayId;
use crate::sleeve::seal::{Cipher, OpeningKey, SealingKey};

/// Proof of receiving at an address.
pub type Cookie = [u8; MAC_BYTES];

/// How long a cookie is good for at its receiver; its maker accepts it for up to twice this.
pub const COOKIE_LIFETIME: Duration = Duration::from_secs(120);
/// Handshakes a second that are computed without a cookie. Each takes a quarter of a millisecond: 5 % of a core.
const FREE_PER_SECOND: u32 = 200;
/// Handshakes a second that one address may cause by cookie.
const SOURCE_PER_SECOND: u32 = 20;
/// Buckets that sources are spread over by a keyed hash.
const SOURCE_BUCKETS: usize = 1_024;
/// Cookies a second for addresses at which no peer is known to be: in the three seconds in which the kernel looks for
/// them they take 150 of its 1,024 neighbours, and a hundredth of the socket's buffer.
const STRANGERS_PER_SECOND: u32 = 50;
/// Cookies a second for addresses of peers, who may all be away: a sixth of the socket's buffer.
const PEERS_PER_SECOND: u32 = 1_000;
/// Of these, so many for one address, so that a flood in one peer's name does not keep the others out.
const PEER_PER_SECOND: u32 = 100;

/// Where a handshake message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    pub address: SocketAddr,
    /// Who sent it, if a relay at `address` passed it on.
    pub relayed_for: Option<RelayId>,
}

/// Whether a peer is known to be where a handshake message came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbourhood {
    /// Its address is one of a peer's, whatever the port, or it came in an envelope.
    Peer,
    Stranger,
}

/// The two keys that the responder's card gives to everybody who has it.
#[derive(Clone, Debug)]
pub struct ResponderKeys {
    mac1: [u8; 32],
    cookie: [u8; 32],
}

impl ResponderKeys {
    pub fn of(responder: &NoiseKey, knock: &Knock) -> Self {
        Self {
            mac1: digest("weave-rs sleeve mac1", &[responder, &knock.0]),
            cookie: digest("weave-rs sleeve cookie", &[responder, &knock.0]),
        }
    }

    /// Ends a handshake message with its two authenticators; returns the first, which a cookie reply is bound to.
    pub fn append_macs(&self, message: &mut Vec<u8>, cookie: Option<&Cookie>) -> [u8; MAC_BYTES] {
        let mac1 = mac(&self.mac1, &[message]);
        message.extend_from_slice(&mac1);
        let mac2 = cookie.map_or([0; MAC_BYTES], |cookie| mac(cookie, &[message]));
        message.extend_from_slice(&mac2);
        mac1
    }

    pub fn is_mac1_right(&self, macs: &Macs<'_>) -> bool {
        mac(&self.mac1, &[macs.before_mac1]).ct_eq(macs.mac1).into()
    }

    /// The cookie in a reply to the message that ended with `mac1`, if the reply is genuine.
    pub fn open_cookie(
        &self,
        mac1: &[u8; MAC_BYTES],
        nonce: &[u8; COOKIE_NONCE_BYTES],
        sealed: &[u8; 32],
    ) -> Option<Cookie> {
        let mut sealed = *sealed;
        let key = OpeningKey::new(Cipher::ChaCha20Poly1305, &self.reply_key(nonce));
        let cookie = key.open(0, mac1, &mut sealed).ok()?;
        (&*cookie).try_into().ok()
    }

    fn seal_cookie(
        &self,
        receiver: Index,
        mac1: &[u8; MAC_BYTES],
        mut cookie: Cookie,
        rng: &mut impl RngCore,
    ) -> Reply {
        let mut nonce = [0; COOKIE_NONCE_BYTES];
        rng.fill_bytes(&mut nonce);
        let key = SealingKey::new(Cipher::ChaCha20Poly1305, &self.reply_key(&nonce));
        let tag = key.seal(0, mac1, &mut cookie);
        let mut sealed = [0; 32];
        sealed[..16].copy_from_slice(&cookie);
        sealed[16..].copy_from_slice(&tag);
        encode_cookie(receiver, &nonce, &sealed)
    }

    /// A key for one reply: the nonce never repeats, so neither does the key.
    fn reply_key(&self, nonce: &[u8; COOKIE_NONCE_BYTES]) -> [u8; 32] {
        let mut hasher = Blake2sMac::<U32>::new_from_slice(&self.cookie).expect("32 bytes are a BLAKE2s key");
        Update::update(&mut hasher, nonce);
        hasher.finalize_fixed().into()
    }
}

/// A cookie reply, ready to be sent.
pub type Reply = [u8; COOKIE_REPLY_BYTES];

/// What becomes of an initiation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Admit,
    /// Too many arrive: send this instead.
    Challenge(Reply),
    /// `mac1` is wrong.
    Forged,
    /// The source had a cookie and uses it too often, or too many ask for one.
    TooMany,
}

/// The responder's door.
#[derive(Debug)]
pub struct Gate {
    keys: ResponderKeys,
    secret: [u8; 32],
    previous_secret: [u8; 32],
    renew_at: Instant,
    free: Bucket,
    sources: Vec<Bucket>,
    replies: Replies,
}

/// Which of those who ask for a cookie get one.
#[derive(Debug)]
struct Replies {
    strangers: Bucket,
    peers: Bucket,
    by_peer: Vec<Bucket>,
}

impl Replies {
    fn full(now: Instant) -> Self {
        Self {
            strangers: Bucket::full(STRANGERS_PER_SECOND, now),
            peers: Bucket::full(PEERS_PER_SECOND, now),
            by_peer: vec![Bucket::full(PEER_PER_SECOND, now); SOURCE_BUCKETS],
        }
    }

    fn take(&mut self, neighbourhood: Neighbourhood, bucket: usize, now: Instant) -> bool {
        match neighbourhood {
            Neighbourhood::Stranger => self.strangers.take(1, STRANGERS_PER_SECOND, now),
            Neighbourhood::Peer => {
                self.by_peer[bucket].take(1, PEER_PER_SECOND, now) && self.peers.take(1, PEERS_PER_SECOND, now)
            }
        }
    }
}

impl Gate {
    /// For the owner of `keys`.
    pub fn new(keys: ResponderKeys, rng: &mut impl RngCore, now: Instant) -> Self {
        let mut gate = Self {
            keys,
            secret: [0; 32],
            previous_secret: [0; 32],
            renew_at: now,
            free: Bucket::full(FREE_PER_SECOND, now),
            sources: vec![Bucket::full(SOURCE_PER_SECOND, now); SOURCE_BUCKETS],
            replies: Replies::full(now),
        };
        rng.fill_bytes(&mut gate.secret);
        rng.fill_bytes(&mut gate.previous_secret);
        gate.renew_at += COOKIE_LIFETIME;
        gate
    }

    pub fn keys(&self) -> &ResponderKeys {
        &self.keys
    }

    /// Decides about an initiation before anything expensive is done for it.
    pub fn check(
        &mut self,
        sender: Index,
        macs: &Macs<'_>,
        source: &Source,
        neighbourhood: impl FnOnce() -> Neighbourhood,
        rng: &mut impl RngCore,
        now: Instant,
    ) -> Verdict {
        if !self.keys.is_mac1_right(macs) {
            return Verdict::Forged;
        }
        if self.free.take(1, FREE_PER_SECOND, now) {
            return Verdict::Admit;
        }
        self.renew_secret(rng, now);
        let bucket = self.bucket_of(source);
        if self.has_cookie(macs, source) {
            let admitted = self.sources[bucket].take(1, SOURCE_PER_SECOND, now);
            return if admitted { Verdict::Admit } else { Verdict::TooMany };
        }
        if !self.replies.take(neighbourhood(), bucket, now) {
            return Verdict::TooMany;
        }
        Verdict::Challenge(self.keys.seal_cookie(sender, macs.mac1, cookie_for(&self.secret, source), rng))
    }

    fn has_cookie(&self, macs: &Macs<'_>, source: &Source) -> bool {
        let is_right = |secret| bool::from(mac(&cookie_for(secret, source), &[macs.before_mac2]).ct_eq(macs.mac2));
        // Whoever has none says so.
        *macs.mac2 != [0; MAC_BYTES] && (is_right(&self.secret) || is_right(&self.previous_secret))
    }

    fn renew_secret(&mut self, rng: &mut impl RngCore, now: Instant) {
        if now < self.renew_at {
            return;
        }
        self.previous_secret = self.secret;
        rng.fill_bytes(&mut self.secret);
        self.renew_at = now + COOKIE_LIFETIME;
    }

    fn bucket_of(&self, source: &Source) -> usize {
        let hash = mac(&self.secret, &[b"bucket", &address_octets(source.address)]);
        usize::from(u16::from_be_bytes([hash[0], hash[1]])) % SOURCE_BUCKETS
    }
}

fn cookie_for(secret: &[u8; 32], source: &Source) -> Cookie {
    let relayed_for = source.relayed_for.map_or([0; 8], |id| {
        let mut octets = [1; 8];
        octets[1..].copy_from_slice(&id.0);
        octets
    });
    mac(secret, &[&address_octets(source.address), &source.address.port().to_be_bytes(), &relayed_for])
}

fn address_octets(address: SocketAddr) -> [u8; 16] {
    match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    }
}

/// BLAKE2s-128 under `key`.
pub(crate) fn mac(key: &[u8], parts: &[&[u8]]) -> [u8; MAC_BYTES] {
    let mut hasher = Blake2sMac::<U16>::new_from_slice(key).expect("at most 32 bytes are a BLAKE2s key");
    parts.iter().for_each(|part| Update::update(&mut hasher, part));
    hasher.finalize_fixed().into()
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;
    use crate::sleeve::packet::{Packet, decode, encode_initiation};

    fn own() -> ResponderKeys {
        ResponderKeys::of(&[7; 32], &Knock([7; 16]))
    }

    struct Bench {
        gate: Gate,
        rng: ChaCha20Rng,
        now: Instant,
    }

    impl Bench {
        fn new() -> Self {
            let mut rng = ChaCha20Rng::seed_from_u64(1);
            Self { gate: Gate::new(own(), &mut rng, Instant::ZERO), rng, now: Instant::ZERO }
        }

        fn check(&mut self, message: &[u8], source: &Source) -> Verdict {
            self.check_from(Neighbourhood::Peer, message, source)
        }

        fn check_from(&mut self, from: Neighbourhood, message: &[u8], source: &Source) -> Verdict {
            let Ok(Packet::Initiation { sender, macs, .. }) = decode(message) else { panic!("no initiation") };
            self.gate.check(sender, &macs, source, || from, &mut self.rng, self.now)
        }

        /// How many of `asking` messages from as many addresses get a cookie.
        fn replies(&mut self, from: Neighbourhood, asking: u32) -> u32 {
            let message = initiation(None).0;
            let at = |number: u32| Source { address: (number.to_be_bytes(), 1).into(), relayed_for: None };
            let replied = (0..asking)
                .filter(|number| matches!(self.check_from(from, &message, &at(*number)), Verdict::Challenge(_)));
            replied.count() as u32
        }

        fn exhaust(&mut self) {
            let message = initiation(None).0;
            while self.check(&message, &source(9_999)) == Verdict::Admit {}
        }

        fn cookie(&mut self, from: &Source) -> Cookie {
            let (message, mac1) = initiation(None);
            let Verdict::Challenge(reply) = self.check(&message, from) else { panic!("no challenge") };
            let Ok(Packet::Cookie { nonce, sealed, .. }) = decode(&reply) else { panic!("no cookie") };
            own().open_cookie(&mac1, nonce, sealed).expect("genuine")
        }
    }

    fn source(port: u16) -> Source {
        Source { address: SocketAddr::from(([192, 0, 2, 1], port)), relayed_for: None }
    }

    fn initiation(cookie: Option<&Cookie>) -> (Vec<u8>, [u8; MAC_BYTES]) {
        let mut message = encode_initiation(Index(1), &[5; 100]);
        let mac1 = own().append_macs(&mut message, cookie);
        (message, mac1)
    }

    #[test]
    fn a_message_for_somebody_else_is_forged() {
        let mut message = encode_initiation(Index(1), &[5; 100]);
        ResponderKeys::of(&[8; 32], &Knock([7; 16])).append_macs(&mut message, None);

        assert_eq!(Bench::new().check(&message, &source(1)), Verdict::Forged);
    }

    #[test]
    fn whoever_knows_the_static_key_alone_is_a_stranger() {
        let mut message = encode_initiation(Index(1), &[5; 100]);
        ResponderKeys::of(&[7; 32], &Knock([0; 16])).append_macs(&mut message, None);

        assert_eq!(Bench::new().check(&message, &source(1)), Verdict::Forged);
    }

    #[test]
    fn strangers_get_few_cookies_and_leave_those_of_peers_alone() {
        let mut bench = Bench::new();
        bench.exhaust();

        assert_eq!(bench.replies(Neighbourhood::Stranger, 50_000), STRANGERS_PER_SECOND);
        assert_eq!(bench.replies(Neighbourhood::Peer, 500), 500);
        bench.now += Duration::from_secs(1);
        bench.exhaust();
        assert_eq!(bench.replies(Neighbourhood::Stranger, 50_000), STRANGERS_PER_SECOND);
    }

    #[test]
    fn a_flood_in_one_peers_name_leaves_cookies_for_the_others() {
        let mut bench = Bench::new();
        bench.exhaust();
        let message = initiation(None).0;

        let replied =
            (0..50_000).filter(|_| matches!(bench.check(&message, &source(1)), Verdict::Challenge(_))).count();

        assert!(replied <= PEER_PER_SECOND as usize);
        assert!(bench.replies(Neighbourhood::Peer, 500) > 450, "but for those that share its bucket");
    }

    #[test]
    fn under_load_only_a_cookie_admits() {
        let mut bench = Bench::new();
        bench.exhaust();

        let cookie = bench.cookie(&source(1));

        assert_eq!(bench.check(&initiation(Some(&cookie)).0, &source(1)), Verdict::Admit);
    }

    #[test]
    fn a_cookie_is_bound_to_address_port_and_envelope_source() {
        let mut bench = Bench::new();
        bench.exhaust();
        let cookie = bench.cookie(&source(1));

        let other_port = source(2);
        let other_address = Source { address: SocketAddr::from(([192, 0, 2, 2], 1)), relayed_for: None };
        let relayed = Source { relayed_for: Some(RelayId([0; 7])), ..source(1) };

        for from in [other_port, other_address, relayed] {
            let verdict = bench.check(&initiation(Some(&cookie)).0, &from);
            assert!(matches!(verdict, Verdict::Challenge(_)), "{verdict:?}");
        }
    }

    #[test]
    fn a_cookie_outlives_one_change_of_the_secret_and_not_two() {
        let mut bench = Bench::new();
        bench.exhaust();
        let cookie = bench.cookie(&source(1));

        bench.now += COOKIE_LIFETIME;
        bench.exhaust();
        assert_eq!(bench.check(&initiation(Some(&cookie)).0, &source(1)), Verdict::Admit);

        bench.now += COOKIE_LIFETIME;
        bench.exhaust();
        assert!(matches!(bench.check(&initiation(Some(&cookie)).0, &source(1)), Verdict::Challenge(_)));
    }

    #[test]
    fn a_source_with_a_cookie_keeps_a_rate() {
        let mut bench = Bench::new();
        bench.exhaust();
        let cookie = bench.cookie(&source(1));
        let message = initiation(Some(&cookie)).0;

        let admitted = (0..100).filter(|_| bench.check(&message, &source(1)) == Verdict::Admit).count();

        assert_eq!(admitted, SOURCE_PER_SECOND as usize);
        assert_eq!(bench.check(&message, &source(1)), Verdict::TooMany);
    }

    #[test]
    fn a_cookie_opens_only_for_the_message_that_asked() {
        let keys = own();
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let reply = keys.seal_cookie(Index(1), &[1; 16], [9; 16], &mut rng);
        let Ok(Packet::Cookie { nonce, sealed, .. }) = decode(&reply) else { panic!("no cookie") };

        assert_eq!(keys.open_cookie(&[1; 16], nonce, sealed), Some([9; 16]));
        assert_eq!(keys.open_cookie(&[2; 16], nonce, sealed), None);
    }
}
