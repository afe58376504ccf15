//! The few switches of a device that only `/proc/sys` has.
//!
//! A kernel without IPv6 has no such files, and nothing to switch.

use std::fs;
use std::io;

/// What a device of the overlay has: IPv6, but no trust in router advertisements, and no probes for duplicates of an
/// address made of its own MAC, which every peer would get a copy of.
const TUNED: [(&str, &str); 3] = [("disable_ipv6", "0"), ("accept_ra", "0"), ("dad_transmits", "0")];

/// A switch that cannot be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot write {path}: {cause}; is /proc/sys writable?")]
pub struct SysctlError {
    path: String,
    cause: io::Error,
}

/// Turns IPv6 on and router advertisements off on a device of the calling thread's namespace.
///
/// # Errors
/// When `/proc/sys` is read-only.
pub(super) fn tune_ipv6(link: &str) -> Result<(), SysctlError> {
    TUNED.iter().try_for_each(|(switch, value)| write(link, switch, value))
}

/// Keeps the host's own IPv6 off a device: a bridge port that had it would send its solicitations to the overlay.
///
/// # Errors
/// When `/proc/sys` is read-only.
pub(super) fn disable_ipv6(link: &str) -> Result<(), SysctlError> {
    write(link, "disable_ipv6", "1")
}

/// Makes the link-local address of a device the one of its MAC, whatever the host's default is.
///
/// # Errors
/// When `/proc/sys` is read-only.
pub(super) fn derive_link_local(link: &str) -> Result<(), SysctlError> {
    write(link, "addr_gen_mode", "0")
}

/// Keeps the other addresses of a subnet when its first is removed; the kernel would remove them with it.
///
/// # Errors
/// When `/proc/sys` is read-only.
pub(super) fn promote_secondaries(link: &str) -> Result<(), SysctlError> {
    write_file(format!("/proc/sys/net/ipv4/conf/{link}/promote_secondaries"), "1")
}

/// The filter drops packets whose source is not routed by the device that they come from: one wants that very route
/// (strict, the default of many distributions), zero and two do not.
const REVERSE_PATH_STRICT: u8 = 1;

/// Lets packets in that come from where no route leads, but a port's guard has seen to their source.
///
/// # Errors
/// When `/proc/sys` is read-only.
pub(super) fn let_strangers_in(link: &str) -> Result<(), SysctlError> {
    // The larger of the two counts, so that none is possible only where nobody filters.
    let mode = if reverse_path("all") == 0 { "0" } else { "2" };
    write_file(reverse_path_file(link), mode)
}

/// Whether [`let_strangers_in`] need change nothing.
pub(super) fn lets_strangers_in(link: &str) -> bool {
    reverse_path("all").max(reverse_path(link)) != REVERSE_PATH_STRICT
}

fn reverse_path(link: &str) -> u8 {
    fs::read_to_string(reverse_path_file(link)).ok().and_then(|text| text.trim_end().parse().ok()).unwrap_or(0)
}

fn reverse_path_file(link: &str) -> String {
    format!("/proc/sys/net/ipv4/conf/{link}/rp_filter")
}

fn write(link: &str, switch: &str, value: &str) -> Result<(), SysctlError> {
    write_file(path(link, switch), value)
}

fn write_file(path: String, value: &str) -> Result<(), SysctlError> {
    match fs::write(&path, value) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => Err(SysctlError { path, cause }),
        _ => Ok(()),
    }
}

/// Whether [`tune_ipv6`] would change nothing.
pub(super) fn is_ipv6_tuned(link: &str) -> bool {
    TUNED.iter().all(|(switch, value)| match fs::read_to_string(path(link, switch)) {
        Ok(text) => text.trim_end() == *value,
        Err(cause) => cause.kind() == io::ErrorKind::NotFound,
    })
}

fn path(link: &str, switch: &str) -> String {
    format!("/proc/sys/net/ipv6/conf/{link}/{switch}")
}
