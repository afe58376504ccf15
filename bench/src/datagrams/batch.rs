//! Many datagrams in one system call, all alike.

use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use anyhow::Result;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, recvmmsg, sendmmsg};

use super::Shape;

/// Messages in one call.
const BATCH: usize = 32;
/// Datagrams that the kernel cuts out of one message at most (Linux: `UDP_MAX_SEGMENTS`, 64 before 6.9).
const SEGMENTS_MAX: usize = 64;
/// What one message can hold: an IPv4 packet without its headers.
const MESSAGE_BYTES_MAX: usize = 65_507;

/// Hands datagrams to a connected socket.
pub(super) struct Sender<'a> {
    socket: &'a UdpSocket,
    headers: MultiHeaders<()>,
    message: Vec<u8>,
    /// Datagrams in a message.
    segments: usize,
    sent: u64,
}

impl<'a> Sender<'a> {
    pub(super) fn new(socket: &'a UdpSocket, shape: Shape) -> Self {
        let segments = if shape.segmented { (MESSAGE_BYTES_MAX / shape.payload).min(SEGMENTS_MAX) } else { 1 };
        let message = vec![0x5a; shape.payload * segments];
        Self { socket, headers: MultiHeaders::preallocate(BATCH, None), message, segments, sent: 0 }
    }

    /// Sends at most this many in whole messages; how many it sent.
    pub(super) fn send(&mut self, datagrams: usize) -> Result<u64> {
        let messages = (datagrams / self.segments).min(BATCH);
        if messages == 0 {
            return Ok(0);
        }
        let slices = [[IoSlice::new(&self.message)]; BATCH];
        let flags = MsgFlags::empty();
        let results =
            sendmmsg(self.socket.as_raw_fd(), &mut self.headers, &slices[..messages], [None; BATCH], [], flags);
        let sent = match results {
            Ok(results) => results.count(),
            // A full queue of a device: the datagram is lost, as any other in a queue further on.
            Err(Errno::ENOBUFS) => 1,
            Err(error) => return Err(error.into()),
        };
        let datagrams = (sent * self.segments) as u64;
        self.sent += datagrams;
        Ok(datagrams)
    }

    /// How many datagrams leave in one send.
    pub(super) fn least(&self) -> usize {
        self.segments
    }

    pub(super) fn sent(&self) -> u64 {
        self.sent
    }
}

/// Takes datagrams from a socket with a time-out.
pub(super) struct Receiver<'a> {
    socket: &'a UdpSocket,
    headers: MultiHeaders<()>,
    buffers: Vec<u8>,
    buffer_bytes: usize,
    payload: usize,
}

impl<'a> Receiver<'a> {
    pub(super) fn new(socket: &'a UdpSocket, shape: Shape) -> Self {
        let buffer_bytes = if shape.segmented { MESSAGE_BYTES_MAX } else { shape.payload };
        let headers = MultiHeaders::preallocate(BATCH, None);
        Self { socket, headers, buffers: vec![0; buffer_bytes * BATCH], buffer_bytes, payload: shape.payload }
    }

    /// Waits for some, and counts them; zero after the time-out. Joined ones are told apart by their common size.
    pub(super) fn receive(&mut self) -> Result<u64> {
        let buffers = self.buffers.chunks_mut(self.buffer_bytes);
        let mut slices: Vec<_> = buffers.map(|buffer| [IoSliceMut::new(buffer)]).collect();
        let flags = MsgFlags::MSG_WAITFORONE;
        match recvmmsg(self.socket.as_raw_fd(), &mut self.headers, slices.iter_mut(), flags, None) {
            Ok(messages) => Ok(messages.map(|message| (message.bytes / self.payload) as u64).sum()),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}
