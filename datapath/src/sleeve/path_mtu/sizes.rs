//! Which sizes to try: of links that are usual, and between two others.

use crate::sleeve::relay::RELAY_OVERHEAD_BYTES;
use crate::sleeve::session::OVERHEAD_BYTES;

/// MTUs of usual links: those that RFC 791 and RFC 8200 guarantee, tunnels, Ethernet, and FDDI for the large ones.
const LINKS: [usize; 6] = [576, 768, 1_024, 1_280, 1_500, 4_352];
/// What stands before and behind a frame at most: IPv6, UDP, and sleeve by a relay.
const OVERHEAD_BYTES_MAX: usize = 40 + 8 + OVERHEAD_BYTES + RELAY_OVERHEAD_BYTES;

/// Frames below `limit` that fill usual links, whatever the way.
pub(super) fn usual_below(limit: usize) -> impl Iterator<Item = usize> + use<> {
    LINKS.into_iter().map(|link| link - OVERHEAD_BYTES_MAX).filter(move |size| *size < limit)
}

/// `passes` itself, as a sign of life, and at most `most` sizes evenly spread over what lies between it and `lost`,
/// among them the first and the last.
pub(super) fn spread(passes: usize, lost: usize, most: usize) -> Vec<usize> {
    let (first, last) = (passes + 1, lost - 1);
    let steps = most - 1;
    let between = (0..=steps).map(|step| first + (last.saturating_sub(first)) * step / steps);
    std::iter::once(passes).chain(between).collect()
}
