//! What a responder remembers of a peer's handshakes, so that none is accepted twice.

/// The newest handshake seen from one peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Memory {
    incarnation: u64,
    timestamp: u64,
}

impl Memory {
    /// A card of the peer was seen. A newer incarnation has a clock of its own, which may be behind the last one's.
    pub const fn see_incarnation(&mut self, incarnation: u64) {
        if incarnation > self.incarnation {
            *self = Self { incarnation, timestamp: 0 };
        }
    }

    /// Whether a handshake is newer than all before it; if so, it is remembered.
    pub const fn admit(&mut self, incarnation: u64, timestamp: u64) -> bool {
        self.see_incarnation(incarnation);
        let is_newer = incarnation == self.incarnation && timestamp > self.timestamp;
        if is_newer {
            self.timestamp = timestamp;
        }
        is_newer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_admitted_once_and_in_order() {
        let mut memory = Memory::default();

        assert!(memory.admit(1, 10));
        assert!(!memory.admit(1, 10));
        assert!(!memory.admit(1, 9));
        assert!(memory.admit(1, 11));
    }

    #[test]
    fn a_newer_incarnation_starts_afresh_and_ends_the_older() {
        let mut memory = Memory::default();
        assert!(memory.admit(1, 1_000));

        assert!(memory.admit(2, 5), "its clock was set back");
        assert!(!memory.admit(1, 2_000), "a recording of the older one");
        memory.see_incarnation(3);
        assert!(!memory.admit(2, 6));
    }
}
