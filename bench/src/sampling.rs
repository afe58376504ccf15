//! What processes hold while something else runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::Result;

use crate::process::memory_kib;

const INTERVAL: Duration = Duration::from_millis(100);

/// Does `work`, and beside it looks for the largest resident size in KiB of any of the processes. One that has just ended
/// counts nothing.
pub(crate) fn highest<T>(pids: &[u32], work: impl FnOnce() -> Result<T>) -> Result<(T, u64)> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sampler = scope.spawn(|| {
            let mut highest = 0;
            while !over.load(Ordering::Acquire) {
                highest = pids.iter().filter_map(|pid| memory_kib(*pid, "VmRSS").ok()).fold(highest, u64::max);
                thread::sleep(INTERVAL);
            }
            highest
        });
        let done = work();
        over.store(true, Ordering::Release);
        let highest = sampler.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        Ok((done?, highest))
    })
}
