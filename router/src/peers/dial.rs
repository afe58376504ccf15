//! Opening one TCP connection: resolve, then try each address in turn.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::timeout;
use weave_mesh::connector::Destination;

use super::SEGMENT_BYTES;

const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);
/// One lost SYN and its repetition fit.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many addresses of one name are tried.
const ADDRESSES_MAX: usize = 4;

/// Why a dial failed; in an operator's words.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("cannot resolve {host}: {source}")]
    Resolve { host: String, source: io::Error },
    #[error("no answer from the resolver for {0} within {RESOLVE_TIMEOUT:?}")]
    ResolveTimeout(String),
    #[error("{0} has no address of the family of --host")]
    NoAddress(String),
    #[error("dial tcp {address}: {source}")]
    Connect { address: SocketAddr, source: io::Error },
    #[error("dial tcp {0}: no answer within {CONNECT_TIMEOUT:?}")]
    Timeout(SocketAddr),
}

/// A stream to `destination`, from `host` where the operator chose one, and whom it reached.
pub(super) async fn connect(
    destination: &Destination,
    host: Option<IpAddr>,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let addresses = resolve(destination).await?;
    let is_usable = |address: &&SocketAddr| host.is_none_or(|host| host.is_ipv4() == address.is_ipv4());
    let mut last = ConnectError::NoAddress(destination.to_string());
    for address in addresses.iter().filter(is_usable).take(ADDRESSES_MAX) {
        match timeout(CONNECT_TIMEOUT, connect_to(*address, host)).await {
            Ok(Ok(stream)) => return Ok((stream, *address)),
            Ok(Err(source)) => last = ConnectError::Connect { address: *address, source },
            Err(_) => last = ConnectError::Timeout(*address),
        }
    }
    Err(last)
}

async fn resolve(destination: &Destination) -> Result<Vec<SocketAddr>, ConnectError> {
    match destination {
        Destination::Address(address) => Ok(vec![*address]),
        Destination::Name { host, port } => match timeout(RESOLVE_TIMEOUT, lookup_host((host.as_str(), *port))).await {
            Ok(Ok(addresses)) => Ok(addresses.collect()),
            Ok(Err(source)) => Err(ConnectError::Resolve { host: host.clone(), source }),
            Err(_) => Err(ConnectError::ResolveTimeout(host.clone())),
        },
    }
}

async fn connect_to(address: SocketAddr, host: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket2::SockRef::from(&socket).set_tcp_mss(SEGMENT_BYTES)?;
    if let Some(host) = host {
        socket.bind(SocketAddr::new(host, 0))?;
    }
    socket.connect(address).await
}
