//! The fuzz targets on the stable toolchain: the committed corpus, and random mutations of it. `WEAVE_FUZZ_RUNS` says how
//! many of these for each target (`make soak` has a million of them).

#[path = "../fuzz/targets.rs"]
mod targets;

#[path = "../../mesh/fuzz/corpus.rs"]
mod corpus;

#[path = "../../mesh/fuzz/mutation.rs"]
mod mutation;

use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

/// Mutated inputs for each target, unless told otherwise.
const MUTATIONS: usize = 10_000;
const BYTES_MAX: usize = 5_000;
const SEED: u64 = 7;

#[test]
fn no_answer_makes_a_decoder_panic_and_no_half_is_a_whole() {
    let runs = std::env::var("WEAVE_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(MUTATIONS);
    for (name, decode) in targets::TARGETS {
        let seeds = corpus::read(name);
        assert!(seeds.iter().all(|seed| decode(seed)), "{name}: the corpus is of answers");
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let begin = std::time::Instant::now();
        mutation::run_all(&seeds, runs, BYTES_MAX, &mut rng, |bytes| targets::run(name, bytes));
        println!("{name}: {runs} mutations in {:?}", begin.elapsed());
    }
}
