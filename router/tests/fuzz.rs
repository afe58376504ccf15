//! The fuzz targets on the stable toolchain: the committed corpus, and random mutations of it. `WEAVE_FUZZ_RUNS` says how
//! many of these for each target (`make soak` has a million of them).

#[path = "../fuzz/targets.rs"]
mod targets;

#[path = "../../mesh/fuzz/corpus.rs"]
mod corpus;

#[path = "../../mesh/fuzz/mutation.rs"]
mod mutation;

#[path = "../../mesh/fuzz/timed.rs"]
mod timed;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

const SEED: u64 = 7;

#[test]
fn no_input_makes_a_decoder_panic_or_an_answer_lie() {
    for (name, _) in targets::TARGETS {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        timed::run(name, &corpus::read(name), &mut rng, |bytes| targets::run(name, bytes));
    }
}
