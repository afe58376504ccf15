//! A set that arrives in parts.

use std::sync::Arc;

use super::super::{Part, Record, SET_BYTES_MAX, SET_MEMORY_MAX, SetError, Tag, Version};

/// The parts of one set that have come so far.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) owner: Tag,
    version: Version,
    parts: Vec<Option<Arc<Part>>>,
    missing: usize,
    bytes: usize,
    /// What its records occupy, octets.
    pub(super) memory: usize,
}

impl Assembly {
    /// For the set that `part` belongs to.
    pub(super) fn new(part: &Part) -> Self {
        let count = usize::from(part.count);
        let (owner, version) = (Tag::from(&part.owner), part.version);
        Self { owner, version, parts: vec![None; count], missing: count, bytes: 0, memory: 0 }
    }

    pub(super) fn is_of(&self, part: &Part) -> bool {
        (self.owner, self.version) == (Tag::from(&part.owner), part.version)
            && self.parts.len() == usize::from(part.count)
    }

    /// Takes `part`, unless it is here already. Returns whether it was new.
    pub(super) fn add(&mut self, part: Arc<Part>) -> Result<bool, SetError> {
        let owner = part.owner;
        let Some(slot) = self.parts.get_mut(usize::from(part.index)).filter(|slot| slot.is_none()) else {
            return Ok(false);
        };
        self.bytes += part.records.iter().map(Record::encoded_bytes).sum::<usize>();
        self.memory += part.records.iter().map(Record::memory).sum::<usize>();
        if self.bytes > SET_BYTES_MAX || self.memory > SET_MEMORY_MAX {
            return Err(SetError::TooLarge { owner });
        }
        *slot = Some(part);
        self.missing -= 1;
        Ok(true)
    }

    pub(super) const fn is_complete(&self) -> bool {
        self.missing == 0
    }

    pub(super) fn into_parts(self) -> Vec<Arc<Part>> {
        self.parts.into_iter().flatten().collect()
    }
}
