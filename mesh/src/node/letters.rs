//! Letters: for us, or passed on.
//!
//! ```text
//!   Letter ──► signed? ──► within what the neighbour and the author may send? ──► for us: IPAM
//!                                                                             └──► for another: the next hop
//! ```
//!
//! Every hop checks the signature, so that what an author is allowed cannot be used up by somebody else in its name, and a
//! forged letter goes no further than one connection.

use super::Node;
use crate::allowance::Allowance;
use crate::connector::ConnectionId;
use crate::ipam::Note;
use crate::letter::Letter;
use crate::time::Instant;
use crate::wire::Message;

/// What a neighbour may hand us of its own and of others' letters, octets: far more than one inheritance in a large mesh.
pub(super) const LETTERS: Allowance = Allowance::new(4 << 20, 16 << 20);
/// What one author may send through us or to us, octets.
pub(crate) const AUTHORED: Allowance = Allowance::new(1 << 20, 8 << 20);
/// What a letter costs beside its body, octets: the check of its signature.
const LETTER_BYTES_EACH: usize = 1_024;

impl Node {
    pub(super) fn handle_letter(&mut self, from: ConnectionId, letter: Letter, now: Instant) {
        let cost = (LETTER_BYTES_EACH + letter.body.len()) as u64;
        if !self.links.get_mut(from).is_some_and(|link| link.letters.take(cost, now)) || letter.from == self.key() {
            return;
        }
        if !letter.is_signed(&self.verifier) {
            self.close_for_breach(from, "a letter that its author did not sign".into(), now);
            return;
        }
        if !self.members.allow_letter(&letter.from, cost, now) {
            return;
        }
        if letter.to != self.key() {
            if let Some(letter) = letter.forwarded() {
                self.post(letter);
            }
        } else if let Some(note) = Note::decode(&letter.body) {
            if self.ipam.is_none() && note == Note::AskRole {
                // Without addresses we have no say in who gets which.
                let (identity, mesh) = (self.own.identity(), self.own.card().mesh);
                self.post(Letter::sign(identity, mesh, letter.from, Note::Observes.encode()));
            }
            self.inform_ipam(now, |ipam, near| ipam.handle_note(letter.from, note, near));
        }
    }

    /// Sends a letter on its way; without one it is lost.
    pub(super) fn post(&mut self, letter: Letter) {
        let next = self.topology.next_hop(&letter.to).unwrap_or(letter.to);
        if let Some((connection, _)) = self.links.live_to(&next) {
            self.send(connection, Message::Letter(letter));
        }
    }
}
