//! Finds a session by the index in a packet, without hashing.
//!
//! ```text
//!   index = salt (12 bits, new for each use) │ place (20 bits)
//! ```
//!
//! The salt makes an index that was released name nothing: a late packet of an old session is not mistaken for the
//! session that has its place.

use std::collections::VecDeque;

use rand_core::RngCore;

use crate::sleeve::packet::Index;

/// Sessions and handshakes that exist at once; a peer has ten at most.
const PLACES_MAX: usize = 1 << PLACE_BITS;
const PLACE_BITS: u32 = 20;

/// Who owns each index; `T` is whatever finds the owner.
#[derive(Debug)]
pub struct Indices<T> {
    places: Vec<(Index, Option<T>)>,
    free: VecDeque<u32>,
}

impl<T> Default for Indices<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: VecDeque::new() }
    }
}

impl<T: Copy> Indices<T> {
    /// A fresh index, or nothing when all are taken.
    pub fn allocate(&mut self, owner: T, rng: &mut impl RngCore) -> Option<Index> {
        let place = match self.free.pop_front() {
            Some(place) => place,
            None => {
                let place = u32::try_from(self.places.len()).ok().filter(|&place| (place as usize) < PLACES_MAX)?;
                self.places.push((Index(place), None));
                place
            }
        };
        let salt = rng.next_u32() << PLACE_BITS;
        let index = Index(salt | place);
        self.places[place as usize] = (index, Some(owner));
        Some(index)
    }

    pub fn find(&self, index: Index) -> Option<T> {
        let (taken, owner) = self.places.get(Self::place(index))?;
        if *taken == index { *owner } else { None }
    }

    pub fn release(&mut self, index: Index) {
        let Some(entry) = self.places.get_mut(Self::place(index)) else { return };
        if entry.0 == index && entry.1.take().is_some() {
            self.free.push_back(index.0 & (PLACES_MAX as u32 - 1));
        }
    }

    const fn place(index: Index) -> usize {
        index.0 as usize & (PLACES_MAX - 1)
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha20Rng;
    use rand_core::SeedableRng;

    use super::*;

    #[test]
    fn an_index_names_its_owner_until_it_is_released() {
        let mut rng = ChaCha20Rng::seed_from_u64(1);
        let mut indices = Indices::default();
        let (first, second) = (indices.allocate('a', &mut rng).unwrap(), indices.allocate('b', &mut rng).unwrap());

        assert_eq!((indices.find(first), indices.find(second)), (Some('a'), Some('b')));
        indices.release(first);
        indices.release(first);
        assert_eq!((indices.find(first), indices.find(second)), (None, Some('b')));

        let third = indices.allocate('c', &mut rng).unwrap();
        assert_eq!((indices.find(first), indices.find(third)), (None, Some('c')));
    }

    #[test]
    fn an_index_from_outside_finds_nothing() {
        let indices: Indices<char> = Indices::default();

        assert!([0, 1, u32::MAX].into_iter().all(|index| indices.find(Index(index)).is_none()));
    }
}
