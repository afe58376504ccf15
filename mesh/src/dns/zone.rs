//! The names as they change: which sets count, and what became of each since it was last looked at.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::names::{Names, is_naming};
use crate::identity::PeerKey;
use crate::store::{Record, Set};

/// See the module above. Holds one set for each answering peer, as many as the store has at most.
#[derive(Debug, Default)]
pub(crate) struct Zone {
    sources: BTreeMap<PeerKey, Arc<Set>>,
    names: Names,
    shared: Arc<Names>,
}

impl Zone {
    /// `set` is what its owner says from now on.
    pub(crate) fn put(&mut self, set: &Arc<Set>) {
        let owner = set.owner();
        match self.sources.insert(owner, Arc::clone(set)) {
            None => naming(set).for_each(|record| self.names.add(owner, record)),
            Some(older) => {
                let changes = set.changes_since(&older);
                let replaced = changes.put.iter().map(Record::key).chain(changes.removed.iter().copied());
                for record in replaced.filter(is_naming).filter_map(|key| older.get(&key)) {
                    self.names.remove(owner, record);
                }
                let added = changes.put.iter().filter(|record| is_naming(&record.key()));
                added.for_each(|record| self.names.add(owner, record));
            }
        }
    }

    /// `owner`, of whom no set is held here, says other things than before.
    pub(crate) fn change(&mut self, owner: PeerKey, gone: &[Record], new: &[Record]) {
        gone.iter().for_each(|record| self.names.remove(owner, record));
        new.iter().for_each(|record| self.names.add(owner, record));
    }

    /// `set` is a later one with the same names, if its owner answers at all.
    pub(crate) fn renew(&mut self, set: &Arc<Set>) {
        if let Some(source) = self.sources.get_mut(&set.owner()) {
            *source = Arc::clone(set);
        }
    }

    /// `owner` does not answer any more.
    pub(crate) fn remove(&mut self, owner: &PeerKey) {
        if let Some(set) = self.sources.remove(owner) {
            naming(&set).for_each(|record| self.names.remove(*owner, record));
        }
    }

    /// Whether there are changes since the last [`Self::snapshot`].
    pub(crate) fn has_changes(&self) -> bool {
        self.names.serial() != self.shared.serial()
    }

    /// The names as they are now.
    pub(crate) fn snapshot(&mut self) -> Arc<Names> {
        if self.has_changes() {
            self.shared = Arc::new(self.names.clone());
        }
        Arc::clone(&self.shared)
    }
}

fn naming(set: &Set) -> impl Iterator<Item = &Record> {
    set.records().filter(|record| is_naming(&record.key()))
}

#[cfg(test)]
mod tests;
