//! How many files the daemon may have open: as many as the system allows, and enough of them to work; and what of them
//! goes to those who ask from outside. The rest is for the mesh, for attaching and for state: these never lack one
//! because somebody opened too many connections.
//!
//! ```text
//!   limit (1,024, say) ┬ 1/8   questions under way to upstream DNS servers, a socket each
//!                      ├ 1/16  DNS over TCP
//!                      ├ 1/32  each HTTP listener, four at most
//!                      └ the rest, more than two thirds
//! ```

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// With fewer a daemon does not come up, or cannot attach a container: devices, sockets, threads' own descriptors, a
/// few peers, and what a program that is run (`nft`, `iptables`) needs meanwhile.
pub const DESCRIPTORS_MIN: u64 = 64;
/// Questions under way to upstream servers, at most.
const DNS_QUESTIONS_MAX: usize = 1_024;
/// DNS connections, at most.
const DNS_CONNECTIONS_MAX: usize = 256;
/// Connections to one HTTP listener, at most.
const HTTP_CONNECTIONS_MAX: usize = 64;
/// What everybody gets, however few there are.
const LEAST: usize = 2;

/// The system allows too few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} open files are allowed and {DESCRIPTORS_MIN} are needed; raise the limit (`ulimit -n`, LimitNOFILE=)")]
pub struct TooFewDescriptors(u64);

/// The number of descriptors that this process may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors(usize);

/// Raises the limit of this process as far as it may.
///
/// # Errors
/// When that is not enough to work with.
pub fn provide() -> Result<Descriptors, TooFewDescriptors> {
    let Rlimit { mut current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok() {
        current = maximum;
    }
    match current {
        Some(allowed) if allowed < DESCRIPTORS_MIN => Err(TooFewDescriptors(allowed)),
        Some(allowed) => Ok(Descriptors(usize::try_from(allowed).unwrap_or(usize::MAX))),
        None => Ok(Descriptors(usize::MAX)),
    }
}

impl Descriptors {
    pub(crate) fn dns_questions(self) -> usize {
        self.part(8, DNS_QUESTIONS_MAX)
    }

    pub(crate) fn dns_connections(self) -> usize {
        self.part(16, DNS_CONNECTIONS_MAX)
    }

    pub(crate) fn http_connections(self) -> usize {
        self.part(32, HTTP_CONNECTIONS_MAX)
    }

    fn part(self, divisor: usize, most: usize) -> usize {
        (self.0 / divisor).clamp(LEAST, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_thirds_are_left_for_the_mesh_and_for_attaching() {
        for limit in [64, 256, 1_024, 4_096, 1 << 20] {
            let descriptors = Descriptors(limit);
            let outside =
                descriptors.dns_questions() + descriptors.dns_connections() + 4 * descriptors.http_connections();
            assert!(outside <= limit / 3, "{outside} of {limit}");
        }
    }

    #[test]
    fn where_there_are_many_the_limits_are_those_of_the_documentation() {
        let descriptors = Descriptors(1 << 20);

        assert_eq!(descriptors.dns_questions(), 1_024);
        assert_eq!(descriptors.dns_connections(), 256);
        assert_eq!(descriptors.http_connections(), 64);
    }
}
