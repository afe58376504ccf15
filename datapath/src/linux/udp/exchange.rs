//! Questions in, replies out: many datagrams in one call each way.

use std::io;
use std::mem;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::ptr;

use super::address::Storage;

/// Datagrams per system call.
const BATCH: usize = 32;
/// The longest question; a longer one is left out.
const QUESTION_BYTES_MAX: usize = 4_096;

/// Room for a batch of questions and their replies; belongs to the thread that made it.
#[derive(Debug)]
pub struct Exchange {
    questions: Vec<u8>,
    replies: Vec<Vec<u8>>,
    sources: Vec<Storage>,
    slots: Vec<libc::iovec>,
    headers: Vec<libc::mmsghdr>,
}

impl Default for Exchange {
    fn default() -> Self {
        Self {
            questions: vec![0; BATCH * QUESTION_BYTES_MAX],
            replies: vec![Vec::new(); BATCH],
            sources: vec![Storage::zeroed(); BATCH],
            slots: Vec::with_capacity(BATCH),
            headers: Vec::with_capacity(BATCH),
        }
    }
}

impl Exchange {
    /// Takes the questions that wait at `socket`, at most [`BATCH`], has each answered, and sends the replies. An empty
    /// reply is not sent, and neither is one for which the socket has no room. Returns how many questions there were,
    /// zero when none waits.
    ///
    /// # Errors
    /// As `recvmmsg(2)`. An error reported by the network for an earlier reply may surface here and ends nothing.
    pub fn run(
        &mut self,
        socket: &UdpSocket,
        mut answer: impl FnMut(SocketAddr, &[u8], &mut Vec<u8>),
    ) -> io::Result<usize> {
        let received = self.receive(socket)?;
        for index in 0..received {
            let header = &self.headers[index];
            let is_whole = header.msg_hdr.msg_flags & libc::MSG_TRUNC == 0;
            let question = &self.questions[index * QUESTION_BYTES_MAX..][..header.msg_len as usize];
            self.replies[index].clear();
            if is_whole {
                answer(self.sources[index].load(), question, &mut self.replies[index]);
            }
        }
        self.send(socket, received);
        Ok(received)
    }

    fn receive(&mut self, socket: &UdpSocket) -> io::Result<usize> {
        self.slots.clear();
        let slot = |bytes: &mut [u8]| libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        self.slots.extend(self.questions.chunks_mut(QUESTION_BYTES_MAX).map(slot));
        self.headers.clear();
        let parts = self.slots.iter_mut().zip(&mut self.sources);
        self.headers.extend(parts.map(|(slot, source)| header(source, size_of::<Storage>() as libc::socklen_t, slot)));
        // SAFETY: every header points at one live element of `sources` and of `slots`, and every slot at its own part of
        // `questions`; none of them moves before the call returns.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        usize::try_from(received).or_else(|_| match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            error => Err(error),
        })
    }

    /// Sends what there is for the first `received` questions, to where they came from.
    fn send(&mut self, socket: &UdpSocket, received: usize) {
        let lengths: [libc::socklen_t; BATCH] = std::array::from_fn(|index| match self.headers.get(index) {
            Some(header) => header.msg_hdr.msg_namelen,
            None => 0,
        });
        self.slots.clear();
        let replies = self.replies.iter_mut().take(received);
        let slot = |reply: &mut Vec<u8>| libc::iovec { iov_base: reply.as_mut_ptr().cast(), iov_len: reply.len() };
        self.slots.extend(replies.map(slot));
        self.headers.clear();
        let parts = self.slots.iter_mut().zip(self.sources.iter_mut().zip(lengths));
        let replies = parts.filter(|(slot, _)| slot.iov_len > 0);
        self.headers.extend(replies.map(|(slot, (source, length))| header(source, length, slot)));
        let mut done = 0;
        while let Some(rest) = self.headers.get_mut(done..).filter(|rest| !rest.is_empty()) {
            // SAFETY: every header points at one live element of `sources` and of `slots`, and every slot at one of
            // `replies`; the kernel only reads through them.
            let sent = unsafe {
                libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as libc::c_uint, libc::MSG_DONTWAIT)
            };
            done += usize::try_from(sent).unwrap_or_else(|_| skipped(&io::Error::last_os_error()));
        }
    }
}

/// How many datagrams to leave out after this failure of the first one.
fn skipped(error: &io::Error) -> usize {
    usize::from(error.kind() != io::ErrorKind::Interrupted)
}

fn header(name: &mut Storage, name_length: libc::socklen_t, slot: &mut libc::iovec) -> libc::mmsghdr {
    // SAFETY: all fields are integers and pointers, for which zero bytes are a value.
    let mut header: libc::mmsghdr = unsafe { mem::zeroed() };
    header.msg_hdr.msg_name = ptr::from_mut(name).cast();
    header.msg_hdr.msg_namelen = name_length;
    header.msg_hdr.msg_iov = slot;
    header.msg_hdr.msg_iovlen = 1;
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_is_answered_to_where_it_came_from() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let clients: Vec<_> = (0..3).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        for (number, client) in clients.iter().enumerate() {
            client.send_to(&vec![number as u8; number + 1], server.local_addr().unwrap()).unwrap();
        }
        let mut exchange = Exchange::default();

        let count = exchange.run(&server, |_, question, reply| {
            if question != [1, 1] {
                reply.extend_from_slice(question);
                reply.push(9);
            }
        });

        assert_eq!(count.unwrap(), 3);
        let mut buffer = [0; 16];
        let mut received = |client: &UdpSocket| {
            client.set_nonblocking(true).unwrap();
            client.recv(&mut buffer).ok().map(|length| buffer[..length].to_vec())
        };
        assert_eq!(received(&clients[0]), Some(vec![0, 9]));
        assert_eq!(received(&clients[1]), None);
        assert_eq!(received(&clients[2]), Some(vec![2, 2, 2, 9]));
        assert_eq!(exchange.run(&server, |_, _, _| ()).unwrap(), 0);
    }

    #[test]
    fn a_question_that_is_too_long_is_left_out() {
        let (server, client) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        client.send_to(&vec![0; QUESTION_BYTES_MAX + 1], server.local_addr().unwrap()).unwrap();
        let mut asked = 0;

        let count = Exchange::default().run(&server, |_, _, _| asked += 1).unwrap();

        assert_eq!((count, asked), (1, 0));
    }
}
