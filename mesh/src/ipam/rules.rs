//! The rules on which safety rests, by name.
//!
//! They are always kept. Tests of the simulator build peers that break one of them, to see that it finds out; no other
//! build can.

/// A rule that a bug could break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rule {
    /// A grant is durable before it is told.
    PersistGrant,
    /// A vote is durable before it is told.
    PersistVote,
    /// A vote outlives the daemon.
    #[cfg(test)]
    RememberVote,
    /// A quorum has a majority of the peers given to each of its members.
    SeedsMajority,
    /// An heir has the consent of everybody not certified dead.
    EveryConsent,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Rules {
    #[cfg(test)]
    broken: Option<Rule>,
}

impl Rules {
    #[cfg(test)]
    pub(crate) const fn broken(rule: Rule) -> Self {
        Self { broken: Some(rule) }
    }

    #[cfg(test)]
    pub(crate) fn keeps(self, rule: Rule) -> bool {
        self.broken != Some(rule)
    }

    #[cfg(not(test))]
    #[expect(clippy::unused_self, reason = "what is asked is the same in every build")]
    pub(crate) const fn keeps(self, _rule: Rule) -> bool {
        true
    }
}
