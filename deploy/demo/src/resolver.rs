//! Addresses of a name, asked of the servers in `/etc/resolv.conf`.
//!
//! Not by libc: a static program without anything beside it cannot load what glibc resolves names with.

use std::fs;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context, Result, anyhow, ensure};
use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use crate::PATIENCE;

const RESOLV_CONF: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;
/// As many as libc takes of each (resolv.conf(5)).
const SERVERS_MAX: usize = 3;
const DOMAINS_MAX: usize = 6;
/// The longest answer over UDP without EDNS (RFC 1035, 4.2.1), octets.
const ANSWER_MAX: usize = 512;

/// Whom to ask, and in which domains a short name is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Resolver {
    servers: Vec<SocketAddr>,
    domains: Vec<String>,
}

impl Resolver {
    pub(crate) fn of_system() -> Result<Self> {
        let text = fs::read_to_string(RESOLV_CONF).with_context(|| format!("cannot read {RESOLV_CONF}"))?;
        Ok(Self::parse(&text))
    }

    /// Reads resolv.conf(5); what it does not know is skipped, as libc does.
    fn parse(text: &str) -> Self {
        let values = |key: &'static str| {
            let fields = text.lines().map(str::split_whitespace);
            fields.filter_map(move |mut fields| (fields.next() == Some(key)).then_some(fields))
        };
        let servers = values("nameserver").filter_map(|mut fields| fields.next()?.parse::<IpAddr>().ok());
        let domains = values("search").next_back().into_iter().flatten().map(str::to_owned);
        Self {
            servers: servers.map(|server| (server, DNS_PORT).into()).take(SERVERS_MAX).collect(),
            domains: domains.take(DOMAINS_MAX).collect(),
        }
    }

    /// The IPv4 addresses of `name` in the order of the answer, which is another one each time; never none.
    pub(crate) fn addresses(&self, name: &str) -> Result<Vec<IpAddr>> {
        let mut last = anyhow!("{RESOLV_CONF} names no server");
        for name in self.candidates(name)? {
            for server in &self.servers {
                match ask(*server, &name) {
                    Ok(addresses) => return Ok(addresses),
                    Err(error) => last = error.context(format!("cannot resolve {name}")),
                }
            }
        }
        Err(last)
    }

    /// A short name is looked for in each domain first.
    fn candidates(&self, name: &str) -> Result<Vec<Name>> {
        let within = |domain: &String| format!("{name}.{domain}");
        let domains = self.domains.iter().filter(|_| !name.contains('.')).map(within);
        let names = domains.chain([name.to_owned()]);
        names.map(|name| fully_qualified(&name)).collect()
    }
}

fn fully_qualified(name: &str) -> Result<Name> {
    let mut name = Name::from_ascii(name).with_context(|| format!("`{name}` is no name"))?;
    name.set_fqdn(true);
    Ok(name)
}

fn ask(server: SocketAddr, name: &Name) -> Result<Vec<IpAddr>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.connect(server)?;
    let question = question(name);
    socket.send(&question.to_vec()?)?;
    let mut answer = [0; ANSWER_MAX];
    let length = socket.recv(&mut answer).with_context(|| format!("{server} does not answer"))?;
    read(&question, &answer[..length])
}

fn question(name: &Name) -> Message {
    let mut question = Message::new(random(), MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name.clone(), RecordType::A));
    question
}

/// As the standard library seeds its hash maps.
fn random() -> u16 {
    let [high, low, ..] = RandomState::new().build_hasher().finish().to_ne_bytes();
    u16::from_ne_bytes([high, low])
}

/// The addresses in the answer to `question`.
fn read(question: &Message, answer: &[u8]) -> Result<Vec<IpAddr>> {
    let answer = Message::from_vec(answer).context("its answer cannot be read")?;
    let is_ours = answer.metadata.id == question.metadata.id && answer.queries == question.queries;
    ensure!(is_ours, "it answers another question");
    ensure!(answer.metadata.response_code == ResponseCode::NoError, "{}", answer.metadata.response_code);
    let addresses = answer.answers.iter().filter_map(|record| match record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        _ => None,
    });
    let addresses: Vec<IpAddr> = addresses.collect();
    ensure!(!addresses.is_empty(), "it has no address");
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use hickory_proto::rr::Record;

    use super::*;

    fn answer(question: &Message, addresses: &[[u8; 4]]) -> Message {
        let mut answer = question.clone();
        answer.metadata.message_type = MessageType::Response;
        let name = question.queries[0].name().clone();
        let record = |address: &[u8; 4]| Record::from_rdata(name.clone(), 1, RData::A(Ipv4Addr::from(*address).into()));
        answer.answers.extend(addresses.iter().map(record));
        answer
    }

    /// Answers every question about `known` with two addresses, and no other.
    fn server(known: &'static str) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            let mut packet = [0; ANSWER_MAX];
            while let Ok((length, asker)) = socket.recv_from(&mut packet) {
                let question = Message::from_vec(&packet[..length]).unwrap();
                let is_known = question.queries[0].name().to_ascii() == known;
                let addresses: &[[u8; 4]] = if is_known { &[[10, 32, 0, 2], [10, 32, 0, 1]] } else { &[] };
                socket.send_to(&answer(&question, addresses).to_vec().unwrap(), asker).unwrap();
            }
        });
        address
    }

    #[test]
    fn the_file_is_read_as_libc_reads_it() {
        let text =
            "# a host\nnameserver 169.254.65.53\nnameserver nonsense\nsearch one\nsearch weave.local example.org\n";

        let resolver = Resolver::parse(text);
        assert_eq!(resolver.servers, [SocketAddr::from(([169, 254, 65, 53], 53))]);
        assert_eq!(resolver.domains, ["weave.local", "example.org"]);
    }

    #[test]
    fn a_short_name_is_looked_for_in_the_domains_first() {
        let resolver = Resolver { servers: vec![server("web.weave.local.")], domains: vec!["weave.local".to_owned()] };

        let expected = [[10, 32, 0, 2], [10, 32, 0, 1]].map(IpAddr::from);
        assert_eq!(resolver.addresses("web").unwrap(), expected);
        assert_eq!(resolver.addresses("web.weave.local").unwrap(), expected);
        assert!(resolver.addresses("other").unwrap_err().to_string().contains("cannot resolve other"));
    }

    #[test]
    fn what_answers_no_question_of_ours_is_not_believed() {
        let ours = question(&fully_qualified("web.weave.local").unwrap());
        let other = question(&fully_qualified("db.weave.local").unwrap());

        assert!(read(&ours, &answer(&ours, &[[10, 32, 0, 1]]).to_vec().unwrap()).is_ok());
        assert!(read(&ours, &answer(&other, &[[10, 32, 0, 1]]).to_vec().unwrap()).is_err());
        assert!(read(&ours, &[0; 5]).is_err());
    }
}
