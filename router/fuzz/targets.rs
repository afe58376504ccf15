//! One function for each decoder of bytes from outside that this crate has for names. None may panic, whatever the bytes.
//!
//! The fuzzer runs them (`cargo +nightly fuzz run question`), and so does `tests/fuzz.rs` on the stable toolchain, over
//! the committed corpus, fresh samples and mutations of both.

use hickory_proto::op::{Message, MessageType};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use weave_mesh::dns::Names;
use weave_mesh::identity::PeerKey;
use weave_mesh::store::{Content, HostName, Record};
use weave_router::dns::wire::{self, Asked};
use weave_router::dns::{Responder, Transport, Verdict, resolv};

type Decoder = fn(&[u8]);

/// Every target with its name, which is also that of its corpus.
pub(crate) const TARGETS: [(&str, Decoder); 3] = [("question", question), ("upstream", upstream), ("resolv", servers)];

/// Runs one target.
pub(crate) fn run(name: &str, bytes: &[u8]) {
    let (_, target) = TARGETS.iter().find(|(target, _)| *target == name).expect("a target of the table");
    target(bytes);
}

/// What anybody who may ask sends us. What is answered is about the question and nothing else.
fn question(bytes: &[u8]) {
    thread_local! {
        static NAMES: Names = names();
    }
    let responder = Responder::new("weave.local", 1);
    for transport in [Transport::Udp, Transport::Tcp] {
        let (mut rng, mut reply) = (ChaCha8Rng::seed_from_u64(7), Vec::new());
        let verdict = NAMES.with(|names| responder.respond(names, bytes, transport, &mut rng, &mut reply));
        match verdict {
            Verdict::Answered => check_reply(bytes, &reply, transport),
            Verdict::Forward { limit } => assert!(reply.is_empty() && (512..=65_535).contains(&limit)),
            Verdict::Dropped => assert!(reply.is_empty()),
        }
    }
}

fn check_reply(query: &[u8], reply: &[u8], transport: Transport) {
    assert!(transport == Transport::Tcp || reply.len() <= 4_096);
    let reply = Message::from_vec(reply).expect("what we say decodes");
    assert_eq!(reply.metadata.message_type, MessageType::Response);
    assert_eq!(reply.metadata.id.to_be_bytes(), query[..2]);
    let Ok(query) = Message::from_vec(query) else {
        assert!(reply.queries.is_empty() && reply.answers.is_empty());
        return;
    };
    assert_eq!(reply.queries, query.queries);
    for record in &reply.answers {
        assert_eq!(record.name, reply.queries[0].name, "an answer for another name");
    }
}

fn names() -> Names {
    let mut names = Names::default();
    let addresses = (1..=60).map(|last| ("web.weave.local", [10, 32, 0, last].into()));
    for (name, address) in addresses.chain([("db.weave.local", "fd00::1".parse().expect("an address"))]) {
        let host_name = HostName { name: name.to_owned(), address, container: String::new() };
        names.add(PeerKey([1; 32]), &Record::new(Content::HostName(host_name.id(), host_name)));
    }
    names
}

/// What an upstream server replies.
fn upstream(bytes: &[u8]) {
    let Some(asked) = Asked::parse(bytes) else { return };
    let mut copy = bytes.to_vec();
    wire::set_id(&mut copy, 7);
    if let Some((places, lifetime)) = asked.lifetime() {
        wire::grow_older(&mut copy, &places, lifetime);
    }
    assert_eq!(copy.len(), bytes.len());
    for short in [asked.cut(), asked.failure()] {
        let short = Asked::parse(&short).expect("the question is whole");
        assert!(short.lifetime().is_none(), "a reply without an answer is kept");
    }
}

/// A resolv.conf.
fn servers(bytes: &[u8]) {
    let servers = resolv::servers(&String::from_utf8_lossy(bytes), |address| address.is_loopback());
    assert!(servers.len() <= resolv::SERVERS_MAX);
    assert!(servers.iter().all(|server| server.port() == 53 && !server.ip().is_loopback()));
}
