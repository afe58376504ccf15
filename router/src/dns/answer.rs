//! From a question to its answer, or to the decision that others must answer it. Pure, and the same for both transports.
//!
//! | question | known | unknown |
//! |---|---|---|
//! | name in the domain, or one label | its addresses; NOERROR without any for other types | NXDOMAIN |
//! | reverse name of an address | its names | forwarded |
//! | anything else | forwarded | forwarded |

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};
use rand_core::RngCore;
use weave_mesh::dns::{Entry, Names, shuffle_front};

use super::Transport;
use super::wire::{self, HEADER_BYTES};

/// What a UDP reply may have without EDNS (RFC 1035 section 4.2.1).
const PLAIN_BYTES_MAX: usize = 512;
/// What a UDP reply has at most, whatever the asker offers: askers are on this host.
const UDP_BYTES_MAX: u16 = 4_096;
/// What we offer to take (<https://www.dnsflagday.net/2020/>).
const OFFERED_BYTES: u16 = 1_232;
/// An empty OPT record.
const OPT_BYTES: usize = 11;
/// A record less its data, its name being a pointer to the question.
const RECORD_BYTES: usize = 12;

/// What became of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The reply is written.
    Answered,
    /// Others must answer, in at most so many octets.
    Forward { limit: usize },
    /// Not worth a reply: too short, or no question at all.
    Dropped,
}

/// Answers for one domain.
#[derive(Clone, Debug)]
pub struct Responder {
    /// Folded, without a dot at the end.
    domain: String,
    domain_name: Name,
    ttl: u32,
}

/// What a question is about.
enum Subject {
    /// A folded name in the domain.
    Inside(String),
    /// The domain itself.
    Apex,
    /// One label that is no name in the domain; there is nobody else to ask.
    Unqualified(String),
    Reverse(IpAddr),
    Outside,
}

/// The records that answer a question, or say that there are none.
#[derive(Default)]
struct Sections {
    code: Option<ResponseCode>,
    answers: Vec<Record>,
    authorities: Vec<Record>,
    is_cut: bool,
}

impl Responder {
    /// `domain` is folded; `ttl` is in seconds.
    pub fn new(domain: &str, ttl: u32) -> Self {
        // A folded name parses: it has letters, digits, hyphens and underscores between its dots.
        let domain_name = Name::from_ascii(format!("{domain}.")).unwrap_or_default();
        Self { domain: domain.to_owned(), domain_name, ttl }
    }

    /// Answers `query` into `reply`, which is empty before.
    pub fn respond(
        &self,
        names: &Names,
        query: &[u8],
        transport: Transport,
        rng: &mut impl RngCore,
        reply: &mut Vec<u8>,
    ) -> Verdict {
        let Ok(message) = Message::from_vec(query) else { return malformed(query, reply) };
        if message.metadata.message_type == MessageType::Response {
            return Verdict::Dropped;
        }
        let refuse = |code| Sections { code: Some(code), ..Sections::default() };
        let sections = match (message.metadata.op_code, message.queries.as_slice()) {
            _ if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) => refuse(ResponseCode::BADVERS),
            (OpCode::Query, [question]) if question.query_class() == DNSClass::IN => {
                let room = room(&message, question, transport);
                match self.find(names, question, room, rng) {
                    Some(sections) => sections,
                    None => return Verdict::Forward { limit: limit(&message, transport) },
                }
            }
            (OpCode::Query, [_]) => refuse(ResponseCode::Refused),
            // RFC 9619: more than one question is a format error.
            (OpCode::Query, _) => refuse(ResponseCode::FormErr),
            _ => refuse(ResponseCode::NotImp),
        };
        encode(&message, sections, limit(&message, transport), reply)
    }

    fn find(&self, names: &Names, question: &Query, room: usize, rng: &mut impl RngCore) -> Option<Sections> {
        let kind = question.query_type();
        Some(match self.subject(question.name()) {
            Subject::Inside(folded) => match names.find(&folded) {
                Some(entry) => self.addresses(names, entry, question, room, rng),
                None => self.negative(names, ResponseCode::NXDomain),
            },
            Subject::Apex if kind == RecordType::SOA => {
                Sections { answers: vec![self.soa(names)], ..Sections::default() }
            }
            Subject::Apex => self.negative(names, ResponseCode::NoError),
            Subject::Unqualified(folded) => match names.find(&folded) {
                Some(entry) => self.addresses(names, entry, question, room, rng),
                // No SOA: a name of one label lies in no zone of ours (RFC 2308 section 2.1, the third form).
                None => Sections { code: Some(ResponseCode::NXDomain), ..Sections::default() },
            },
            Subject::Reverse(address) => self.pointers(names, address, question)?,
            Subject::Outside => return None,
        })
    }

    fn subject(&self, name: &Name) -> Subject {
        let Some(folded) = fold(name) else {
            return if self.domain_name.zone_of(name) { Subject::Inside(String::new()) } else { Subject::Outside };
        };
        if !folded.contains('.') {
            return match folded.as_str() {
                "" => Subject::Outside,
                label if label == self.domain => Subject::Apex,
                label => Subject::Unqualified(format!("{label}.{}", self.domain)),
            };
        }
        match folded.strip_suffix(&self.domain) {
            Some("") => Subject::Apex,
            Some(labels) if labels.ends_with('.') => Subject::Inside(folded),
            Some(_) | None => reverse(&folded, name).map_or(Subject::Outside, Subject::Reverse),
        }
    }

    /// As many of the addresses as there is `room` for, in a uniform order.
    fn addresses(
        &self,
        names: &Names,
        entry: &Entry,
        question: &Query,
        room: usize,
        rng: &mut impl RngCore,
    ) -> Sections {
        let kind = question.query_type();
        let mut answers: Vec<RData> = Vec::new();
        if matches!(kind, RecordType::A | RecordType::ANY) {
            answers.extend(entry.v4().iter().map(|address| RData::A(A(*address))));
        }
        if matches!(kind, RecordType::AAAA | RecordType::ANY) {
            answers.extend(entry.v6().iter().map(|address| RData::AAAA(AAAA(*address))));
        }
        if answers.is_empty() {
            return self.negative(names, ResponseCode::NoError);
        }
        let data_bytes = if kind == RecordType::A { 4 } else { 16 };
        let fitting = (room / (RECORD_BYTES + data_bytes)).min(answers.len());
        shuffle_front(&mut answers, fitting, rng);
        let is_cut = fitting < answers.len();
        answers.truncate(fitting);
        let record = |data| Record::from_rdata(question.name().clone(), self.ttl, data);
        Sections { answers: answers.into_iter().map(record).collect(), is_cut, ..Sections::default() }
    }

    /// `None` when the address is not one of ours.
    fn pointers(&self, names: &Names, address: IpAddr, question: &Query) -> Option<Sections> {
        let is_inside = |name: &&str| {
            let lower = name.to_ascii_lowercase();
            lower.strip_suffix(&self.domain).is_some_and(|labels| labels.ends_with('.'))
        };
        let pointers: Vec<&str> = names.pointers(address).into_iter().filter(is_inside).collect();
        if pointers.is_empty() {
            return None;
        }
        if !matches!(question.query_type(), RecordType::PTR | RecordType::ANY) {
            let authorities = vec![self.soa_of(question.name().clone(), names)];
            return Some(Sections { authorities, ..Sections::default() });
        }
        let record = |name: Name| Record::from_rdata(question.name().clone(), self.ttl, RData::PTR(PTR(name)));
        let parsed = pointers.iter().filter_map(|name| Name::from_ascii(format!("{name}.")).ok());
        Some(Sections { answers: parsed.map(record).collect(), ..Sections::default() })
    }

    /// There is no such name, or none of that type; for how long that may be believed (RFC 2308 section 3).
    fn negative(&self, names: &Names, code: ResponseCode) -> Sections {
        Sections { code: Some(code), authorities: vec![self.soa(names)], ..Sections::default() }
    }

    fn soa(&self, names: &Names) -> Record {
        self.soa_of(self.domain_name.clone(), names)
    }

    fn soa_of(&self, owner: Name, names: &Names) -> Record {
        let contact = Name::from_ascii("hostmaster").unwrap_or_default();
        let contact = contact.append_domain(&self.domain_name).unwrap_or_default();
        let soa = SOA::new(self.domain_name.clone(), contact, names.serial(), 3_600, 600, 86_400, self.ttl);
        Record::from_rdata(owner, self.ttl, RData::SOA(soa))
    }
}

/// The name in lower case with dots between its labels; `None` when a label has what no container's name has.
fn fold(name: &Name) -> Option<String> {
    let mut folded = String::with_capacity(name.len());
    for label in name.iter() {
        if !folded.is_empty() {
            folded.push('.');
        }
        for octet in label {
            let is_allowed = octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_');
            folded.push(is_allowed.then(|| char::from(octet.to_ascii_lowercase()))?);
        }
    }
    Some(folded)
}

/// The address of a complete reverse name.
fn reverse(folded: &str, name: &Name) -> Option<IpAddr> {
    if !folded.ends_with(".in-addr.arpa") && !folded.ends_with(".ip6.arpa") {
        return None;
    }
    let network = name.parse_arpa_name().ok()?;
    (network.prefix_len() == network.max_prefix_len()).then(|| network.addr())
}

/// The size that a reply may have.
fn limit(message: &Message, transport: Transport) -> usize {
    match (transport, &message.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, None) => PLAIN_BYTES_MAX,
        (Transport::Udp, Some(edns)) => usize::from(edns.max_payload().min(UDP_BYTES_MAX)).max(PLAIN_BYTES_MAX),
    }
}

/// What a reply has left for answers.
fn room(message: &Message, question: &Query, transport: Transport) -> usize {
    let name_bytes: usize = question.name().iter().map(|label| label.len() + 1).sum();
    let opt_bytes = if message.edns.is_some() { OPT_BYTES } else { 0 };
    limit(message, transport).saturating_sub(HEADER_BYTES + name_bytes + 1 + 4 + opt_bytes)
}

fn encode(query: &Message, sections: Sections, limit: usize, reply: &mut Vec<u8>) -> Verdict {
    let mut message = Message::response(query.metadata.id, query.metadata.op_code);
    message.metadata = Metadata::response_from_request(&query.metadata);
    message.metadata.response_code = sections.code.unwrap_or(ResponseCode::NoError);
    message.metadata.authoritative = !matches!(
        message.metadata.response_code,
        ResponseCode::FormErr | ResponseCode::NotImp | ResponseCode::Refused | ResponseCode::BADVERS
    );
    message.metadata.recursion_available = true;
    message.metadata.truncation = sections.is_cut;
    message.queries.clone_from(&query.queries);
    message.answers = sections.answers;
    message.authorities = sections.authorities;
    message.edns = query.edns.as_ref().map(|theirs| {
        let mut edns = Edns::new();
        edns.set_max_payload(OFFERED_BYTES).set_version(0).set_dnssec_ok(theirs.flags().dnssec_ok);
        edns
    });
    let mut encoder = BinEncoder::new(reply);
    encoder.set_max_size(u16::try_from(limit).unwrap_or(u16::MAX));
    match message.emit(&mut encoder) {
        Ok(()) => Verdict::Answered,
        Err(_) => {
            reply.clear();
            Verdict::Dropped
        }
    }
}

/// A format error, if there is as much as a question's header.
fn malformed(query: &[u8], reply: &mut Vec<u8>) -> Verdict {
    match wire::format_error(query) {
        Some(header) => {
            reply.extend_from_slice(&header);
            Verdict::Answered
        }
        None => Verdict::Dropped,
    }
}

#[cfg(test)]
mod tests;
