//! The fuzz targets on the stable toolchain: the committed corpus, fresh samples, and random mutations of both.
#![allow(clippy::disallowed_methods, reason = "the machines are pure; this test reads its corpus from files")]

#[path = "../fuzz/targets.rs"]
mod targets;

use std::fs;
use std::path::Path;

use rand_chacha::ChaCha8Rng;
use rand_core::{RngCore, SeedableRng};
use weave_mesh::connection::{Connection, Role};
use weave_mesh::node::StoredMember;
use weave_mesh::store::{Content, Record};
use weave_mesh::time::Instant;
use weave_mesh::wire::Message;

/// Mutated inputs for each target.
const MUTATIONS: usize = 3_000;
const SEED: u64 = 7;

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| entry.expect("a readable folder").path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read(file).expect("a readable file")).collect()
}

/// One valid input or more for a target, to mutate.
fn samples(target: &str) -> Vec<Vec<u8>> {
    let config = targets::config(1);
    match target {
        "message" => vec![Message::Probe.encode(), Message::Offers(Vec::new()).encode()],
        "card" => vec![postcard::to_stdvec(&config.card).expect("a card encodes")],
        "member" => {
            let card = Record::new(Content::Card(config.card.clone()));
            vec![StoredMember::new(config.identity.key(), card, None, None).encode()]
        }
        "dialler" | "listener" => {
            let mut other = Connection::new(Role::Dialler, config, [3; 32], Instant::ZERO);
            let _ = other.handle_bytes(b"weave\x03\x03");
            let sent = std::iter::from_fn(|| other.poll_transmit()).flatten();
            vec![[64].into_iter().chain(sent).collect()]
        }
        "text" => ["10.0.0.1:6783", "[fd00::1]:7000", "host", "02:ab::1", "20-80/3"].map(|text| text.into()).to_vec(),
        _ => vec![vec![0, 32]],
    }
}

/// Flips, cuts, doubles, inserts or replaces something.
fn mutate(bytes: &mut Vec<u8>, rng: &mut ChaCha8Rng) {
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
    bytes.truncate(100_000);
}

#[test]
fn no_input_makes_a_decoder_panic() {
    for (name, _) in targets::TARGETS {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let seeds = [corpus(name), samples(name)].concat();
        seeds.iter().for_each(|seed| targets::run(name, seed));
        for _ in 0..MUTATIONS {
            let mut bytes = seeds[(rng.next_u64() % seeds.len() as u64) as usize].clone();
            for _ in 0..=rng.next_u32() % 4 {
                mutate(&mut bytes, &mut rng);
            }
            targets::run(name, &bytes);
        }
    }
}
