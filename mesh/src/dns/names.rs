//! Names and addresses at one moment.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use super::name::{ancestors, folded};
use super::sharded::{Fate, Sharded};
use crate::identity::PeerKey;
use crate::store::{Content, Record, RecordKey};

/// How many pairs of name and address are held. Further ones are left out until their owner publishes them again.
const HOLDERS_MAX: usize = 1 << 20;
/// How many of them are one peer's: 10,000 containers with three names and two addresses each.
const HOLDERS_EACH_MAX: usize = 1 << 16;
/// How many a peer may have of one name, or of one address: with more of them nobody reaches any of its containers better.
const SHARED_MAX: usize = 256;

/// All names of the mesh at one moment; a copy is cheap.
#[derive(Clone, Debug, Default)]
pub struct Names {
    entries: Sharded<Box<str>, Arc<Entry>>,
    pointers: Sharded<IpAddr, Vec<Holder>>,
    serial: u32,
    holders: usize,
    /// How many of them are whose.
    shares: Arc<BTreeMap<PeerKey, usize>>,
}

/// One name.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Sorted; one for each time that a peer says so.
    holders: Vec<Holder>,
    /// Distinct, sorted.
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
    /// How many names lie below this one.
    descendants: u32,
}

/// What one peer says: this name has this address.
#[derive(Clone, Debug)]
pub struct Holder {
    pub owner: PeerKey,
    pub address: IpAddr,
    record: Record,
    /// Which of the record's names.
    name: usize,
}

impl Names {
    /// The entry of a [`folded`] name; one without addresses when only names below it exist.
    pub fn find(&self, folded: &str) -> Option<&Entry> {
        self.entries.get(folded).map(Arc::as_ref)
    }

    /// The names of an address as they were given, each once, in an order that is the same everywhere.
    pub fn pointers(&self, address: IpAddr) -> Vec<&str> {
        let mut names: Vec<&str> = self.pointers.get(&address).into_iter().flatten().map(Holder::name).collect();
        names.sort_by(|one, other| caseless(one, other));
        names.dedup_by(|one, other| one.eq_ignore_ascii_case(other));
        names
    }

    /// Changes with every change of a name.
    pub const fn serial(&self) -> u32 {
        self.serial
    }

    /// How many pairs of name and address there are.
    pub const fn len(&self) -> usize {
        self.holders
    }

    pub const fn is_empty(&self) -> bool {
        self.holders == 0
    }

    /// Everything that is said, in no particular order.
    pub fn holders(&self) -> impl Iterator<Item = &Holder> {
        self.entries.iter().flat_map(|(_, entry)| &entry.holders)
    }

    /// Takes up what `owner` says in `record`. Text that is no name is left out.
    pub fn add(&mut self, owner: PeerKey, record: &Record) {
        for (name, text) in texts(record).iter().enumerate() {
            let Ok(folded) = folded(text) else { continue };
            for address in addresses(record) {
                if self.has_room(owner, &folded, address) {
                    self.add_holder(&folded, Holder { owner, address, record: record.clone(), name });
                }
            }
        }
    }

    fn has_room(&self, owner: PeerKey, folded: &str, address: IpAddr) -> bool {
        let is_its = |holder: &&Holder| holder.owner == owner;
        let of_name = self.entries.get(folded).map_or(0, |entry| entry.holders.iter().filter(is_its).count());
        let of_address = self.pointers.get(&address).map_or(0, |pointers| pointers.iter().filter(is_its).count());
        let share = self.shares.get(&owner).copied().unwrap_or_default();
        self.holders < HOLDERS_MAX && share < HOLDERS_EACH_MAX && of_name.max(of_address) < SHARED_MAX
    }

    fn change_share(&mut self, owner: PeerKey, change: impl Fn(usize) -> usize) {
        let shares = Arc::make_mut(&mut self.shares);
        let share = change(shares.remove(&owner).unwrap_or_default());
        if share > 0 {
            shares.insert(owner, share);
        }
    }

    fn add_holder(&mut self, folded: &str, holder: Holder) {
        let mut is_new = false;
        self.entries.change(folded, |entry| {
            let entry = Arc::make_mut(entry);
            is_new = entry.holders.is_empty();
            entry.insert(holder.clone());
            Fate::Keep
        });
        if is_new {
            self.count_descendant(folded, |count| count.saturating_add(1));
        }
        self.pointers.change(&holder.address, |pointers| {
            pointers.push(holder.clone());
            Fate::Keep
        });
        self.holders += 1;
        self.change_share(holder.owner, |share| share + 1);
        self.serial = self.serial.wrapping_add(1);
    }

    /// Drops what `owner` said in `record`.
    pub(super) fn remove(&mut self, owner: PeerKey, record: &Record) {
        let key = record.key();
        let is_gone = |holder: &Holder| holder.owner == owner && holder.record.key() == key;
        for folded in texts(record).iter().filter_map(|text| folded(text).ok()) {
            let mut removed = 0;
            let mut is_last = false;
            self.entries.change(folded.as_str(), |entry| {
                let entry = Arc::make_mut(entry);
                removed = entry.remove(is_gone);
                is_last = removed > 0 && entry.holders.is_empty();
                entry.fate()
            });
            if is_last {
                self.count_descendant(&folded, |count| count.saturating_sub(1));
            }
            self.holders -= removed;
            self.change_share(owner, |share| share.saturating_sub(removed));
            self.serial = self.serial.wrapping_add(u32::from(removed > 0));
        }
        for address in addresses(record) {
            self.pointers.change(&address, |pointers| {
                pointers.retain(|holder| !is_gone(holder));
                if pointers.is_empty() { Fate::Drop } else { Fate::Keep }
            });
        }
    }

    fn count_descendant(&mut self, folded: &str, count: impl Fn(u32) -> u32) {
        for ancestor in ancestors(folded) {
            self.entries.change(ancestor, |entry| {
                let entry = Arc::make_mut(entry);
                entry.descendants = count(entry.descendants);
                entry.fate()
            });
        }
    }
}

impl Entry {
    pub fn v4(&self) -> &[Ipv4Addr] {
        &self.v4
    }

    pub fn v6(&self) -> &[Ipv6Addr] {
        &self.v6
    }

    fn insert(&mut self, holder: Holder) {
        match holder.address {
            IpAddr::V4(address) => insert_sorted(&mut self.v4, address),
            IpAddr::V6(address) => insert_sorted(&mut self.v6, address),
        }
        self.holders.push(holder);
    }

    /// Returns how many holders were removed.
    fn remove(&mut self, is_gone: impl Fn(&Holder) -> bool) -> usize {
        let gone: Vec<IpAddr> = self.holders.iter().filter(|holder| is_gone(holder)).map(|gone| gone.address).collect();
        self.holders.retain(|holder| !is_gone(holder));
        for address in &gone {
            if self.holders.iter().any(|holder| holder.address == *address) {
                continue;
            }
            match address {
                IpAddr::V4(address) => self.v4.retain(|kept| kept != address),
                IpAddr::V6(address) => self.v6.retain(|kept| kept != address),
            }
        }
        gone.len()
    }

    const fn fate(&self) -> Fate {
        if self.holders.is_empty() && self.descendants == 0 { Fate::Drop } else { Fate::Keep }
    }
}

impl Holder {
    /// The name as it was given, without a dot at its end.
    pub fn name(&self) -> &str {
        let text = texts(&self.record).get(self.name).map_or("", String::as_str);
        text.strip_suffix('.').unwrap_or(text)
    }

    /// The container's id; empty for a name that belongs to none.
    pub fn container(&self) -> &str {
        match self.record.content() {
            Content::Endpoint(_, endpoint) => &endpoint.container,
            Content::HostName(_, host_name) => &host_name.container,
            _ => "",
        }
    }
}

/// Whether a record of this key can give a name.
pub(crate) const fn is_naming(key: &RecordKey) -> bool {
    matches!(key, RecordKey::Endpoint(_) | RecordKey::HostName(_))
}

/// The names in a record.
fn texts(record: &Record) -> &[String] {
    match record.content() {
        Content::Endpoint(_, endpoint) => &endpoint.names,
        Content::HostName(_, host_name) => std::slice::from_ref(&host_name.name),
        _ => &[],
    }
}

/// The addresses that every one of them has.
fn addresses(record: &Record) -> Vec<IpAddr> {
    let mut addresses = match record.content() {
        Content::Endpoint(_, endpoint) => endpoint.addresses.iter().map(|subnet| subnet.address).collect(),
        Content::HostName(_, host_name) => vec![host_name.address],
        _ => Vec::new(),
    };
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

fn insert_sorted<T: Ord>(sorted: &mut Vec<T>, item: T) {
    if let Err(position) = sorted.binary_search(&item) {
        sorted.insert(position, item);
    }
}

fn caseless(one: &str, other: &str) -> Ordering {
    let lower = |text: &str| text.bytes().map(|octet| octet.to_ascii_lowercase()).collect::<Vec<_>>();
    lower(one).cmp(&lower(other)).then_with(|| one.cmp(other))
}

#[cfg(test)]
impl Names {
    /// How many names there are, those without addresses included.
    pub(super) fn entries_len(&self) -> usize {
        self.entries.iter().count()
    }

    pub(super) fn parts_changed_since(&self, older: &Self) -> usize {
        self.entries.parts_changed_since(&older.entries) + self.pointers.parts_changed_since(&older.pointers)
    }
}
