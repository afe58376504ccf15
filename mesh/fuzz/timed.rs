//! Mutations of a corpus, as many as the environment says, and how long they took: what the tests of `router` and `aws` do with
//! each of their targets.

use rand_core::RngCore;

use super::mutation;

/// Mutated inputs for each target, unless `WEAVE_FUZZ_RUNS` says otherwise.
const MUTATIONS: usize = 10_000;
/// Longer than any question for a name over UDP, and than most answers of a cloud.
const BYTES_MAX: usize = 5_000;

#[expect(clippy::print_stdout, reason = "who fuzzes for long wants to see what it took")]
pub(crate) fn run(name: &str, seeds: &[Vec<u8>], rng: &mut impl RngCore, target: impl Fn(&[u8])) {
    let runs = std::env::var("WEAVE_FUZZ_RUNS").ok().and_then(|runs| runs.parse().ok()).unwrap_or(MUTATIONS);
    let begin = std::time::Instant::now();
    mutation::run_all(seeds, runs, BYTES_MAX, rng, target);
    println!("{name}: {runs} mutations in {:?}", begin.elapsed());
}
