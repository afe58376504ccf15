//! What IPAM has the node do.

use super::{Answer, Change, Error, Problem, RingNews, RingState, Ticket};
use crate::connector::ConnectionId;
use crate::identity::PeerKey;

/// Something for the node to do, in order.
#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Durable before what follows.
    PersistRing(Vec<u8>),
    PersistOwned(Change),
    Answer(Ticket, Result<Answer, Error>),
    /// A letter.
    Write(PeerKey, Vec<u8>),
    /// To every neighbour but one.
    Spread {
        news: RingNews,
        except: Option<ConnectionId>,
    },
    Tell(ConnectionId, RingNews),
    TellState(ConnectionId, RingState),
    Problem(PeerKey, Problem),
    /// Nothing of the peer matters any more.
    Forget(PeerKey),
    /// Rise above this incarnation of ours, which somebody calls dead.
    Refute(u64),
    /// The peer sent what it should not.
    Breach(PeerKey, &'static str),
}
