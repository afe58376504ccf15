//! How many files the daemon may have open: as many as the system allows, and enough of them to work.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// With fewer a daemon does not come up, or cannot attach a container: devices, sockets, threads' own descriptors, a
/// few peers, and what a program that is run (`nft`, `iptables`) needs meanwhile.
pub const DESCRIPTORS_MIN: u64 = 64;

/// The system allows too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} open files are allowed and {DESCRIPTORS_MIN} are needed; raise the limit (`ulimit -n`, LimitNOFILE=)")]
pub struct TooFewDescriptors(u64);

/// Raises the limit of this process as far as it may.
///
/// # Errors
/// When that is not enough to work with.
pub fn provide() -> Result<(), TooFewDescriptors> {
    let Rlimit { mut current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        current = maximum;
    }
    match current {
        Some(allowed) if allowed < DESCRIPTORS_MIN => Err(TooFewDescriptors(allowed)),
        Some(_) | None => Ok(()),
    }
}
