//! The reading side of a connection, with what came and has not been passed on.
//!
//! Invariant: a connection on which nothing waits to be passed on holds no buffer, so idle ones cost next to nothing.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::pin;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The octets that one read may bring.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;
/// With less room than that behind what was read ahead, the buffer grows.
const ROOM_MIN_BYTES: usize = 4 * 1024;

thread_local! {
    /// Reading needs a buffer even when nothing is there: this one is used for all that find nothing.
    static SPARE: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// A reader, and what was read ahead.
#[derive(Debug)]
pub(crate) struct Source<R> {
    stream: R,
    ahead: Vec<u8>,
    start: usize,
    has_ended: bool,
}

impl<R: AsyncRead + Unpin> Source<R> {
    pub(crate) fn new(stream: R) -> Self {
        Self { stream, ahead: Vec::new(), start: 0, has_ended: false }
    }

    /// What waits to be passed on.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.ahead[self.start..]
    }

    /// Nothing will come any more.
    pub(crate) fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// That much was passed on.
    pub(crate) fn consume(&mut self, length: usize) {
        self.start += length;
        if self.start >= self.ahead.len() {
            self.start = 0;
            give_back(std::mem::take(&mut self.ahead));
        }
    }

    /// Reads once, behind what is there; says whether anything came. Given up, it loses nothing.
    pub(crate) async fn fill(&mut self) -> io::Result<bool> {
        if self.has_ended {
            return Ok(false);
        }
        self.make_room();
        let length = poll_fn(|context| {
            let is_empty = self.ahead.is_empty();
            let mut buffer = if is_empty { spare() } else { std::mem::take(&mut self.ahead) };
            let polled = pin!(self.stream.read_buf(&mut buffer)).poll(context);
            if buffer.is_empty() {
                give_back(buffer);
            } else {
                self.ahead = buffer;
            }
            polled
        });
        let length = length.await?;
        self.has_ended = length == 0;
        Ok(length > 0)
    }

    fn make_room(&mut self) {
        if self.ahead.is_empty() || self.ahead.capacity() - self.ahead.len() >= ROOM_MIN_BYTES {
            return;
        }
        self.ahead.drain(..self.start);
        self.start = 0;
        self.ahead.reserve(BUFFER_BYTES);
    }
}

fn spare() -> Vec<u8> {
    let mut buffer = SPARE.take();
    buffer.reserve(BUFFER_BYTES);
    buffer
}

fn give_back(mut buffer: Vec<u8>) {
    // A buffer that had to grow is not worth keeping.
    if buffer.capacity() <= 2 * BUFFER_BYTES {
        buffer.clear();
        SPARE.set(buffer);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn what_was_read_ahead_stays_until_it_is_consumed() {
        let (mut theirs, ours) = tokio::io::duplex(64);
        let mut source = Source::new(ours);
        theirs.write_all(b"abc").await.unwrap();
        assert!(source.fill().await.unwrap());
        source.consume(1);
        theirs.write_all(b"def").await.unwrap();
        drop(theirs);

        assert!(source.fill().await.unwrap());
        assert_eq!(source.bytes(), b"bcdef");
        assert!(!source.fill().await.unwrap());
        assert!(source.has_ended());
        source.consume(5);
        assert_eq!(source.ahead.capacity(), 0, "an idle connection holds no buffer");
    }
}
