//! Whether this process may do what the daemon needs, before it changes anything.
//!
//! What the kernel itself can do shows when the first plan is applied: a trial beforehand would make every device twice,
//! and the kernel takes long to take a trial apart while thirty daemons start.

use std::fs::{self, OpenOptions};
use std::io;

/// The capabilities without which nothing works, by their bit in the kernel's sets.
const NEEDED: [(u32, &str); 3] = [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (21, "CAP_SYS_ADMIN")];

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum Missing {
    #[error("the process lacks {0}: run it as root, or grant the capability")]
    Capability(&'static str),
    #[error("cannot read /proc/self/status: {0}; is /proc mounted?")]
    Status(io::Error),
    #[error("cannot open /dev/net/tun: {0}; load the kernel module `tun`")]
    Tun(io::Error),
}

/// Checks everything that the daemon needs.
///
/// # Errors
/// The first thing that is missing, and what to do about it.
pub fn check() -> Result<(), Missing> {
    let status = fs::read_to_string("/proc/thread-self/status").map_err(Missing::Status)?;
    if let Some(missing) = missing_capability(&status) {
        return Err(Missing::Capability(missing));
    }
    OpenOptions::new().read(true).write(true).open("/dev/net/tun").map_err(Missing::Tun)?;
    Ok(())
}

/// The first needed capability that is not in the effective set.
fn missing_capability(status: &str) -> Option<&'static str> {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    let effective = u64::from_str_radix(effective.trim(), 16).ok()?;
    NEEDED.iter().find(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_capability_is_named() {
        assert_eq!(missing_capability("Name:\tx\nCapEff:\t000001ffffffffff\n"), None);
        assert_eq!(missing_capability("CapEff:\t0000000000003000\n"), Some("CAP_SYS_ADMIN"));
        assert_eq!(missing_capability("CapEff:\t0000000000000000\n"), Some("CAP_NET_ADMIN"));
    }
}
