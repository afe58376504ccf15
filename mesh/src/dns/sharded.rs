//! A map of which copies are cheap and share what neither has changed.
//!
//! ```text
//!   the zone's     [ ● ● ● ● … ]        256 parts; a change copies one part, if a copy still shares it
//!                    │ │ ╲ │
//!   a snapshot     [ ● ● ● ● … ]
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

/// With ten thousand names a part has forty; with a million it is still a tree.
const PARTS: usize = 256;

/// What spreads over the parts.
pub(super) trait Spread {
    /// Evenly distributed; whoever contrives collisions makes one part's tree larger.
    fn spread(&self) -> usize;
}

impl Spread for str {
    /// FNV-1a.
    fn spread(&self) -> usize {
        fnv(self.bytes())
    }
}

impl Spread for std::net::IpAddr {
    fn spread(&self) -> usize {
        match self {
            Self::V4(address) => fnv(address.octets()),
            Self::V6(address) => fnv(address.octets()),
        }
    }
}

fn fnv(octets: impl IntoIterator<Item = u8>) -> usize {
    let hash =
        octets.into_iter().fold(0x811c_9dc5_u32, |hash, octet| (hash ^ u32::from(octet)).wrapping_mul(0x0100_0193));
    (hash ^ hash >> 16) as usize % PARTS
}

#[derive(Clone, Debug)]
pub(super) struct Sharded<K, V> {
    parts: Vec<Arc<BTreeMap<K, V>>>,
}

impl<K, V> Default for Sharded<K, V> {
    fn default() -> Self {
        Self { parts: vec![Arc::default(); PARTS] }
    }
}

impl<K: Ord + Clone, V: Clone + Default> Sharded<K, V> {
    pub(super) fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: std::borrow::Borrow<Q>,
        Q: Ord + Spread + ?Sized,
    {
        self.parts[key.spread()].get(key)
    }

    /// Changes the value under `key`, a default one when there is none, and drops it when `change` says that it is empty.
    pub(super) fn change<Q>(&mut self, key: &Q, change: impl FnOnce(&mut V) -> Fate)
    where
        K: std::borrow::Borrow<Q>,
        Q: Ord + Spread + ToOwned + ?Sized,
        <Q as ToOwned>::Owned: Into<K>,
    {
        let part = Arc::make_mut(&mut self.parts[key.spread()]);
        let fate = match part.get_mut(key) {
            Some(value) => change(value),
            None => change(part.entry(key.to_owned().into()).or_default()),
        };
        if fate == Fate::Drop {
            part.remove(key);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.parts.iter().flat_map(|part| part.iter())
    }
}

/// Whether a value stays in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Keep,
    Drop,
}

#[cfg(test)]
impl<K, V> Sharded<K, V> {
    pub(super) fn parts_changed_since(&self, older: &Self) -> usize {
        self.parts.iter().zip(&older.parts).filter(|(one, other)| !Arc::ptr_eq(one, other)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_does_not_see_later_changes_and_shares_what_has_none() {
        let mut map = Sharded::<Box<str>, u32>::default();
        for name in ["a", "b", "c"] {
            map.change(name, |value| {
                *value = 1;
                Fate::Keep
            });
        }
        let copy = map.clone();

        map.change("a", |value| {
            *value = 2;
            Fate::Keep
        });
        map.change("b", |_| Fate::Drop);

        let all = |map: &Sharded<Box<str>, u32>| ["a", "b", "c"].map(|name| map.get(name).copied());
        assert_eq!(all(&copy), [Some(1), Some(1), Some(1)]);
        assert_eq!(all(&map), [Some(2), None, Some(1)]);
        assert_eq!(map.parts_changed_since(&copy), 2);
    }
}
