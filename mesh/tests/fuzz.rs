//! The fuzz targets on the stable toolchain: the committed corpus, fresh samples, and random mutations of both.
#![allow(clippy::disallowed_methods, reason = "the machines are pure; this test reads its corpus from files")]

#[path = "../fuzz/targets.rs"]
mod targets;

#[path = "../fuzz/corpus.rs"]
mod corpus;

#[path = "../fuzz/mutation.rs"]
mod mutation;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use weave_mesh::connection::{Connection, Role};
use weave_mesh::node::StoredMember;
use weave_mesh::store::{Content, Record};
use weave_mesh::time::Instant;
use weave_mesh::wire::Message;

/// Mutated inputs for each target.
const MUTATIONS: usize = 3_000;
/// Longer than any message of ours.
const BYTES_MAX: usize = 100_000;
const SEED: u64 = 7;

/// One valid input or more for a target, to mutate.
fn samples(target: &str) -> Vec<Vec<u8>> {
    let config = targets::config(1);
    match target {
        "message" => vec![Message::Probe.encode(), Message::Offers(Vec::new()).encode()],
        "card" => vec![postcard::to_stdvec(&config.card).expect("a card encodes")],
        "member" => {
            let card = Record::new(Content::Card(config.card.clone()));
            vec![StoredMember::new(config.identity.key(), card, None, None, true).encode()]
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

#[test]
fn no_input_makes_a_decoder_panic() {
    for (name, _) in targets::TARGETS {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let seeds = [corpus::read(name), samples(name)].concat();
        mutation::run_all(&seeds, MUTATIONS, BYTES_MAX, &mut rng, |bytes| targets::run(name, bytes));
    }
}
