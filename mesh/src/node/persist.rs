//! What a node keeps across restarts, as values that the shell stores. Nothing read back is trusted: cards and sets are
//! checked again.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::card::SignedCard;
use crate::identity::PeerKey;
use crate::name::PeerName;
use crate::store::Part;

/// Something to make durable before any later output is carried out.
#[derive(Clone, Debug)]
pub enum Persist {
    /// The incarnation in use; fsynced, since the next start must choose a higher one.
    Incarnation(u64),
    /// The name in use: a collision took the earlier one away.
    Name(PeerName),
    /// A peer, replacing what is stored under its key.
    Member(Box<Member>),
}

/// A peer as it is remembered.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    pub key: PeerKey,
    pub card: SignedCard,
    /// Its last set, whole; empty when nothing of it is to be kept.
    pub set: Vec<Arc<Part>>,
    /// Where its sleeve was last heard.
    pub address: Option<SocketAddr>,
}

/// What was persisted, read back; empty at the first start.
#[derive(Clone, Debug, Default)]
pub struct Restored {
    pub incarnation: u64,
    pub members: Vec<Member>,
}
