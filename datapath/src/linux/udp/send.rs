//! Many datagrams in one call, and many equal ones as one message of it.
//!
//! ```text
//!   segmented train ──► one message: UDP_SEGMENT, its pieces ─┐
//!   plain train ──────► a message for each datagram ──────────┴─► sendmmsg
//!                                        refused as one: ───────► sendmmsg, a message for each datagram, and a report
//! ```

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::ptr;

use super::address::Storage;
use super::outcome::SendOutcome;
use super::{MAX_BATCH, UdpSocket};
use crate::batch::{Refusal, SendMode, TRAIN_DATAGRAMS_MAX, Train};

/// Reusable headers for `sendmmsg(2)`; belongs to the thread that made it.
#[derive(Debug)]
pub struct Sender {
    destinations: Vec<Storage>,
    controls: Vec<SegmentControl>,
    messages: Vec<Message>,
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
    plain: Plain,
}

/// What one header is about.
#[derive(Clone, Copy, Debug)]
struct Message {
    destination: SocketAddr,
    name_bytes: libc::socklen_t,
    first_part: usize,
    parts: usize,
    datagrams: usize,
    segment_bytes: usize,
}

/// The control message that asks for segmentation.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct SegmentControl {
    header: libc::cmsghdr,
    segment_bytes: u16,
}

/// Headers for the datagrams of one train.
#[derive(Debug)]
struct Plain {
    parts: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Default for Sender {
    fn default() -> Self {
        let part = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            destinations: vec![Storage::zeroed(); MAX_BATCH],
            controls: vec![SegmentControl::new(0); MAX_BATCH],
            messages: Vec::with_capacity(MAX_BATCH),
            parts: Vec::with_capacity(PARTS_MAX),
            headers: vec![header(ptr::null_mut(), 0, ptr::null_mut(), 0); MAX_BATCH],
            plain: Plain {
                parts: vec![part; TRAIN_DATAGRAMS_MAX],
                headers: vec![header(ptr::null_mut(), 0, ptr::null_mut(), 0); TRAIN_DATAGRAMS_MAX],
            },
        }
    }
}

impl Sender {
    /// Sends the trains in order. What the kernel refuses is counted and left out; the rest still goes. A segmented
    /// send that is refused as such goes again at once, one by one, and is told to `refused`. Nothing waits for room:
    /// the buffer holds megabytes, and a queue behind a full one would only add delay.
    pub fn send<'a>(
        &mut self,
        socket: &UdpSocket,
        trains: impl Iterator<Item = Train<'a>>,
        mut refused: impl FnMut(SocketAddr, Refusal),
    ) -> SendOutcome {
        let mut outcome = SendOutcome::default();
        for train in trains {
            let is_one_datagram = train.bytes <= train.segment_bytes;
            if train.mode == SendMode::Segmented && !is_one_datagram {
                self.load(socket, &train, train.pieces(), &mut outcome, &mut refused);
            } else {
                for datagram in train.datagrams() {
                    self.load(socket, &train, std::iter::once(datagram), &mut outcome, &mut refused);
                }
            }
        }
        self.flush(socket, &mut outcome, &mut refused);
        outcome
    }

    /// Adds a message, after sending the others if there is no room for it.
    fn load<'a>(
        &mut self,
        socket: &UdpSocket,
        train: &Train<'_>,
        pieces: impl Iterator<Item = &'a [u8]>,
        outcome: &mut SendOutcome,
        refused: &mut impl FnMut(SocketAddr, Refusal),
    ) {
        if self.messages.len() == MAX_BATCH || self.parts.len() + TRAIN_DATAGRAMS_MAX > PARTS_MAX {
            self.flush(socket, outcome, refused);
        }
        let first_part = self.parts.len();
        let part = |piece: &[u8]| libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
        self.parts.extend(pieces.map(part));
        let bytes: usize = self.parts[first_part..].iter().map(|part| part.iov_len).sum();
        let datagrams = bytes.div_ceil(train.segment_bytes).max(1);
        let at = self.messages.len();
        let Some(name_bytes) = self.destinations[at].store(train.destination, socket.family) else {
            outcome.unreachable += datagrams as u64;
            self.parts.truncate(first_part);
            return;
        };
        self.messages.push(Message {
            destination: train.destination,
            name_bytes,
            first_part,
            parts: self.parts.len() - first_part,
            datagrams,
            segment_bytes: train.segment_bytes,
        });
    }

    fn flush(&mut self, socket: &UdpSocket, outcome: &mut SendOutcome, refused: &mut impl FnMut(SocketAddr, Refusal)) {
        self.point_at_messages();
        let mut done = 0;
        while done < self.messages.len() {
            match send_headers(socket, &mut self.headers[done..self.messages.len()]) {
                Ok(sent) => {
                    outcome.sent +=
                        self.messages[done..done + sent].iter().map(|sent| sent.datagrams as u64).sum::<u64>();
                    done += sent;
                }
                Err(error) => {
                    let message = self.messages[done];
                    match Refusal::of(&error).filter(|_| message.datagrams > 1) {
                        Some(refusal) => {
                            outcome.unsegmented += 1;
                            refused(message.destination, refusal);
                            self.send_plain(socket, done, outcome);
                        }
                        None if error.kind() == io::ErrorKind::Interrupted => continue,
                        None => outcome.note(&error, message.datagrams),
                    }
                    done += 1;
                }
            }
        }
        self.messages.clear();
        self.parts.clear();
    }

    fn point_at_messages(&mut self) {
        for (at, message) in self.messages.iter().enumerate() {
            let name = ptr::from_mut(&mut self.destinations[at]).cast();
            let parts = self.parts[message.first_part..].as_mut_ptr();
            let header = &mut self.headers[at];
            *header = self::header(name, message.name_bytes, parts, message.parts);
            if message.datagrams > 1 {
                self.controls[at] = SegmentControl::new(message.segment_bytes);
                header.msg_hdr.msg_control = ptr::from_mut(&mut self.controls[at]).cast();
                header.msg_hdr.msg_controllen = size_of::<SegmentControl>();
            }
        }
    }

    /// Sends the datagrams of one message one by one.
    fn send_plain(&mut self, socket: &UdpSocket, at: usize, outcome: &mut SendOutcome) {
        let message = self.messages[at];
        let name = ptr::from_mut(&mut self.destinations[at]).cast();
        let loaded = self.plain.load(&message, name, &self.parts[message.first_part..][..message.parts]);
        let mut done = 0;
        while done < loaded {
            match send_headers(socket, &mut self.plain.headers[done..loaded]) {
                Ok(sent) => {
                    outcome.sent += sent as u64;
                    done += sent;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    outcome.note(&error, 1);
                    done += 1;
                }
            }
        }
    }
}

impl Plain {
    /// Points at each datagram of `pieces`, and returns how many there are.
    fn load(&mut self, message: &Message, name: *mut libc::c_void, pieces: &[libc::iovec]) -> usize {
        let cut = |piece: &libc::iovec| {
            let (base, bytes) = (piece.iov_base, piece.iov_len);
            (0..bytes).step_by(message.segment_bytes).map(move |from| libc::iovec {
                iov_base: base.wrapping_byte_add(from),
                iov_len: message.segment_bytes.min(bytes - from),
            })
        };
        let mut loaded = 0;
        for ((part, header), datagram) in self.parts.iter_mut().zip(&mut self.headers).zip(pieces.iter().flat_map(cut))
        {
            *part = datagram;
            *header = self::header(name, message.name_bytes, part, 1);
            loaded += 1;
        }
        loaded
    }
}

impl SegmentControl {
    fn new(segment_bytes: usize) -> Self {
        Self {
            header: libc::cmsghdr {
                cmsg_len: size_of::<libc::cmsghdr>() + size_of::<u16>(),
                cmsg_level: libc::SOL_UDP,
                cmsg_type: libc::UDP_SEGMENT,
            },
            segment_bytes: segment_bytes as u16,
        }
    }
}

fn send_headers(socket: &UdpSocket, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let count = headers.len() as libc::c_uint;
    // SAFETY: the headers point at live elements of the sender's vectors, none of which is moved or resized between
    // `point_at_messages` or `Plain::load` and this call; the parts point into an outbox that `Sender::send` borrows.
    // The kernel only reads through them.
    let sent = unsafe { libc::sendmmsg(socket.socket.as_raw_fd(), headers.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn header(
    name: *mut libc::c_void,
    name_bytes: libc::socklen_t,
    parts: *mut libc::iovec,
    part_count: usize,
) -> libc::mmsghdr {
    libc::mmsghdr {
        msg_hdr: libc::msghdr {
            msg_name: name,
            msg_namelen: name_bytes,
            msg_iov: parts,
            msg_iovlen: part_count,
            msg_control: ptr::null_mut(),
            msg_controllen: 0,
            msg_flags: 0,
        },
        msg_len: 0,
    }
}

/// Pieces that one call gathers.
const PARTS_MAX: usize = 1_024;
