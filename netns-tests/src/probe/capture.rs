//! A packet socket in a namespace: every frame of one interface in, any frame out.

use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::ReceiveTimeout;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt, socket,
};
use nix::sys::time::TimeVal;

use crate::probe::eventually;
use crate::topology::Namespace;

/// A raw packet socket on one interface.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
}

impl PacketSocket {
    /// Opens one on `interface` in the namespace.
    pub fn open(namespace: &Namespace, interface: &str) -> Result<Self> {
        namespace.enter(|| {
            let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll)?;
            bind(socket.as_raw_fd(), &link_address(interface)?)?;
            setsockopt(&socket, ReceiveTimeout, &TimeVal::new(0, 20_000))?;
            Ok(Self { socket })
        })
    }

    /// Sends a whole Ethernet frame.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).context("cannot inject a frame")?;
        Ok(())
    }

    /// The next frame, or none within a moment.
    fn receive(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        match recv(self.socket.as_raw_fd(), buffer, MsgFlags::empty()) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::EAGAIN | Errno::EINTR | Errno::ENETDOWN) => Ok(None),
            Err(errno) => Err(errno).context("cannot capture"),
        }
    }
}

/// A running capture of one interface.
#[derive(Debug)]
pub struct Capture {
    frames: Arc<Mutex<Vec<Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// A capture stops growing here, so that a storm ends a test and not the machine.
const FRAMES_MAX: usize = 200_000;

impl Capture {
    /// Begins to collect what `interface` of the namespace sends and receives.
    pub fn start(namespace: &Namespace, interface: &str) -> Result<Self> {
        let socket = PacketSocket::open(namespace, interface)?;
        let (frames, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (collected, stopped) = (Arc::clone(&frames), Arc::clone(&stop));
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stopped.load(Ordering::Relaxed) {
                let Ok(received) = socket.receive(&mut buffer) else { return };
                let Some(length) = received else { continue };
                let mut frames = collected.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                if frames.len() < FRAMES_MAX {
                    frames.push(buffer[..length].to_vec());
                }
            }
        });
        Ok(Self { frames, stop, thread: Some(thread) })
    }

    /// How many frames so far are of a kind.
    pub fn count(&self, kind: impl Fn(&[u8]) -> bool) -> usize {
        let frames = self.frames.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        frames.iter().filter(|frame| kind(frame)).count()
    }

    /// Waits for the first frame of a kind.
    pub fn wait(&self, what: &str, deadline: Duration, kind: impl Fn(&[u8]) -> bool) -> Result<Duration> {
        eventually(deadline, &format!("captured: {what}"), || Ok(self.count(&kind) > 0))
    }

    /// Whether any frame holds these bytes, anywhere.
    pub fn contains(&self, bytes: &[u8]) -> bool {
        self.count(|frame| frame.windows(bytes.len()).any(|window| window == bytes)) > 0
    }

    /// Forgets what was seen.
    pub fn clear(&self) {
        self.frames.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The link-layer address of an interface of the calling thread's namespace. Its protocol is zero, which on `bind` keeps
/// the socket's own.
fn link_address(interface: &str) -> Result<LinkAddr> {
    let begin = Instant::now();
    loop {
        let found = getifaddrs()?.find(|entry| {
            entry.interface_name == interface && entry.address.is_some_and(|address| address.as_link_addr().is_some())
        });
        if let Some(address) = found.and_then(|entry| entry.address?.as_link_addr().copied()) {
            return Ok(address);
        }
        anyhow::ensure!(begin.elapsed() < Duration::from_secs(2), "no interface {interface}");
        std::thread::yield_now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::Topology;

    #[test]
    fn an_injected_frame_is_captured_at_the_other_host() -> Result<()> {
        let net = Topology::new()?;
        let (a, b) = (net.host()?, net.host()?);
        let capture = Capture::start(b.namespace(), "eth0")?;
        let frame = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[0x88, 0xb5], &[42; 60]].concat();

        PacketSocket::open(a.namespace(), "eth0")?.send(&frame)?;

        capture.wait("the frame", Duration::from_secs(2), |seen| seen == frame)?;
        assert!(capture.contains(&[42; 60]));
        Ok(())
    }
}
