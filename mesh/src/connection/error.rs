//! Why a connection ended; each text says what to do when the operator can do something.

use std::time::Duration;

use super::header::Versions;
use crate::card::CardError;
use crate::name::MeshId;
use crate::wire::DecodeError;

/// A connection that failed is over: whatever [`poll_transmit`](super::Connection::poll_transmit) still returns is for
/// the other end's log, then the stream is closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the other end does not speak the weave protocol; is another service at this port?")]
    NotWeave,
    #[error("the other end speaks protocol {theirs}, this peer speaks {ours}; run the same release on both")]
    Version { ours: Versions, theirs: Versions },
    #[error("no answer to the handshake within {0:?}")]
    Deadline(Duration),
    #[error("message of {bytes} bytes where at most {limit} are allowed")]
    TooLong { bytes: usize, limit: usize },
    #[error("wrong password: the other end's message opens with none of this peer's passwords")]
    WrongPassword,
    #[error("wrong password: the other end could not open this peer's message and rejected it")]
    Rejected,
    #[error("the other end belongs to mesh {theirs}, this peer to {ours}; give both the same --mesh")]
    OtherMesh { ours: MeshId, theirs: MeshId },
    #[error("the other end's card is unusable: {0}")]
    Card(#[from] CardError),
    #[error("the other end's card does not decode")]
    MalformedCard,
    #[error("the other end's card names another static key than its handshake used")]
    OtherKey,
    #[error("the other end's handshake message is malformed or was altered on the way")]
    Handshake,
    #[error("a record does not open: it was altered, repeated or truncated on the way")]
    Seal,
    #[error("the other end sent a malformed message: {0}")]
    Message(#[from] DecodeError),
    #[error("the other end does not read: {bytes} bytes are waiting to be sent, at most {limit} may")]
    Backlog { bytes: usize, limit: usize },
    #[error("not connected yet: nothing is sent before the other end has proved itself")]
    NotOpen,
}
