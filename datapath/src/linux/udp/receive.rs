//! Many datagrams in one call.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;

use super::address::Storage;
use super::{MAX_BATCH, UdpSocket};

/// Reusable headers for `recvmmsg(2)`; belongs to the thread that made it.
#[derive(Debug)]
pub struct Receiver {
    sources: Vec<Storage>,
    slots: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
}

/// Where one datagram of the last [`Receiver::receive`] lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// Zero for one that was longer than its slot.
    pub length: usize,
    pub source: SocketAddr,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            sources: vec![Storage::zeroed(); MAX_BATCH],
            slots: Vec::with_capacity(MAX_BATCH),
            headers: Vec::with_capacity(MAX_BATCH),
            received: 0,
        }
    }
}

impl Receiver {
    /// Receives at most one datagram into each of the first [`MAX_BATCH`] `slots`, in their order; see
    /// [`Self::datagrams`]. Returns how many arrived, zero when none waits.
    ///
    /// # Errors
    /// As `recvmmsg(2)`. An error reported by the network for an earlier send may surface here and ends nothing.
    pub fn receive<'a>(&mut self, socket: &UdpSocket, slots: impl Iterator<Item = &'a mut [u8]>) -> io::Result<usize> {
        self.received = 0;
        self.point_at(slots);
        let count = self.headers.len() as libc::c_uint;
        // SAFETY: every header points at one live element of `sources` and of `slots`, neither of which moves before
        // the call returns; the memory of the slots is borrowed mutably for `'a`, which outlives this function.
        let received = unsafe {
            libc::recvmmsg(
                socket.socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        let Ok(received) = usize::try_from(received) else {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(0) } else { Err(error) };
        };
        self.received = received;
        Ok(received)
    }

    /// What the last [`Self::receive`] put into the slots, in their order.
    pub fn datagrams(&self) -> impl Iterator<Item = Datagram> {
        self.headers.iter().zip(&self.sources).take(self.received).map(|(header, source)| {
            let is_whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            let length = if is_whole { header.msg_len as usize } else { 0 };
            Datagram { length, source: source.load() }
        })
    }

    fn point_at<'a>(&mut self, slots: impl Iterator<Item = &'a mut [u8]>) {
        self.slots.clear();
        self.slots.extend(
            slots.take(MAX_BATCH).map(|slot| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() }),
        );
        self.headers.clear();
        let parts = self.slots.iter_mut().zip(&mut self.sources);
        self.headers.extend(parts.map(|(slot, source)| libc::mmsghdr {
            msg_hdr: libc::msghdr {
                msg_name: ptr::from_mut(source).cast(),
                msg_namelen: size_of::<Storage>() as libc::socklen_t,
                msg_iov: slot,
                msg_iovlen: 1,
                msg_control: ptr::null_mut(),
                msg_controllen: 0,
                msg_flags: 0,
            },
            msg_len: 0,
        }));
    }
}
