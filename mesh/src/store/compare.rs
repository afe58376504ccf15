//! Comparing two stores in three steps, each only where the one before differs: one hash, 64 buckets, versions.
//!
//! The bucket hashes are sums (exclusive or) over owner and version, so that a changed version costs two operations.
//! They find accidents, not attacks: a member who made two versions collide would hide only its own news, and only from
//! this comparison.

use std::collections::BTreeMap;

use super::{Store, Tag, Version};
use crate::identity::digest;
use crate::wire::{Buckets, COMPARED_BUCKETS, Offer, Summary, Versions};

/// How many offers one message of versions holds. A bucket with more (only keys made for it do that) is cut short, which
/// costs needless offers and loses nothing.
const VERSIONS_PER_MESSAGE: usize = 512;

#[derive(Debug)]
pub(super) struct BucketHashes([u64; COMPARED_BUCKETS]);

impl Default for BucketHashes {
    fn default() -> Self {
        Self([0; COMPARED_BUCKETS])
    }
}

impl BucketHashes {
    /// Adds the pair if it is absent, removes it if it is present.
    pub(super) fn toggle(&mut self, owner: Tag, version: Version) {
        let mixed = mix(mix(mix(u64::from_le_bytes(owner.0)) ^ version.incarnation) ^ version.counter);
        self.0[bucket(owner)] ^= mixed;
    }
}

/// The finaliser of SplitMix64: every bit of the input moves about half of the output.
const fn mix(input: u64) -> u64 {
    let input = (input ^ (input >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let input = (input ^ (input >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    input ^ (input >> 31)
}

/// The bucket of an owner: the high bits of its key, so that a bucket is a range of keys.
const fn bucket(owner: Tag) -> usize {
    (owner.0[0] >> 2) as usize
}

const fn has(buckets: u64, number: usize) -> bool {
    buckets >> number & 1 == 1
}

impl Store {
    pub fn summary(&self) -> Summary {
        let bytes: Vec<u8> = self.hashes.0.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        let hash = digest("weave-rs store", &[&bytes]);
        let mut summary = [0; 16];
        summary.copy_from_slice(&hash[..16]);
        Summary(summary)
    }

    pub fn buckets(&self) -> Buckets {
        Buckets(self.hashes.0.iter().map(|hash| hash.to_le_bytes()).collect())
    }

    /// Which buckets differ from `theirs`, one bit each.
    pub fn differing(&self, theirs: &Buckets) -> u64 {
        let pairs = self.hashes.0.iter().zip(&theirs.0).enumerate();
        pairs
            .filter(|(_, (ours, theirs))| ours.to_le_bytes() != **theirs)
            .fold(0, |bits, (number, _)| bits | 1 << number)
    }

    /// Every listed version in `buckets`, in as many messages as they need; each answers for the buckets it names.
    pub fn versions(&self, buckets: u64) -> Vec<Versions> {
        let mut messages: Vec<Versions> = Vec::new();
        for number in (0..COMPARED_BUCKETS).filter(|number| has(buckets, *number)) {
            let offers: Vec<Offer> = self.listed_in(number).take(VERSIONS_PER_MESSAGE).collect();
            match messages.last_mut() {
                Some(last) if last.offers.len() + offers.len() <= VERSIONS_PER_MESSAGE => {
                    last.buckets |= 1 << number;
                    last.offers.extend(offers);
                }
                Some(_) | None => messages.push(Versions { buckets: 1 << number, offers }),
            }
        }
        messages
    }

    /// What is listed here in the buckets that `theirs` names and newer than, or absent from, its offers.
    pub fn newer_than(&self, theirs: &Versions) -> Vec<Tag> {
        let known: BTreeMap<Tag, Version> = theirs.offers.iter().map(|offer| (offer.owner, offer.version)).collect();
        let ours = (0..COMPARED_BUCKETS)
            .filter(|number| has(theirs.buckets, *number))
            .flat_map(|number| self.listed_in(number));
        ours.filter(|ours| known.get(&ours.owner).is_none_or(|version| *version < ours.version))
            .map(|ours| ours.owner)
            .collect()
    }

    fn listed_in(&self, number: usize) -> impl Iterator<Item = Offer> {
        let first = Tag([(number << 2) as u8, 0, 0, 0, 0, 0, 0, 0]);
        let tags = self.entries.range(first..).map(|(tag, _)| *tag).take_while(move |tag| bucket(*tag) == number);
        tags.filter_map(|owner| Some(Offer { owner, version: self.listed(owner)?.version() }))
    }
}
