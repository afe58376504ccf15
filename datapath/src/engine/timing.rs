//! What each peer needs when its time comes, and noticing that time itself was lost.
//!
//! ```text
//!   each event ──► arm(slot): the peer's earliest deadline ──► timers ──► drive(slot) ──► arm again
//! ```

use std::time::Duration;

use weave_mesh::time::Instant;

use crate::batch::Outbox;
use crate::drops::Drop;
use crate::engine::Engine;
use crate::engine::peers::Slot;
use crate::engine::status::{Event, Warning};
use crate::overlay::Change;

/// Being this late for a deadline means that our clock jumped or the process was stopped.
const STALL: Duration = Duration::from_millis(500);
/// From here on the operator hears of it.
const STALL_TO_REPORT: Duration = Duration::from_secs(2);
/// A deadline that was just served comes again no sooner.
const REST: Duration = Duration::from_millis(1);

impl Engine {
    /// Forgets evidence about paths if this host was away: answers that came meanwhile were not seen in time.
    pub(super) fn notice_stall(&mut self, now: Instant) {
        let Some(stopped) = self.poll_timeout().map(|due| now.since(due)).filter(|late| *late >= STALL) else { return };
        let slots: Vec<Slot> = self.peers.slots().collect();
        for slot in slots {
            let Some(peer) = self.peers.get_mut(slot) else { continue };
            peer.choice.distrust();
            peer.route.distrust();
            peer.canary.distrust_evidence();
            peer.path_mtu.distrust(now);
            self.rearm(slot, now);
        }
        if stopped >= STALL_TO_REPORT {
            self.emit(Event::Warning(Warning::ClockJumped { stopped }));
        }
    }

    pub(super) fn fire_timers(&mut self, now: Instant, out: &mut Outbox) {
        while let Some(&(at, slot)) = self.timers.first().filter(|(at, _)| *at <= now) {
            self.timers.remove(&(at, slot));
            if let Some(peer) = self.peers.get_mut(slot) {
                peer.armed = None;
            }
            self.drive(slot, now, out);
            self.arm_after(slot, now + REST, now);
        }
    }

    /// Makes sure that the peer is driven at its deadline. A later deadline is left for when the earlier one fires, so
    /// that a frame seldom touches the timers.
    pub(super) fn arm(&mut self, slot: Slot, now: Instant) {
        self.arm_after(slot, now, now);
    }

    fn arm_after(&mut self, slot: Slot, earliest: Instant, now: Instant) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let Some(at) = peer.deadline(now).map(|at| at.max(earliest)) else { return };
        if let Some(armed) = peer.armed {
            if armed <= at {
                return;
            }
            self.timers.remove(&(armed, slot));
        }
        peer.armed = Some(at);
        self.timers.insert((at, slot));
    }

    /// Replaces a deadline that is long past.
    fn rearm(&mut self, slot: Slot, now: Instant) {
        if let Some(armed) = self.peers.get_mut(slot).and_then(|peer| peer.armed.take()) {
            self.timers.remove(&(armed, slot));
        }
        self.arm(slot, now);
    }

    /// Does for a peer whatever is due.
    pub(super) fn drive(&mut self, slot: Slot, now: Instant, out: &mut Outbox) {
        self.expire(slot, now);
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let wanted = peer.is_wanted(now);
        if !wanted {
            peer.attempts.end(None);
        } else if peer.needs_handshake(now) {
            peer.attempts.begin(now);
        }
        let change = peer.choice.judge(now);
        peer.hasten_tick(now);
        let ticks = wanted && peer.sessions.current().is_some() && peer.tick_at <= now;
        self.announce(slot, change);
        self.send_due_initiations(slot, now, out);
        if ticks {
            self.tick(slot, now, out);
        }
        self.size_up(slot, now, out);
        self.try_segmented(slot, now, out);
        self.release_retired(slot);
        self.report_session(slot);
    }

    /// Forgets frames, sessions and probes that are past their time.
    fn expire(&mut self, slot: Slot, now: Instant) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        for _ in 0..peer.waiting.expire(&mut self.waiting_bytes, now) {
            self.drops.count(Drop::WaitedTooLong);
        }
        peer.sessions.expire(now);
        peer.route.expire(now);
        if peer.sessions.current().is_none() {
            peer.route.close();
            peer.choice.distrust();
            peer.canary.distrust_evidence();
        }
    }

    /// Returns names that the peer has no more use for.
    pub(super) fn release_retired(&mut self, slot: Slot) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        for index in peer.sessions.take_retired().into_iter().chain(peer.attempts.take_retired()) {
            self.indices.release(index);
        }
    }

    /// Tells control when the session to a peer works, works another way, or no more.
    pub(super) fn report_session(&mut self, slot: Slot) {
        let Some(peer) = self.peers.get_mut(slot) else { return };
        let works = peer.sessions.current().is_some() && !peer.route.is_down();
        let via = peer.route.way().filter(|_| works);
        if via == peer.reported {
            return;
        }
        peer.reported = via;
        let peer = peer.key;
        self.emit(match via {
            Some(via) => Event::SessionUp { peer, via },
            None => Event::SessionDown { peer },
        });
    }

    /// Tells control to carry out a change of carrier.
    pub(super) fn announce(&mut self, slot: Slot, change: Option<Change>) {
        let (Some(Change { carrier, reason }), Some(peer)) = (change, self.peers.get(slot)) else { return };
        self.emit(Event::CarrierChanged { peer: peer.key, carrier, reason });
    }

    /// Warns about a peer, at most once a minute.
    pub(super) fn warn(&mut self, slot: Slot, warning: Warning, now: Instant) {
        const EVERY: Duration = Duration::from_secs(60);
        let Some(peer) = self.peers.get_mut(slot) else { return };
        if peer.warned.is_none_or(|last| now.since(last) >= EVERY) {
            peer.warned = Some(now);
            self.emit(Event::Warning(warning));
        }
    }
}
