//! Accept limiting: whom a listener lets begin a handshake.
//!
//! Invariants, under any flood:
//! - at most [`PENDING_MAX`] handshakes are under way; when they are, the source with the most of them loses its
//!   oldest to a newcomer that has fewer, so that one source never keeps the others out;
//! - a source begins at most 20 a second;
//! - memory is bounded: at most [`SOURCES_MAX`] sources are remembered, and forgetting one only gives it a full
//!   allowance again.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::time::Instant;

/// How many connections may be in their handshake at one time.
pub const PENDING_MAX: usize = 256;
/// How many sources are remembered.
const SOURCES_MAX: usize = 1_024;
/// How many connections a source may open at once.
const BURST: u32 = 20;
/// After this time a source may open one more.
const REFILL_INTERVAL: Duration = Duration::from_millis(50);

/// One connection in its handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PendingId(u64);

/// Leave to begin a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Admission {
    pub id: PendingId,
    /// Close this one to make room.
    pub evicted: Option<PendingId>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooManyAttempts {
    #[error("{source_address} opens more than 20 connections per second")]
    Rate { source_address: IpAddr },
    #[error("{PENDING_MAX} connections are in their handshake, and no source has more of them than {source_address}")]
    Pending { source_address: IpAddr },
}

/// An IPv4 address, or the network of an IPv6 address: one host owns all addresses of a /64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Source([u8; 8]);

impl Source {
    fn of(address: IpAddr) -> Self {
        let mut network = [0; 8];
        match address.to_canonical() {
            IpAddr::V4(v4) => network[4..].copy_from_slice(&v4.octets()),
            IpAddr::V6(v6) => network.copy_from_slice(&v6.octets()[..8]),
        }
        Self(network)
    }
}

/// When a source's allowance is full again: the whole burst is available from then on.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    full_at: Instant,
}

#[derive(Debug, Default)]
pub struct AcceptLimiter {
    pending: BTreeMap<PendingId, Source>,
    /// How many of them each source has.
    counts: BTreeMap<Source, usize>,
    allowances: BTreeMap<Source, Allowance>,
    next: u64,
}

impl AcceptLimiter {
    /// Asks leave for a connection just accepted from `address`.
    ///
    /// # Errors
    /// When it is to be closed at once.
    pub fn admit(&mut self, address: IpAddr, now: Instant) -> Result<Admission, TooManyAttempts> {
        let source = Source::of(address);
        if !self.spend(source, now) {
            return Err(TooManyAttempts::Rate { source_address: address });
        }
        let evicted = if self.pending.len() < PENDING_MAX {
            None
        } else {
            Some(self.evict_for(source).ok_or(TooManyAttempts::Pending { source_address: address })?)
        };
        let id = PendingId(self.next);
        self.next += 1;
        self.pending.insert(id, source);
        *self.counts.entry(source).or_default() += 1;
        Ok(Admission { id, evicted })
    }

    /// A handshake ended, well or not.
    pub fn settle(&mut self, id: PendingId) {
        let Some(source) = self.pending.remove(&id) else { return };
        if let Some(count) = self.counts.get_mut(&source) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&source);
            }
        }
    }

    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Takes one connection off the source's allowance.
    fn spend(&mut self, source: Source, now: Instant) -> bool {
        if !self.allowances.contains_key(&source) && self.allowances.len() >= SOURCES_MAX {
            self.forget_sources();
        }
        let allowance = self.allowances.entry(source).or_insert(Allowance { full_at: now });
        let full_at = allowance.full_at.max(now) + REFILL_INTERVAL;
        let is_within = full_at.since(now) <= REFILL_INTERVAL * BURST;
        if is_within {
            allowance.full_at = full_at;
        }
        is_within
    }

    /// Drops the half of the sources that are nearest to a full allowance.
    fn forget_sources(&mut self) {
        let mut full_at: Vec<Instant> = self.allowances.values().map(|allowance| allowance.full_at).collect();
        full_at.sort_unstable();
        let median = full_at[full_at.len() / 2];
        self.allowances.retain(|_, allowance| allowance.full_at > median);
    }

    /// Ends the oldest handshake of the source with the most, unless the newcomer would then have more of them.
    fn evict_for(&mut self, newcomer: Source) -> Option<PendingId> {
        let most = self.counts.values().copied().max()?;
        if self.counts.get(&newcomer).is_some_and(|count| count + 1 > most) {
            return None;
        }
        let oldest =
            self.pending.iter().find(|(_, source)| self.counts.get(source) == Some(&most)).map(|(id, _)| *id)?;
        self.settle(oldest);
        Some(oldest)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn host(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + number))
    }

    fn at(millis: u64) -> Instant {
        Instant::from_micros(millis * 1_000)
    }

    #[test]
    fn a_source_opens_twenty_at_once_and_then_twenty_a_second() {
        let mut limiter = AcceptLimiter::default();
        let mut admitted = |now| {
            let admission = limiter.admit(host(1), now);
            admission.map(|admission| limiter.settle(admission.id)).is_ok()
        };

        assert_eq!((0..100).filter(|_| admitted(at(0))).count(), 20);
        assert_eq!((1..=1_000).filter(|millis| admitted(at(*millis))).count(), 20);
    }

    #[test]
    fn one_source_does_not_hinder_another() {
        let mut limiter = AcceptLimiter::default();
        for _ in 0..100 {
            let _ = limiter.admit(host(1), at(0));
        }

        assert!(limiter.admit(host(2), at(0)).is_ok());
    }

    #[test]
    fn hosts_that_never_finish_are_evicted_for_newcomers() {
        let mut limiter = AcceptLimiter::default();
        let mut now = at(0);
        for _ in 0..PENDING_MAX {
            limiter.admit(host(1), now).unwrap();
            now += REFILL_INTERVAL;
        }

        let admission = limiter.admit(host(2), now).unwrap();
        assert_eq!(admission.evicted, Some(PendingId(0)));
        assert_eq!(limiter.pending(), PENDING_MAX);
        assert!(matches!(limiter.admit(host(1), now), Err(TooManyAttempts::Pending { .. })));
    }

    #[test]
    fn a_million_sources_leave_memory_bounded_and_a_real_peer_admitted() {
        let mut limiter = AcceptLimiter::default();

        for number in 0..1_000_000 {
            let now = Instant::from_micros(u64::from(number));
            let _ = limiter.admit(host(number), now);
            assert!(limiter.pending.len() <= PENDING_MAX && limiter.allowances.len() <= SOURCES_MAX);
        }

        assert!(limiter.admit(host(2_000_000), at(1_000)).is_ok());
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_source() {
        let mut limiter = AcceptLimiter::default();
        let address = |host: u32| format!("fd00::{host:x}").parse().unwrap();

        let admitted = (1..100).filter(|host| limiter.admit(address(*host), at(0)).is_ok()).count();

        assert_eq!(admitted, 20);
    }
}
