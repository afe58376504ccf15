//! Routing netlink: one blocking socket, requests that name what they change, dumps that survive what they cannot read.
//!
//! The kernel answers a request before `send` returns, so nothing here waits for anybody else. Callers that must not
//! wait for the kernel's own lock either (it is held for long while other tools delete many devices) use a thread.

pub(super) mod address;
mod carrier;
pub(super) mod link;
mod neighbour;
pub(super) mod resolver;
mod route;

use std::fmt;
use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

pub(super) use link::VethPeer;

use super::errno::Remedy;

/// The kernel fills datagrams of a dump up to this size when the reader has room.
const RECEIVE_BYTES: usize = 32 * 1024;
/// How often a dump is repeated when the tables changed under it; the last one counts.
const DUMP_ATTEMPTS_MAX: usize = 3;

/// A request that the kernel refused.
#[derive(Debug)]
pub struct NetlinkError {
    /// What was to be done: "add VXLAN device".
    pub doing: &'static str,
    /// To what: a device, a MAC, an address.
    pub subject: String,
    pub cause: io::Error,
}

/// A blocking socket for requests, bound to the network namespace in which it was opened.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// # Errors
    /// When the process has no descriptor left.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // A refusal carries the header of the request only, not its attributes.
        socket.set_cap_ack(true)?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; RECEIVE_BYTES] })
    }

    /// Sends a request and waits for its acknowledgement.
    fn request(
        &mut self,
        doing: &'static str,
        subject: impl fmt::Display,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<(), NetlinkError> {
        self.exchange(message, flags | NLM_F_ACK).map(drop).map_err(|cause| NetlinkError {
            doing,
            subject: subject.to_string(),
            cause,
        })
    }

    /// Everything that the kernel lists for `message`.
    fn dump(
        &mut self,
        doing: &'static str,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let error = |cause| NetlinkError { doing, subject: "of this namespace".to_owned(), cause };
        for _ in 1..DUMP_ATTEMPTS_MAX {
            let reply = self.exchange(message.clone(), NLM_F_DUMP).map_err(error)?;
            if !reply.interrupted {
                return Ok(reply.messages);
            }
        }
        Ok(self.exchange(message.clone(), NLM_F_DUMP).map_err(error)?.messages)
    }

    fn exchange(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<Reply> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        self.receive_reply()
    }

    fn receive_reply(&mut self) -> io::Result<Reply> {
        let mut reply = Reply::default();
        loop {
            let length = self.socket.recv(&mut &mut self.buffer[..], 0)?;
            for message in messages(&self.buffer[..length.min(self.buffer.len())]) {
                if message.header.sequence_number != self.sequence {
                    continue; // of a request that ended in an error half-way
                }
                reply.interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => reply.messages.push(inner),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(reply),
                    _ => {}
                }
            }
        }
    }
}

#[derive(Default)]
struct Reply {
    messages: Vec<RouteNetlinkMessage>,
    interrupted: bool,
}

/// The messages of one datagram. One that this program cannot read (a device of a kind it never heard of) is left out.
pub(super) fn messages(mut datagram: &[u8]) -> impl Iterator<Item = NetlinkMessage<RouteNetlinkMessage>> {
    std::iter::from_fn(move || {
        loop {
            let length = u32::from_ne_bytes(*datagram.first_chunk()?) as usize;
            let message = datagram.get(..length)?;
            let decoded = NetlinkMessage::deserialize(message);
            datagram = datagram.get(length.next_multiple_of(4).max(4)..).unwrap_or_default();
            match decoded {
                Ok(message) => return Some(message),
                Err(error) => tracing::debug!(%error, "netlink message not understood"),
            }
        }
    })
}

impl fmt::Debug for Netlink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netlink").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl fmt::Display for NetlinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { doing, subject, cause } = self;
        write!(f, "cannot {doing} {subject}: {cause}{}", Remedy::of(cause))
    }
}

impl std::error::Error for NetlinkError {}

impl NetlinkError {
    fn has_errno(&self, errno: rustix::io::Errno) -> bool {
        self.cause.raw_os_error() == Some(errno.raw_os_error())
    }
}

/// Turns the refusal of something that is as wanted already into success.
fn unless(errno: rustix::io::Errno, result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(error) if error.has_errno(errno) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_from_the_kernel_ends_the_datagram_and_nothing_else() {
        for garbage in [
            &[][..],
            &[1],
            &[0, 0, 0, 0],
            &[3, 0, 0, 0, 1],
            &[255, 255, 255, 255, 0],
            &[16, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] {
            assert_eq!(messages(garbage).count(), 0, "{garbage:?}");
        }
    }
}
