//! Random faults of every kind, on meshes of every size up to a dozen: whatever happened, everyone agrees in the end.

use std::time::Duration;

use weave_mesh::sim::{Options, World};

const MINUTE: Duration = Duration::from_secs(60);

#[test]
fn random_faults_leave_no_trace() {
    for seed in 0..16 {
        let peers = 2 + seed as usize % 11;
        let mut world = World::new(Options { peers, seed, seeds: 1 + peers / 4, ..Options::default() });
        world.schedule_chaos(20, 2 * MINUTE);
        world.run_for(3 * MINUTE);

        // A copy has to find its twin, and what is dead has to be forgotten.
        world.run_for(3 * MINUTE);
        world.settle(4 * MINUTE).unwrap();
    }
}
