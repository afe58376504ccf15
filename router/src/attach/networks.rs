//! What was asked of Docker's networks when they were made, as it is written down: Docker says it once.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// Networks that are not as usual; more are made as usual.
const UNUSUAL_MAX: usize = 4_096;

/// Those whose containers keep their multicast to their other networks, by id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks(BTreeSet<String>);

/// There are too many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{UNUSUAL_MAX} networks have works.weave.multicast=false, as many as a host remembers; remove some first")]
pub struct TooManyNetworks;

impl Networks {
    /// Whether multicast of containers leaves by this network; a network that is gone is as any other.
    ///
    /// # Errors
    /// When nothing more can be remembered.
    pub fn set_multicast(&mut self, network: &str, is_routed: bool) -> Result<(), TooManyNetworks> {
        if is_routed {
            self.0.remove(network);
        } else if self.0.len() < UNUSUAL_MAX {
            self.0.insert(network.to_owned());
        } else {
            return Err(TooManyNetworks);
        }
        Ok(())
    }

    pub fn routes_multicast(&self, network: &str) -> bool {
        !self.0.contains(network)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_usual_is_not_remembered() {
        let mut networks = Networks::default();
        assert!(networks.routes_multicast("a"));

        networks.set_multicast("a", false).unwrap();
        networks.set_multicast("b", true).unwrap();
        assert_eq!([networks.routes_multicast("a"), networks.routes_multicast("b")], [false, true]);
        networks.set_multicast("a", true).unwrap();

        assert_eq!(networks, Networks::default());
    }

    #[test]
    fn there_is_an_end_to_what_is_remembered() {
        let mut networks = Networks::default();
        for number in 0..UNUSUAL_MAX {
            networks.set_multicast(&number.to_string(), false).unwrap();
        }

        assert_eq!(networks.set_multicast("x", false), Err(TooManyNetworks));
        assert_eq!(networks.set_multicast("x", true), Ok(()));
    }
}
