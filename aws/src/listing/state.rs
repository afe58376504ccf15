//! The states of instances, as EC2 and Auto Scaling spell them.

use std::fmt;

/// What EC2 says of an instance (API reference, `InstanceState`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InstanceState {
    Pending,
    Running,
    ShuttingDown,
    Terminated,
    Stopping,
    Stopped,
    /// A word that we do not know, or none.
    Unknown(String),
}

impl InstanceState {
    pub(crate) fn of_word(word: &str) -> Self {
        match word {
            "pending" => Self::Pending,
            "running" => Self::Running,
            "shutting-down" => Self::ShuttingDown,
            "terminated" => Self::Terminated,
            "stopping" => Self::Stopping,
            "stopped" => Self::Stopped,
            _ => Self::Unknown(word.to_owned()),
        }
    }
}

impl fmt::Display for InstanceState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::ShuttingDown => "shutting-down",
            Self::Terminated => "terminated",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Unknown(word) => word,
        })
    }
}

/// What an Auto Scaling group does with an instance (API reference, `LifecycleState`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    Pending(Stage),
    Quarantined,
    InService,
    Terminating(Stage),
    Terminated,
    Detaching,
    Detached,
    EnteringStandby,
    Standby,
    /// The instance stays and gets a new disk.
    ReplacingRootVolume(Stage),
    RootVolumeReplaced,
    /// In the warm pool, mostly stopped; what follows `Warmed:`.
    Warmed(String),
    /// A word that we do not know.
    Unknown(String),
}

/// How far a change is, where hooks may hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It has begun.
    Begun,
    /// A hook holds it.
    Wait,
    /// The hook let it go.
    Proceed,
    /// The hook failed, and the instance is kept.
    Retained,
}

impl Stage {
    const ALL: [Self; 4] = [Self::Begun, Self::Wait, Self::Proceed, Self::Retained];

    fn suffix(self) -> &'static str {
        match self {
            Self::Begun => "",
            Self::Wait => ":Wait",
            Self::Proceed => ":Proceed",
            Self::Retained => ":Retained",
        }
    }
}

impl Lifecycle {
    pub(crate) fn of_word(word: &str) -> Self {
        if let Some(rest) = word.strip_prefix("Warmed:") {
            return Self::Warmed(rest.to_owned());
        }
        let staged = |name: &str| {
            let rest = word.strip_prefix(name)?;
            Stage::ALL.into_iter().find(|stage| stage.suffix() == rest)
        };
        match word {
            "Quarantined" => Self::Quarantined,
            "InService" => Self::InService,
            "Terminated" => Self::Terminated,
            "Detaching" => Self::Detaching,
            "Detached" => Self::Detached,
            "EnteringStandby" => Self::EnteringStandby,
            "Standby" => Self::Standby,
            "RootVolumeReplaced" => Self::RootVolumeReplaced,
            _ => (staged("Pending").map(Self::Pending))
                .or_else(|| staged("Terminating").map(Self::Terminating))
                .or_else(|| staged("ReplacingRootVolume").map(Self::ReplacingRootVolume))
                .unwrap_or_else(|| Self::Unknown(word.to_owned())),
        }
    }
}

impl fmt::Display for Lifecycle {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending(stage) => write!(formatter, "Pending{}", stage.suffix()),
            Self::Quarantined => formatter.write_str("Quarantined"),
            Self::InService => formatter.write_str("InService"),
            Self::Terminating(stage) => write!(formatter, "Terminating{}", stage.suffix()),
            Self::Terminated => formatter.write_str("Terminated"),
            Self::Detaching => formatter.write_str("Detaching"),
            Self::Detached => formatter.write_str("Detached"),
            Self::EnteringStandby => formatter.write_str("EnteringStandby"),
            Self::Standby => formatter.write_str("Standby"),
            Self::ReplacingRootVolume(stage) => write!(formatter, "ReplacingRootVolume{}", stage.suffix()),
            Self::RootVolumeReplaced => formatter.write_str("RootVolumeReplaced"),
            Self::Warmed(rest) => write!(formatter, "Warmed:{rest}"),
            Self::Unknown(word) => formatter.write_str(word),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_word_of_the_reference_is_known() {
        let words = "Pending Pending:Wait Pending:Proceed Quarantined InService Terminating Terminating:Wait \
            Terminating:Proceed Terminating:Retained Terminated Detaching Detached EnteringStandby Standby \
            ReplacingRootVolume ReplacingRootVolume:Wait ReplacingRootVolume:Proceed RootVolumeReplaced \
            Warmed:Pending Warmed:Pending:Wait Warmed:Terminating Warmed:Stopped Warmed:Running Warmed:Hibernated";
        for word in words.split_whitespace() {
            let read = Lifecycle::of_word(word);
            assert!(!matches!(read, Lifecycle::Unknown(_)), "{word}");
            assert_eq!(read.to_string(), word);
        }
        for word in "pending running shutting-down terminated stopping stopped".split_whitespace() {
            assert!(!matches!(InstanceState::of_word(word), InstanceState::Unknown(_)), "{word}");
        }
    }

    proptest! {
        #[test]
        fn no_word_is_lost(word in "(Pending|Warmed:|Terminating:|Standby|running)?.{0,20}") {
            prop_assert_eq!(&Lifecycle::of_word(&word).to_string(), &word);
            prop_assert_eq!(&InstanceState::of_word(&word).to_string(), &word);
        }
    }
}
