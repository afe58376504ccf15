//! Peers of a service: the hosts and ports that SRV records name (RFC 2782). Priorities and weights mean nothing here, since
//! all of them are peers.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use tokio::sync::watch;
use weave_mesh::connector::Target;

use crate::dns::{Asker, Budget, Segment, Transport, Upstream, resolv};

/// How long each server may take.
const TIMEOUT: Duration = Duration::from_secs(5);
const REPLY_BYTES_MAX: usize = u16::MAX as usize;

/// A service of a name such as `_weave._tcp.example.com`.
#[derive(Debug)]
pub(super) struct Service {
    name: String,
    resolv_conf: PathBuf,
}

impl Service {
    pub(super) const fn new(name: String, resolv_conf: PathBuf) -> Self {
        Self { name, resolv_conf }
    }

    /// # Errors
    /// When no server of the host's answers, or the service is not known.
    pub(super) async fn resolve(&self) -> Result<BTreeSet<Target>, String> {
        let text = std::fs::read_to_string(&self.resolv_conf)
            .map_err(|error| format!("cannot read {}: {error}", self.resolv_conf.display()))?;
        self.ask(&resolv::servers(&text, |_| false)).await
    }

    async fn ask(&self, servers: &[SocketAddr]) -> Result<BTreeSet<Target>, String> {
        let (_keep, servers) = watch::channel(Arc::from(servers));
        let upstream = Upstream::new(servers, TIMEOUT);
        let query = question(&self.name)?;
        let budget = Budget::new(2 * resolv::SERVERS_MAX);
        for transport in [Transport::Udp, Transport::Tcp] {
            let asker = Asker { source: IpAddr::V4(Ipv4Addr::LOCALHOST), segment: Segment::Host };
            let share = budget.take(asker).ok_or("too many questions are under way")?;
            let reply = upstream.resolve(transport, &query, REPLY_BYTES_MAX, share).await;
            let reply = Message::from_vec(&reply.unwrap_or_default()).map_err(|error| self.failed(&error))?;
            if !reply.metadata.truncation || transport == Transport::Tcp {
                return self.read(&reply);
            }
        }
        Err(self.failed(&"the answer is cut short"))
    }

    fn read(&self, reply: &Message) -> Result<BTreeSet<Target>, String> {
        match reply.metadata.response_code {
            ResponseCode::NoError => {}
            code => return Err(self.failed(&code)),
        }
        let services = reply.answers.iter().filter_map(|record| match &record.data {
            RData::SRV(service) => Some(service),
            _ => None,
        });
        let target = |host: &Name, port: u16| format!("{}:{port}", host.to_utf8().trim_end_matches('.')).parse();
        services.map(|it| target(&it.target, it.port).map_err(|error| self.failed(&error))).collect()
    }

    fn failed(&self, why: &dyn std::fmt::Display) -> String {
        format!("cannot resolve {} (SRV): {why}", self.name)
    }
}

fn question(name: &str) -> Result<Vec<u8>, String> {
    let name = Name::from_utf8(name).map_err(|error| format!("{name}: {error}"))?;
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, RecordType::SRV));
    message.to_vec().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::SRV;
    use tokio::net::UdpSocket;

    use super::*;

    const NAME: &str = "_weave._tcp.example.com";

    fn service() -> Service {
        Service::new(NAME.to_owned(), PathBuf::new())
    }

    /// A server that answers one question with these hosts.
    async fn server(hosts: &'static [(&'static str, u16)], code: ResponseCode) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut bytes = [0; 512];
            let (length, asker) = socket.recv_from(&mut bytes).await.unwrap();
            let query = Message::from_vec(&bytes[..length]).unwrap();
            let mut reply = Message::response(query.metadata.id, query.metadata.op_code);
            reply.metadata.response_code = code;
            let name = query.queries[0].name().clone();
            reply.add_query(query.queries[0].clone());
            for (host, port) in hosts {
                let data = RData::SRV(SRV::new(0, 0, *port, Name::from_utf8(host).unwrap()));
                reply.add_answer(Record::from_rdata(name.clone(), 5, data));
            }
            socket.send_to(&reply.to_vec().unwrap(), asker).await.unwrap();
        });
        address
    }

    #[tokio::test]
    async fn every_host_of_a_service_is_a_peer_at_its_port() {
        let server = server(&[("h1.example.com.", 6783), ("h2.example.com.", 7000)], ResponseCode::NoError).await;
        let peers = service().ask(&[server]).await.unwrap();
        let expected = ["h1.example.com:6783", "h2.example.com:7000"].map(|text| text.parse().unwrap());
        assert_eq!(peers, BTreeSet::from(expected));
    }

    #[tokio::test]
    async fn a_service_that_nobody_knows_is_named() {
        let server = server(&[], ResponseCode::NXDomain).await;
        let error = service().ask(&[server]).await.unwrap_err();
        assert!(error.contains(NAME), "{error}");
    }
}
