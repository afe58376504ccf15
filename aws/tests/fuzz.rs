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
fn no_answer_makes_a_decoder_panic_and_no_half_is_a_whole() {
    for (name, decode) in targets::TARGETS {
        let seeds = corpus::read(name);
        assert!(seeds.iter().all(|seed| decode(seed)), "{name}: the corpus is of answers");
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        timed::run(name, &seeds, &mut rng, |bytes| targets::run(name, bytes));
    }
}
