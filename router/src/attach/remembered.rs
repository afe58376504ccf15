//! Docker's containers that were attached by hand: whenever one starts it is attached again as it was, until it is detached
//! or removed.
//!
//! Invariant: what is in here is its container's. It was when it was put in, it stays so while the container does not run,
//! and it is taken out as soon as somebody else is given it by hand.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use weave_mesh::card::Subnet;

/// Containers that are remembered; further ones are attached, and not again.
const REMEMBERED_MAX: usize = 4_096;

/// How a container was attached.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manual {
    pub addresses: Vec<Subnet>,
    pub named: bool,
    pub multicast_route: bool,
}

/// By the container's id.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered(BTreeMap<String, Manual>);

impl Remembered {
    /// What a container is to have at its next start.
    pub fn get(&self, container: &str) -> Option<&Manual> {
        self.0.get(container)
    }

    pub fn containers(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// It was attached so, beside what it has by hand already. Returns whether that is new.
    pub fn add(&mut self, container: &str, manual: Manual) -> bool {
        if self.0.len() >= REMEMBERED_MAX && !self.0.contains_key(container) {
            return false;
        }
        let known = self.0.get(container).map(|known| known.addresses.clone()).unwrap_or_default();
        let gained = manual.addresses.into_iter().filter(|subnet| !known.contains(subnet));
        let addresses = known.iter().copied().chain(gained).collect();
        let manual = Manual { addresses, ..manual };
        self.0.insert(container.to_owned(), manual.clone()) != Some(manual)
    }

    /// These addresses are not its own any more. Returns whether they were.
    pub fn take(&mut self, container: &str, addresses: &[IpAddr]) -> bool {
        let Some(manual) = self.0.get_mut(container) else { return false };
        let before = manual.addresses.len();
        manual.addresses.retain(|subnet| !addresses.contains(&subnet.address));
        let is_less = manual.addresses.len() < before;
        if manual.addresses.is_empty() {
            self.0.remove(container);
        }
        is_less
    }

    /// Returns whether it was known.
    pub fn forget(&mut self, container: &str) -> bool {
        self.0.remove(container).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value::parse_subnet;

    fn manual(addresses: &[&str]) -> Manual {
        let addresses = addresses.iter().map(|text| parse_subnet(text).unwrap()).collect();
        Manual { addresses, named: true, multicast_route: true }
    }

    #[test]
    fn what_is_attached_by_hand_adds_up_and_goes_with_the_last_address() {
        let mut remembered = Remembered::default();
        let (one, other) = ("10.32.0.1/12", "10.2.0.1/24");

        assert!(remembered.add("a", manual(&[one])) && !remembered.add("a", manual(&[one])));
        assert!(remembered.add("a", manual(&[other])));
        assert_eq!(remembered.get("a"), Some(&manual(&[one, other])));

        let taken = |text: &str| [parse_subnet(text).unwrap().address];
        assert!(remembered.take("a", &taken(one)) && !remembered.take("a", &taken(one)));
        assert_eq!(remembered.get("a"), Some(&manual(&[other])));
        assert!(remembered.take("a", &taken(other)));
        assert_eq!(remembered.containers().count(), 0);
        assert!(!remembered.forget("a"));
    }

    #[test]
    fn only_so_many_are_remembered() {
        let mut remembered = Remembered::default();
        for number in 0..REMEMBERED_MAX {
            remembered.add(&number.to_string(), manual(&["10.32.0.1/12"]));
        }
        assert!(!remembered.add("one more", manual(&["10.32.0.1/12"])));
        assert!(remembered.add("0", manual(&["10.32.0.2/12"])));
    }
}
