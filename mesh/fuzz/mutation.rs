//! Inputs for the fuzz targets where no fuzzer is at hand: seeds, and random mutations of them. The tests of `mesh`,
//! `datapath`, `router` and `aws` share it.

use rand_core::RngCore;

/// At most so many changes are made to one input.
const CHANGES_MAX: u32 = 4;

/// Runs `target` on every seed, and on `count` mutations of seeds of at most `bytes_max` octets.
pub(crate) fn run_all(
    seeds: &[Vec<u8>],
    count: usize,
    bytes_max: usize,
    rng: &mut impl RngCore,
    target: impl Fn(&[u8]),
) {
    seeds.iter().for_each(|seed| target(seed));
    for _ in 0..count {
        let mut bytes = seeds[(rng.next_u64() % seeds.len() as u64) as usize].clone();
        for _ in 0..=rng.next_u32() % CHANGES_MAX {
            mutate(&mut bytes, rng);
            bytes.truncate(bytes_max);
        }
        target(&bytes);
    }
}

/// Flips, cuts, doubles, inserts or replaces something.
fn mutate(bytes: &mut Vec<u8>, rng: &mut impl RngCore) {
    let mut below = |limit: usize| (rng.next_u64() % limit.max(1) as u64) as usize;
    let (at, value) = (below(bytes.len()), below(256) as u8);
    match below(6) {
        _ if bytes.is_empty() => bytes.push(value),
        0 => bytes[at] ^= 1 << (value % 8),
        1 => bytes[at] = value,
        2 => bytes.truncate(at),
        3 => bytes.insert(at, value),
        4 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
        _ => bytes.extend_from_within(at..),
    }
}
