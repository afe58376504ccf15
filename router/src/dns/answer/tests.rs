//! Questions and what is answered.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use weave_mesh::identity::PeerKey;
use weave_mesh::store::{Content, HostName};

use super::*;

fn names(pairs: impl IntoIterator<Item = (String, IpAddr)>) -> Names {
    let mut names = Names::default();
    for (name, address) in pairs {
        let host_name = HostName { name, address, container: "c".to_owned() };
        let record = weave_mesh::store::Record::new(Content::HostName(host_name.id(), host_name));
        names.add(PeerKey([1; 32]), &record);
    }
    names
}

fn few() -> Names {
    let pairs = [
        ("web.weave.local", "10.32.0.1"),
        ("Web.weave.local.", "10.32.0.2"),
        ("db.weave.local", "10.32.0.1"),
        ("db.weave.local", "fd00::1"),
        ("foo.sub.weave.local", "10.32.0.3"),
        ("foo.example.com", "10.32.0.4"),
    ];
    names(pairs.map(|(name, address)| (name.to_owned(), address.parse().unwrap())))
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(7, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
    message
}

fn respond(names: &Names, query: &[u8], transport: Transport) -> Result<Message, Verdict> {
    let (mut rng, mut reply) = (ChaCha8Rng::seed_from_u64(7), Vec::new());
    let responder = Responder::new("weave.local", 1);
    match responder.respond(names, query, transport, &mut rng, &mut reply) {
        Verdict::Answered => Ok(Message::from_vec(&reply).unwrap()),
        other => Err(other),
    }
}

fn ask(name: &str, kind: RecordType) -> Result<Message, Verdict> {
    respond(&few(), &query(name, kind).to_vec().unwrap(), Transport::Udp)
}

fn answers(message: &Message) -> BTreeSet<String> {
    message.answers.iter().map(|record| record.data.to_string()).collect()
}

fn code(message: &Message) -> ResponseCode {
    message.metadata.response_code
}

#[test]
fn a_name_has_all_its_addresses_whatever_its_case() {
    let message = ask("wEb.WEAVE.local.", RecordType::A).unwrap();

    assert_eq!(answers(&message), ["10.32.0.1", "10.32.0.2"].map(str::to_owned).into());
    assert!(message.metadata.authoritative && message.metadata.recursion_available);
    assert!(message.metadata.recursion_desired && !message.metadata.truncation);
    assert_eq!(message.queries[0].name().to_ascii(), "wEb.WEAVE.local.");
    assert!(message.answers.iter().all(|record| record.name.to_ascii() == "wEb.WEAVE.local." && record.ttl == 1));
    assert!(message.edns.is_none());
}

#[test]
fn one_label_and_sub_domains_are_names_of_the_domain() {
    let short = ask("WEB.", RecordType::A).unwrap();
    assert_eq!((answers(&short).len(), short.answers[0].name.to_ascii()), (2, "WEB.".to_owned()));
    assert_eq!(answers(&ask("foo.sub.weave.local.", RecordType::A).unwrap()).len(), 1);
    assert_eq!(code(&ask("nobody.", RecordType::A).unwrap()), ResponseCode::NXDomain);
}

#[test]
fn other_types_of_a_known_name_are_empty_and_unknown_names_do_not_exist() {
    for (name, kind, expected) in [
        ("web.weave.local.", RecordType::AAAA, ResponseCode::NoError),
        ("web.weave.local.", RecordType::MX, ResponseCode::NoError),
        ("sub.weave.local.", RecordType::A, ResponseCode::NoError),
        ("weave.local.", RecordType::A, ResponseCode::NoError),
        ("nobody.weave.local.", RecordType::A, ResponseCode::NXDomain),
    ] {
        let message = ask(name, kind).unwrap();
        assert_eq!((code(&message), message.answers.len()), (expected, 0), "{name} {kind}");
        let [soa] = message.authorities.as_slice() else { panic!("{name}: no SOA") };
        assert_eq!((soa.name.to_ascii(), soa.ttl), ("weave.local.".to_owned(), 1), "{name}");
        let RData::SOA(soa) = &soa.data else { panic!("{name}: no SOA") };
        assert_eq!((soa.minimum, soa.serial), (1, few().serial()), "{name}");
    }
    assert_eq!(answers(&ask("db.weave.local.", RecordType::AAAA).unwrap()), ["fd00::1".to_owned()].into());
    assert_eq!(ask("weave.local.", RecordType::SOA).unwrap().answers.len(), 1);
}

#[test]
fn an_address_leads_back_to_its_names_and_an_unknown_one_to_others() {
    let known = ask("1.0.32.10.in-addr.arpa.", RecordType::PTR).unwrap();
    assert_eq!(answers(&known), ["db.weave.local.", "web.weave.local."].map(str::to_owned).into());
    let v6 = format!("1.{}0.0.d.f.ip6.arpa.", "0.".repeat(27));
    assert_eq!(answers(&ask(&v6, RecordType::PTR).unwrap()), ["db.weave.local.".to_owned()].into());
    let other = ask("1.0.32.10.in-addr.arpa.", RecordType::A).unwrap();
    assert_eq!((code(&other), other.answers.len(), other.authorities.len()), (ResponseCode::NoError, 0, 1));

    for name in ["9.0.32.10.in-addr.arpa.", "32.10.in-addr.arpa.", "4.0.32.10.in-addr.arpa.", "x.ip6.arpa."] {
        assert_eq!(ask(name, RecordType::PTR).unwrap_err(), Verdict::Forward { limit: 512 }, "{name}");
    }
}

#[test]
fn names_of_other_domains_are_for_others_to_answer() {
    for name in ["example.com.", "foo.example.com.", "xweave.local.", "weave.local.example.com.", "."] {
        assert_eq!(ask(name, RecordType::A).unwrap_err(), Verdict::Forward { limit: 512 }, "{name}");
    }
}

#[test]
fn what_is_no_plain_question_is_refused_and_a_reply_is_not_answered() {
    let changed = |change: &dyn Fn(&mut Message)| {
        let mut message = query("web.weave.local.", RecordType::A);
        change(&mut message);
        respond(&few(), &message.to_vec().unwrap(), Transport::Udp).map(|reply| code(&reply))
    };

    assert_eq!(changed(&|message| message.metadata.message_type = MessageType::Response), Err(Verdict::Dropped));
    assert_eq!(changed(&|message| message.metadata.op_code = OpCode::Notify), Ok(ResponseCode::NotImp));
    assert_eq!(changed(&|message| message.queries.clear()), Ok(ResponseCode::FormErr));
    assert_eq!(changed(&|message| message.queries.push(message.queries[0].clone())), Ok(ResponseCode::FormErr));
    let chaos = |message: &mut Message| message.queries[0].query_class = DNSClass::CH;
    assert_eq!(changed(&chaos), Ok(ResponseCode::Refused));
    let future = |message: &mut Message| message.edns = Some(Edns::new().set_version(1).clone());
    // BADVERS and BADSIG share their number, 16 (RFC 6895 2.3).
    assert_eq!(changed(&future).map(u16::from), Ok(u16::from(ResponseCode::BADVERS)));
    let cut = &query("web.weave.local.", RecordType::A).to_vec().unwrap()[..20];
    assert_eq!(code(&respond(&few(), cut, Transport::Udp).unwrap()), ResponseCode::FormErr);
    assert_eq!(respond(&few(), &cut[..11], Transport::Udp).unwrap_err(), Verdict::Dropped);
}

fn sixty() -> Names {
    names((1..=60).map(|last| ("many.weave.local".to_owned(), Ipv4Addr::new(10, 32, 0, last).into())))
}

fn ask_many(payload: Option<u16>, transport: Transport) -> (Message, usize) {
    let mut message = query("many.weave.local.", RecordType::A);
    if let Some(payload) = payload {
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_dnssec_ok(true);
        message.set_edns(edns);
    }
    let (mut rng, mut reply) = (ChaCha8Rng::seed_from_u64(7), Vec::new());
    let responder = Responder::new("weave.local", 1);
    let verdict = responder.respond(&sixty(), &message.to_vec().unwrap(), transport, &mut rng, &mut reply);
    assert_eq!(verdict, Verdict::Answered);
    (Message::from_vec(&reply).unwrap(), reply.len())
}

#[test]
fn a_reply_has_as_many_addresses_as_fit_and_says_when_some_do_not() {
    for (payload, transport, expected, is_cut) in [
        (None, Transport::Udp, 29, true),
        (Some(100), Transport::Udp, 29, true),
        (Some(900), Transport::Udp, 53, true),
        (Some(1_232), Transport::Udp, 60, false),
        (None, Transport::Tcp, 60, false),
    ] {
        let (message, bytes) = ask_many(payload, transport);

        assert_eq!(
            (message.answers.len(), message.metadata.truncation),
            (expected, is_cut),
            "{payload:?} {transport:?}"
        );
        assert_eq!(message.edns.as_ref().map(|edns| edns.flags().dnssec_ok), payload.map(|_| true));
        if transport == Transport::Udp {
            assert!(bytes <= usize::from(payload.unwrap_or(512).max(512)), "{bytes} octets for {payload:?}");
        }
    }
}

#[test]
fn no_question_makes_a_reply_longer_than_its_limit() {
    let long = format!("{0}.{0}.{0}.{1}.weave.local", "a".repeat(63), "a".repeat(40));
    let names = names((0..=255).map(|last| (long.clone(), Ipv4Addr::new(10, 32, 1, last).into())));
    let message = query(&format!("{long}."), RecordType::A);

    let (mut rng, mut reply) = (ChaCha8Rng::seed_from_u64(7), Vec::new());
    Responder::new("weave.local", 1).respond(&names, &message.to_vec().unwrap(), Transport::Udp, &mut rng, &mut reply);

    assert!(reply.len() <= 512 && !Message::from_vec(&reply).unwrap().answers.is_empty());
}
