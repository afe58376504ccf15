//! Which container holds which addresses, on this host; and which of our addresses containers elsewhere hold.
//!
//! Invariants:
//! - an address is held by one container here at most;
//! - a container holds at most [`CONTAINER_ADDRESSES_MAX`] addresses.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::{Cidr, Error, Range};

/// How many addresses one container holds at most.
const CONTAINER_ADDRESSES_MAX: usize = 64;

/// One container takes or gives back one address; appended to a file, these are who holds what.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    Take { container: String, address: Cidr },
    Give { container: String, address: Ipv4Addr },
}

#[derive(Clone, Debug, Default)]
pub(super) struct Holdings {
    containers: BTreeMap<String, Vec<Cidr>>,
    holders: BTreeMap<u32, String>,
}

impl Holdings {
    pub(super) fn of(&self, container: &str) -> &[Cidr] {
        self.containers.get(container).map_or(&[], Vec::as_slice)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, &[Cidr])> {
        self.containers.iter().map(|(container, addresses)| (container.as_str(), addresses.as_slice()))
    }

    pub(super) fn holder(&self, address: u32) -> Option<&str> {
        self.holders.get(&address).map(String::as_str)
    }

    /// The addresses held inside `range`.
    pub(super) fn within(&self, range: Range) -> impl Iterator<Item = u32> {
        self.holders.range(range.first..=range.last).map(|(address, _)| *address)
    }

    /// `container` holds `address` from here on. Returns the change, if there is one.
    pub(super) fn take(&mut self, container: &str, address: Cidr) -> Result<Option<Change>, Error> {
        let number = u32::from(address.address());
        match self.holder(number) {
            Some(holder) if holder == container => return Ok(None),
            Some(holder) => return Err(Error::Held { address: address.address(), container: holder.to_owned() }),
            None => {}
        }
        if self.of(container).len() >= CONTAINER_ADDRESSES_MAX {
            return Err(Error::TooManyAddresses { container: container.to_owned() });
        }
        self.holders.insert(number, container.to_owned());
        self.containers.entry(container.to_owned()).or_default().push(address);
        Ok(Some(Change::Take { container: container.to_owned(), address }))
    }

    /// `container` gives back `address`, or all of its. Returns what it gave back.
    pub(super) fn give(&mut self, container: &str, address: Option<Ipv4Addr>) -> Vec<Ipv4Addr> {
        let Some(held) = self.containers.get_mut(container) else { return Vec::new() };
        let is_given = |cidr: &Cidr| address.is_none_or(|address| address == cidr.address());
        let given: Vec<Ipv4Addr> = held.iter().filter(|cidr| is_given(cidr)).map(|cidr| cidr.address()).collect();
        held.retain(|cidr| !is_given(cidr));
        if held.is_empty() {
            self.containers.remove(container);
        }
        for address in &given {
            self.holders.remove(&u32::from(*address));
        }
        given
    }

    /// `heir` has what `container` had. Returns the changes; none when the heir cannot take it.
    pub(super) fn pass_on(&mut self, container: &str, heir: &str, address: Cidr) -> Vec<Change> {
        if self.of(heir).len() >= CONTAINER_ADDRESSES_MAX || self.give(container, Some(address.address())).is_empty() {
            return Vec::new();
        }
        let given = Change::Give { container: container.to_owned(), address: address.address() };
        let taken = self.take(heir, address).ok().flatten();
        std::iter::once(given).chain(taken).collect()
    }

    /// Takes a persisted change into account; what contradicts an earlier one is left out.
    pub(super) fn replay(&mut self, change: &Change) {
        match change {
            Change::Take { container, address } => drop(self.take(container, *address)),
            Change::Give { container, address } => drop(self.give(container, Some(*address))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_is_held_by_one_container() {
        let mut holdings = Holdings::default();
        let address = cidr("10.32.0.1/12");
        assert!(holdings.take("a", address).unwrap().is_some());
        assert_eq!(holdings.take("a", address), Ok(None));
        assert!(matches!(holdings.take("b", address), Err(Error::Held { container, .. }) if container == "a"));
        assert_eq!(holdings.give("a", None), vec![address.address()]);
        assert!(holdings.take("b", address).unwrap().is_some());
    }

    #[test]
    fn an_address_that_is_passed_on_is_held_all_the_time() {
        let (mut holdings, mut again) = (Holdings::default(), Holdings::default());
        let address = cidr("10.32.0.1/12");
        again.replay(&holdings.take("a", address).unwrap().unwrap());

        let changes = holdings.pass_on("a", "b", address);
        changes.iter().for_each(|change| again.replay(change));

        assert_eq!(changes.len(), 2);
        assert_eq!((holdings.of("a"), holdings.of("b")), (&[][..], &[address][..]));
        assert!(holdings.all().eq(again.all()));
        assert!(holdings.pass_on("a", "b", address).is_empty(), "it has nothing any more");
    }

    #[test]
    fn changes_replayed_give_the_same_holdings() {
        let (mut holdings, mut again) = (Holdings::default(), Holdings::default());
        for (container, address) in [("a", "10.32.0.1/12"), ("a", "10.32.0.2/12"), ("b", "10.32.0.3/12")] {
            again.replay(&holdings.take(container, cidr(address)).unwrap().unwrap());
        }
        let address = Ipv4Addr::new(10, 32, 0, 1);
        holdings.give("a", Some(address));
        again.replay(&Change::Give { container: "a".into(), address });

        assert!(holdings.all().eq(again.all()));
        assert_eq!(again.of("a"), [cidr("10.32.0.2/12")]);
    }
}
