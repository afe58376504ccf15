//! What became of datagrams that were sent, by what the kernel said.

use std::io;

use crate::batch::Refusal;

/// What became of the datagrams of one [`Sender::send`](super::Sender::send).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SendOutcome {
    pub sent: u64,
    /// The socket's buffer or the device's queue had no room.
    pub full: u64,
    /// No route, no such host, a firewall of this host, or a family that the socket does not speak.
    pub unreachable: u64,
    /// Longer than the device takes: a size probe, or what was on its way when the device became smaller.
    pub too_long: u64,
    /// Any other refusal.
    pub refused: u64,
    /// Segmented sends that were refused, whose datagrams were then sent one by one.
    pub unsegmented: u64,
}

impl Refusal {
    /// What an error says of a segmented send, unless it would have met a plain one too.
    pub(super) fn of(error: &io::Error) -> Option<Self> {
        match error.raw_os_error()? {
            libc::EMSGSIZE | libc::EINVAL => Some(Self::TooLong),
            errno if is_full(errno) || is_unreachable(errno) || errno == libc::EINTR => None,
            _ => Some(Self::Unsupported),
        }
    }
}

impl SendOutcome {
    pub(super) fn note(&mut self, error: &io::Error, datagrams: usize) {
        let counter = match error.raw_os_error() {
            Some(errno) if is_full(errno) => &mut self.full,
            Some(errno) if is_unreachable(errno) => &mut self.unreachable,
            Some(libc::EMSGSIZE) => &mut self.too_long,
            _ => &mut self.refused,
        };
        *counter += datagrams as u64;
    }
}

const fn is_full(errno: i32) -> bool {
    matches!(errno, libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM)
}

const fn is_unreachable(errno: i32) -> bool {
    matches!(
        errno,
        libc::ENETUNREACH
            | libc::EHOSTUNREACH
            | libc::ENETDOWN
            | libc::EHOSTDOWN
            | libc::ECONNREFUSED
            | libc::EADDRNOTAVAIL
            | libc::EACCES
            | libc::EPERM
    )
}
