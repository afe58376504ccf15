//! The TAP device: where frames leave the bridge for user space and come back.
//!
//! ```text
//!   read:   virtio-net header (12) | Ethernet frame        write: the same
//! ```
//!
//! - The device is persistent: it stays a bridge port while no daemon runs, and attaching to it again is instant.
//! - The kernel hands over super-frames of up to 64 KiB and leaves checksums unfinished, and takes the same.
//! - The descriptor does not block.

use std::ffi::{c_char, c_int};
use std::fs::OpenOptions;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;

use crate::offload::coalesce::{Delivery, MERGED_MAX, Merge};
use crate::offload::vnet::{HEADER_BYTES, Header};
use crate::plan::LinkName;

/// Why a TAP device cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot open /dev/net/tun: {0}; load the kernel module `tun`, and run as root or with CAP_NET_ADMIN")]
    Open(#[source] io::Error),
    #[error("TAP device `{0}` is in use by another process; stop the other daemon or choose another --bridge")]
    Busy(LinkName),
    #[error("`{name}` exists and cannot serve as our TAP device: {source}; remove it with `ip link delete {name}`")]
    Foreign { name: LinkName, source: io::Error },
    #[error("cannot set {what} of TAP device `{name}`: {source}")]
    Configure { name: LinkName, what: &'static str, source: io::Error },
}

/// An open TAP device.
#[derive(Debug)]
pub struct Tap {
    file: OwnedFd,
    name: LinkName,
    merge: Merge,
}

impl Tap {
    /// Creates the persistent TAP device `name` in the calling thread's network namespace, or attaches to the one that
    /// an earlier process left there.
    ///
    /// # Errors
    /// When the kernel lacks TUN/TAP, the capability is missing, or the name belongs to something else.
    pub fn open(name: &LinkName) -> Result<Self, Error> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .map_err(Error::Open)?;
        let mut tap = Self { file: file.into(), name: name.clone(), merge: Merge::Tcp };
        tap.attach()?;
        let header_bytes = HEADER_BYTES as c_int;
        tap.configure("header size", libc::TUNSETVNETHDRSZ, (&raw const header_bytes).addr())?;
        if tap.ioctl(libc::TUNSETOFFLOAD, TCP_OFFLOADS | UDP_OFFLOADS).is_ok() {
            tap.merge = Merge::TcpAndUdp;
        } else {
            tap.configure("offloads", libc::TUNSETOFFLOAD, TCP_OFFLOADS)?;
        }
        tap.configure("persistence", libc::TUNSETPERSIST, PERSISTENT)?;
        Ok(tap)
    }

    pub fn name(&self) -> &LinkName {
        &self.name
    }

    /// What the kernel takes as one frame.
    pub const fn merge(&self) -> Merge {
        self.merge
    }

    fn attach(&self) -> Result<(), Error> {
        let flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as i16;
        let mut request =
            libc::ifreq { ifr_name: [0; libc::IFNAMSIZ], ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_flags: flags } };
        for (to, from) in request.ifr_name.iter_mut().zip(self.name.as_str().bytes()) {
            *to = from as c_char;
        }
        self.ioctl(libc::TUNSETIFF, (&raw const request).addr()).map_err(|source| match source.raw_os_error() {
            Some(libc::EBUSY) => Error::Busy(self.name.clone()),
            Some(libc::EPERM) => Error::Open(source),
            _ => Error::Foreign { name: self.name.clone(), source },
        })
    }

    fn configure(&self, what: &'static str, request: libc::Ioctl, argument: usize) -> Result<(), Error> {
        self.ioctl(request, argument).map_err(|source| Error::Configure { name: self.name.clone(), what, source })
    }

    fn ioctl(&self, request: libc::Ioctl, argument: usize) -> io::Result<()> {
        // SAFETY: the descriptor is open; `argument` is an integer, or the address of a value of the type that
        // `request` reads, alive in the caller's frame.
        let result = unsafe { libc::ioctl(self.file.as_raw_fd(), request, argument) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads one frame into `buffer` and returns its header and length, or `None` when none waits.
    ///
    /// # Errors
    /// As `readv(2)`: `EBADFD` after the device was deleted under us, `EIO` while it is down.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<(Header, usize)>> {
        let mut header = [0; HEADER_BYTES];
        let parts = &mut [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
        match rustix::io::readv(&self.file, parts) {
            Ok(length) => Ok(length.checked_sub(HEADER_BYTES).map(|frame| (Header::decode(header), frame))),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes one frame that lies in pieces.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub fn deliver(&self, delivery: &Delivery<'_>) -> io::Result<()> {
        let header = delivery.header.encode();
        let mut parts = [IoSlice::new(&[]); 1 + MERGED_MAX];
        parts[0] = IoSlice::new(&header);
        let mut count = 1;
        for (part, piece) in parts[1..].iter_mut().zip(delivery.pieces()) {
            *part = IoSlice::new(piece);
            count += 1;
        }
        rustix::io::writev(&self.file, &parts[..count])?;
        Ok(())
    }

    /// Writes one frame.
    ///
    /// # Errors
    /// As `writev(2)`: `EINVAL` for what is no frame, `EIO` while the device is down, `ENOBUFS` and `EAGAIN` under
    /// memory pressure. None of them says anything about the next frame.
    pub fn send(&self, header: Header, frame: &[u8]) -> io::Result<()> {
        rustix::io::writev(&self.file, &[IoSlice::new(&header.encode()), IoSlice::new(frame)])?;
        Ok(())
    }
}

impl AsFd for Tap {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

const TCP_OFFLOADS: usize = (libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6 | libc::TUN_F_TSO_ECN) as usize;
/// Linux 6.2.
const UDP_OFFLOADS: usize = (libc::TUN_F_USO4 | libc::TUN_F_USO6) as usize;
const PERSISTENT: usize = 1;
