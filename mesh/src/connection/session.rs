//! The open connection: messages over sealed records, both ways.
//!
//! ```text
//!  stream   | length: u16 | sealed record | length: u16 | sealed record | …        big-endian; length of the sealed part
//!  records, opened and joined:
//!           | length: u16 | message … | length: u16 | message | …                  a message may span records
//! ```
//! A record is sealed when it is taken, so that small messages waiting for a slow reader share one.

use snow::TransportState;

use super::{Error, RECORD_MAX_BYTES, SEND_QUEUE_MAX_BYTES, TAG_BYTES};
use crate::wire::MESSAGE_BYTES_MAX;

/// Octets of the length before a message.
const LENGTH_BYTES: usize = 2;
/// When this much of the unsent bytes was sent already, it is cut off.
const COMPACT_BYTES: usize = 256 * 1_024;

pub(super) struct Session {
    transport: Box<TransportState>,
    /// Length-prefixed messages not yet sealed, from `sealed` on.
    unsent: Vec<u8>,
    sealed: usize,
    /// The opened bytes of a message that is not complete yet.
    opened: Vec<u8>,
}

impl Session {
    pub(super) fn new(transport: Box<TransportState>) -> Self {
        Self { transport, unsent: Vec::new(), sealed: 0, opened: Vec::new() }
    }

    /// Queues one encoded message.
    pub(super) fn queue(&mut self, message: &[u8]) -> Result<(), Error> {
        if message.len() > MESSAGE_BYTES_MAX {
            return Err(Error::TooLong { bytes: message.len(), limit: MESSAGE_BYTES_MAX });
        }
        let bytes = self.backlog() + LENGTH_BYTES + message.len();
        if bytes > SEND_QUEUE_MAX_BYTES {
            return Err(Error::Backlog { bytes, limit: SEND_QUEUE_MAX_BYTES });
        }
        let length = u16::try_from(message.len()).expect("MESSAGE_BYTES_MAX is below 2^16");
        self.unsent.extend_from_slice(&length.to_be_bytes());
        self.unsent.extend_from_slice(message);
        Ok(())
    }

    /// Bytes that wait to be sealed.
    pub(super) const fn backlog(&self) -> usize {
        self.unsent.len() - self.sealed
    }

    /// Seals what waits into one record with its length in front.
    pub(super) fn next_record(&mut self) -> Option<Vec<u8>> {
        let bytes = self.backlog().min(RECORD_MAX_BYTES - TAG_BYTES);
        if bytes == 0 {
            return None;
        }
        let record = seal(&mut self.transport, &self.unsent[self.sealed..self.sealed + bytes]);
        self.sealed += bytes;
        if self.sealed == self.unsent.len() {
            self.unsent = Vec::new();
            self.sealed = 0;
        } else if self.sealed >= COMPACT_BYTES {
            self.unsent.drain(..self.sealed);
            self.sealed = 0;
        }
        Some(record)
    }

    /// Opens one record (without its length).
    pub(super) fn open(&mut self, record: &[u8]) -> Result<(), Error> {
        let plain = open(&mut self.transport, record)?;
        self.opened.extend_from_slice(&plain);
        Ok(())
    }

    /// Takes the complete messages out of what was opened.
    pub(super) fn take_messages(&mut self, mut take: impl FnMut(&[u8]) -> Result<(), Error>) -> Result<(), Error> {
        let mut taken = 0;
        while let Some((length, rest)) = self.opened[taken..].split_first_chunk::<LENGTH_BYTES>() {
            let length = usize::from(u16::from_be_bytes(*length));
            if length > MESSAGE_BYTES_MAX {
                return Err(Error::TooLong { bytes: length, limit: MESSAGE_BYTES_MAX });
            }
            let Some(message) = rest.get(..length) else { break };
            take(message)?;
            taken += LENGTH_BYTES + length;
        }
        if taken == self.opened.len() {
            self.opened = Vec::new();
        } else {
            self.opened.drain(..taken);
        }
        Ok(())
    }
}

/// One record with its length in front.
pub(super) fn seal(transport: &mut TransportState, plain: &[u8]) -> Vec<u8> {
    let sealed_bytes = plain.len() + TAG_BYTES;
    let length = u16::try_from(sealed_bytes).expect("callers keep records within RECORD_MAX_BYTES");
    let mut record = vec![0; 2 + sealed_bytes];
    record[..2].copy_from_slice(&length.to_be_bytes());
    transport.write_message(plain, &mut record[2..]).expect("the buffer fits and 2^64 records are never sent");
    record
}

pub(super) fn open(transport: &mut TransportState, record: &[u8]) -> Result<Vec<u8>, Error> {
    let mut plain = vec![0; record.len()];
    let bytes = transport.read_message(record, &mut plain).map_err(|_| Error::Seal)?;
    plain.truncate(bytes);
    Ok(plain)
}

#[cfg(test)]
impl Session {
    /// Seals bytes that are no message.
    pub(super) fn seal_raw(&mut self, plain: &[u8]) -> Vec<u8> {
        seal(&mut self.transport, plain)
    }
}
