//! Many datagrams in one call.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;

use super::address::Storage;
use super::{MAX_BATCH, UdpSocket};

/// Reusable headers for `sendmmsg(2)`; belongs to the thread that made it.
#[derive(Debug)]
pub struct Sender {
    destinations: Vec<Storage>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

/// What became of the datagrams of one [`Sender::send`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendOutcome {
    pub sent: u64,
    /// The socket's buffer or the device's queue had no room.
    pub full: u64,
    /// No route, no such host, a firewall of this host, or a family that the socket does not speak.
    pub unreachable: u64,
    /// Any other refusal, such as a datagram that is too long.
    pub refused: u64,
}

impl Default for Sender {
    fn default() -> Self {
        Self {
            destinations: vec![Storage::zeroed(); MAX_BATCH],
            parts: Vec::with_capacity(MAX_BATCH),
            headers: Vec::with_capacity(MAX_BATCH),
        }
    }
}

impl Sender {
    /// Sends the datagrams in order. One that the kernel refuses is counted and left out; the rest still go. Nothing
    /// waits for room: the buffer holds megabytes, and a queue behind a full one would only add delay.
    pub fn send<'a>(
        &mut self,
        socket: &UdpSocket,
        datagrams: impl Iterator<Item = (SocketAddr, &'a [u8])>,
    ) -> SendOutcome {
        let mut outcome = SendOutcome::default();
        let mut datagrams = datagrams.peekable();
        while datagrams.peek().is_some() {
            let lengths = self.load(socket, datagrams.by_ref().take(MAX_BATCH), &mut outcome);
            self.flush(socket, lengths, &mut outcome);
        }
        outcome
    }

    /// Points the headers at as many datagrams as the socket takes, and returns their number.
    fn load<'a>(
        &mut self,
        socket: &UdpSocket,
        datagrams: impl Iterator<Item = (SocketAddr, &'a [u8])>,
        outcome: &mut SendOutcome,
    ) -> usize {
        self.parts.clear();
        self.headers.clear();
        for (destination, bytes) in datagrams {
            let name = &mut self.destinations[self.parts.len()];
            let Some(name_length) = name.store(destination, socket.family) else {
                outcome.unreachable += 1;
                continue;
            };
            self.parts.push(libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() });
            self.headers.push(libc::mmsghdr {
                msg_hdr: libc::msghdr {
                    msg_name: ptr::from_mut(name).cast(),
                    msg_namelen: name_length,
                    msg_iov: ptr::null_mut(),
                    msg_iovlen: 1,
                    msg_control: ptr::null_mut(),
                    msg_controllen: 0,
                    msg_flags: 0,
                },
                msg_len: 0,
            });
        }
        for (header, part) in self.headers.iter_mut().zip(&mut self.parts) {
            header.msg_hdr.msg_iov = part;
        }
        self.headers.len()
    }

    fn flush(&mut self, socket: &UdpSocket, loaded: usize, outcome: &mut SendOutcome) {
        let mut done = 0;
        while done < loaded {
            let rest = &mut self.headers[done..loaded];
            // SAFETY: every header points at one live element of `destinations` and of `parts`, filled by `load` from
            // slices that `send` still borrows; the kernel only reads through them.
            let sent = unsafe {
                libc::sendmmsg(
                    socket.socket.as_raw_fd(),
                    rest.as_mut_ptr(),
                    rest.len() as libc::c_uint,
                    libc::MSG_DONTWAIT,
                )
            };
            match usize::try_from(sent) {
                Ok(sent) => {
                    done += sent;
                    outcome.sent += sent as u64;
                }
                Err(_) => done += outcome.note(&io::Error::last_os_error()),
            }
        }
    }
}

impl SendOutcome {
    /// Counts the failure of the first datagram of a call, and returns how many to skip.
    fn note(&mut self, error: &io::Error) -> usize {
        match error.raw_os_error() {
            Some(libc::EINTR) => return 0,
            Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => self.full += 1,
            Some(
                libc::ENETUNREACH
                | libc::EHOSTUNREACH
                | libc::ENETDOWN
                | libc::EHOSTDOWN
                | libc::ECONNREFUSED
                | libc::EADDRNOTAVAIL
                | libc::EACCES
                | libc::EPERM,
            ) => self.unreachable += 1,
            _ => self.refused += 1,
        }
        1
    }
}
