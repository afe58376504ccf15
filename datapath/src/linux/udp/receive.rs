//! Many datagrams in one call, and many equal ones of one source as one message of it.

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
    controls: Vec<GroControl>,
    slots: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    received: usize,
}

/// What arrived in one slot of the last [`Receiver::receive`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Zero for what was longer than its slot.
    pub length: usize,
    /// Every datagram in the slot has this size but the last, which may be shorter; `length` if there is but one.
    pub segment_bytes: usize,
    pub source: SocketAddr,
}

/// Where the kernel says how long each datagram was before it put them together (`UDP_GRO`, Linux 5.0).
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct GroControl {
    header: libc::cmsghdr,
    segment_bytes: libc::c_int,
}

impl Default for Receiver {
    fn default() -> Self {
        let empty = libc::cmsghdr { cmsg_len: 0, cmsg_level: 0, cmsg_type: 0 };
        Self {
            sources: vec![Storage::zeroed(); MAX_BATCH],
            controls: vec![GroControl { header: empty, segment_bytes: 0 }; MAX_BATCH],
            slots: Vec::with_capacity(MAX_BATCH),
            headers: Vec::with_capacity(MAX_BATCH),
            received: 0,
        }
    }
}

impl Receiver {
    /// Receives at most one datagram, or one run of equal ones, into each of the first [`MAX_BATCH`] `slots`, in their
    /// order; see [`Self::arrivals`]. Returns how many slots were used, zero when nothing waits.
    ///
    /// # Errors
    /// As `recvmmsg(2)`. An error reported by the network for an earlier send may surface here and ends nothing.
    pub fn receive<'a>(&mut self, socket: &UdpSocket, slots: impl Iterator<Item = &'a mut [u8]>) -> io::Result<usize> {
        self.received = 0;
        self.point_at(slots);
        let count = self.headers.len() as libc::c_uint;
        // SAFETY: every header points at one live element of `sources`, of `controls` and of `slots`, none of which
        // moves before the call returns; the memory of the slots is borrowed mutably for `'a`, which outlives this
        // function.
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
    pub fn arrivals(&self) -> impl Iterator<Item = Arrival> {
        let parts = self.headers.iter().zip(&self.sources).zip(&self.controls);
        parts.take(self.received).map(|((header, source), control)| {
            let is_whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            let length = if is_whole { header.msg_len as usize } else { 0 };
            let segment_bytes = control.segment_bytes(header.msg_hdr.msg_controllen).unwrap_or(length);
            Arrival { length, segment_bytes, source: source.load() }
        })
    }

    fn point_at<'a>(&mut self, slots: impl Iterator<Item = &'a mut [u8]>) {
        self.slots.clear();
        self.slots.extend(
            slots.take(MAX_BATCH).map(|slot| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() }),
        );
        self.headers.clear();
        let parts = self.slots.iter_mut().zip(&mut self.sources).zip(&mut self.controls);
        self.headers.extend(parts.map(|((slot, source), control)| libc::mmsghdr {
            msg_hdr: libc::msghdr {
                msg_name: ptr::from_mut(source).cast(),
                msg_namelen: size_of::<Storage>() as libc::socklen_t,
                msg_iov: slot,
                msg_iovlen: 1,
                msg_control: ptr::from_mut(control).cast(),
                msg_controllen: size_of::<GroControl>(),
                msg_flags: 0,
            },
            msg_len: 0,
        }));
    }
}

impl GroControl {
    /// The size that the kernel wrote, if it wrote `written` bytes of control messages.
    fn segment_bytes(&self, written: usize) -> Option<usize> {
        let whole = size_of::<libc::cmsghdr>() + size_of::<libc::c_int>();
        let is_ours = self.header.cmsg_level == libc::SOL_UDP && self.header.cmsg_type == libc::UDP_GRO;
        let size = usize::try_from(self.segment_bytes).ok().filter(|size| *size > 0);
        size.filter(|_| is_ours && written >= whole)
    }
}
