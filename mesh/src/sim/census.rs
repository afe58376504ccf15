//! How much hosts remember: what must not grow with the years.

use super::{HostId, World};

/// What one host remembers, or several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    pub members: usize,
    pub certificates: usize,
    /// Of the ring.
    pub pieces: usize,
    /// Transfers that hold nowhere any more, and what take-overs rest on.
    pub history: usize,
    /// Members on the disk, and the octets of everything else there.
    pub stored_members: usize,
    pub stored_bytes: usize,
}

impl World {
    /// What `host` remembers, if it runs.
    pub fn census(&self, host: HostId) -> Option<Census> {
        let node = self.node(host)?;
        let (certificates, pieces, history) = node.remembered_addresses();
        let disk = &self.host(host).disk;
        Some(Census {
            members: node.member_count(),
            certificates,
            pieces,
            history,
            stored_members: disk.member_count(),
            stored_bytes: disk.ipam.ring.as_ref().map_or(0, Vec::len),
        })
    }

    /// The most that any live host remembers, in each respect.
    pub fn largest_census(&self) -> Census {
        self.live().filter_map(|host| self.census(host)).fold(Census::default(), Census::or_more)
    }
}

impl Census {
    /// In each respect what is more.
    #[must_use]
    pub fn or_more(self, other: Self) -> Self {
        Self {
            members: self.members.max(other.members),
            certificates: self.certificates.max(other.certificates),
            pieces: self.pieces.max(other.pieces),
            history: self.history.max(other.history),
            stored_members: self.stored_members.max(other.stored_members),
            stored_bytes: self.stored_bytes.max(other.stored_bytes),
        }
    }
}
