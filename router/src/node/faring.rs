//! Names follow health: a container that is not well gives way to others of its name.
//!
//! ```text
//!   well                     web.weave.local
//!   not well, no better one  web.weave.local, web.weave.local.unhealthy
//!   not well, a better one                    web.weave.local.unhealthy
//! ```
//!
//! Each host decides about its own containers, by what all publish: whoever is not well says so by a name of its own, which
//! lies in no domain and is asked for by nobody. So hosts of any version answer the same.
//!
//! Invariant: what a host publishes of a container depends on how well all of its name are, and not on who else gives way:
//! two that are unwell do not wait for each other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use weave_docker::Health;
use weave_docker::events::Census;
use weave_mesh::card::Subnet;
use weave_mesh::dns::{Names, folded};

use super::Control;
use crate::attach::Tenant;

/// Containers that are known to be unwell; of further ones nothing is known.
const AILING_MAX: usize = 16_384;
/// What is published of those that are, behind their name.
const MARKS: [(Health, &str); 2] = [(Health::Starting, "starting"), (Health::Unhealthy, "unhealthy")];

/// How this host's containers are, by their ids.
#[derive(Debug, Default)]
pub(super) struct Faring {
    /// Those that are not well.
    ailing: BTreeMap<String, Health>,
    /// Those that were not at some time, so they have a check.
    checked: BTreeSet<String>,
}

impl Faring {
    /// Returns whether that is news.
    pub(super) fn note(&mut self, container: &str, health: Health) -> bool {
        if health == Health::Healthy {
            return self.ailing.remove(container).is_some();
        }
        if self.checked.len() < AILING_MAX {
            self.checked.insert(container.to_owned());
        }
        let has_room = self.ailing.len() < AILING_MAX || self.ailing.contains_key(container);
        has_room && self.ailing.insert(container.to_owned(), health) != Some(health)
    }

    /// It does not run. It is attached again before anybody says that a check is due, so its next start begins with that.
    pub(super) fn note_death(&mut self, container: &str) -> bool {
        let health = if self.checked.contains(container) { Health::Starting } else { Health::Healthy };
        self.note(container, health)
    }

    pub(super) fn forget(&mut self, container: &str) -> bool {
        self.checked.remove(container);
        self.note(container, Health::Healthy)
    }

    /// All of them, after a time in which nothing was heard. Returns whether that is news.
    pub(super) fn take_stock(&mut self, census: &Census) -> bool {
        let before = self.ailing.clone();
        self.checked.retain(|container| census.contains_key(container));
        self.ailing.retain(|container, _| census.contains_key(container));
        for (container, resident) in census {
            match resident.health {
                Some(health) => self.note(container, health),
                None => self.note_death(container),
            };
        }
        self.ailing != before
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ailing.is_empty()
    }

    fn of(&self, container: &str) -> Health {
        self.ailing.get(container).copied().unwrap_or_default()
    }
}

/// What is published of a container with this name and these addresses.
fn published(name: &str, health: Health, own: &[Subnet], names: &Names) -> Vec<String> {
    let plain = || vec![name.to_owned()];
    let Some(mark) = mark(name, health) else { return plain() };
    match best_of_others(name, own, names) {
        Some(best) if best < health => vec![mark],
        _ => [plain(), vec![mark]].concat(),
    }
}

/// Nothing for those that are well, and where it would be too long for a name.
fn mark(name: &str, health: Health) -> Option<String> {
    let (_, word) = MARKS.iter().find(|(marked, _)| *marked == health)?;
    let mark = format!("{}.{word}", name.trim_end_matches('.'));
    folded(&mark).is_ok().then_some(mark)
}

/// How well the best of the others is that have this name, if there are others.
fn best_of_others(name: &str, own: &[Subnet], names: &Names) -> Option<Health> {
    let others = |name: &str| {
        let found = folded(name).ok().map(|folded| addresses(&folded, names)).unwrap_or_default();
        found.into_iter().filter(|address| own.iter().all(|subnet| subnet.address != *address))
    };
    let marked = MARKS.map(|(health, _)| (health, mark(name, health).map(|mark| others(&mark).collect::<Vec<_>>())));
    let of = |address: &IpAddr| {
        let has = |marked: &Option<Vec<IpAddr>>| marked.iter().flatten().any(|other| other == address);
        marked.iter().find(|(_, others)| has(others)).map_or(Health::Healthy, |(health, _)| *health)
    };
    let gone = marked.iter().flat_map(|(health, others)| others.iter().flatten().map(|_| *health));
    others(name).map(|address| of(&address)).chain(gone).min()
}

fn addresses(folded: &str, names: &Names) -> Vec<IpAddr> {
    let entry = names.find(folded);
    let v4 = entry.iter().flat_map(|entry| entry.v4()).map(|address| IpAddr::from(*address));
    let v6 = entry.iter().flat_map(|entry| entry.v6()).map(|address| IpAddr::from(*address));
    v4.chain(v6).collect()
}

/// The names of the mesh, as far as names here depend on them.
pub(super) struct Judge(Option<Arc<Names>>);

impl Judge {
    /// What is published of a container of this host.
    pub(super) fn published(&self, faring: &Faring, tenant: &Tenant, own: &[Subnet]) -> Vec<String> {
        let Some(names) = &self.0 else { return tenant.names.clone() };
        let health = faring.of(&tenant.container);
        tenant.names.iter().flat_map(|name| published(name, health, own, names)).collect()
    }
}

impl Control {
    /// With `--dns-all` names depend on nothing, nor do they where everybody is well.
    pub(super) fn judge(&mut self) -> Judge {
        let follows = self.about.dns.as_ref().is_some_and(|dns| !dns.all);
        Judge((follows && !self.faring.is_empty()).then(|| self.node.names()))
    }

    /// Other names are known than before: who has given way may be the best now, and the other way round.
    pub(super) fn handle_names(&mut self) {
        if self.faring.is_empty() { self.serve_names() } else { self.publish_endpoints() }
    }

    pub(super) fn note_health(&mut self, container: &str, health: Health) {
        if self.faring.note(container, health) {
            self.publish_endpoints();
        }
    }

    /// It has died, or is gone for good.
    pub(super) fn note_end(&mut self, container: &str, is_gone: bool) {
        let is_news = if is_gone { self.faring.forget(container) } else { self.faring.note_death(container) };
        if is_news {
            self.publish_endpoints();
        }
    }
}

#[cfg(test)]
mod tests {
    use weave_docker::events::Resident;
    use weave_mesh::identity::PeerKey;
    use weave_mesh::name::MacAddr;
    use weave_mesh::store::{Content, Endpoint, EndpointId, Record};

    use super::*;

    const WEB: &str = "web.weave.local.";

    fn subnet(last: u8) -> Subnet {
        Subnet { address: [10, 32, 0, last].into(), prefix_len: 12 }
    }

    /// What hosts publish of containers that are all called `web`, once each has seen what the others do.
    fn settled(healths: &[Health]) -> Vec<bool> {
        let mut published: Vec<Vec<String>> = vec![vec![WEB.to_owned()]; healths.len()];
        loop {
            let mut names = Names::default();
            for (index, of) in published.iter().enumerate() {
                names.add(PeerKey([index as u8; 32]), &record(index as u8, of));
            }
            let next =
                |(index, health): (usize, &Health)| super::published(WEB, *health, &[subnet(index as u8)], &names);
            let next: Vec<_> = healths.iter().enumerate().map(next).collect();
            if next == published {
                return published.iter().map(|names| names.iter().any(|name| name == WEB)).collect();
            }
            published = next;
        }
    }

    fn record(index: u8, names: &[String]) -> Record {
        let endpoint = Endpoint {
            mac: MacAddr([2, 0, 0, 0, 0, index]),
            addresses: vec![subnet(index)],
            container: index.to_string(),
            names: names.to_vec(),
            attached: 1,
        };
        Record::new(Content::Endpoint(EndpointId(index.into()), endpoint))
    }

    #[test]
    fn the_best_of_a_name_are_answered_and_if_none_is_well_all_that_are_equally_unwell() {
        use Health::{Healthy, Starting, Unhealthy};
        for (healths, answered) in [
            (&[Healthy, Unhealthy, Healthy][..], &[true, false, true][..]),
            (&[Healthy, Starting], &[true, false]),
            (&[Starting, Unhealthy, Starting], &[true, false, true]),
            (&[Unhealthy, Unhealthy], &[true, true]),
            (&[Unhealthy], &[true]),
            (&[Starting], &[true]),
        ] {
            assert_eq!(settled(healths), answered, "{healths:?}");
        }
    }

    #[test]
    fn a_name_without_room_for_a_mark_is_always_published() {
        let long = format!("{}.weave.local", ["a".repeat(60).as_str(); 4].join(".").get(..236).unwrap_or_default());
        assert!(folded(&long).is_ok(), "{}", long.len());
        assert_eq!(published(&long, Health::Unhealthy, &[], &Names::default()), [long]);
    }

    #[test]
    fn only_news_count() {
        let mut faring = Faring::default();
        assert!(!faring.note("a", Health::Healthy));
        assert!(faring.note("a", Health::Unhealthy) && !faring.note("a", Health::Unhealthy));
        let resident = |health| Resident { health, endpoints: Vec::new() };
        let census = |health| Census::from([("a".to_owned(), resident(health)), ("b".to_owned(), resident(None))]);
        assert!(!faring.take_stock(&census(Some(Health::Unhealthy))));
        assert!(faring.take_stock(&census(Some(Health::Healthy))));
        assert_eq!(faring.of("a"), Health::Healthy);
        assert!(faring.note("a", Health::Starting) && faring.note("a", Health::Healthy));
    }

    #[test]
    fn whoever_has_a_check_begins_anew_with_it() {
        let mut faring = Faring::default();
        faring.note("a", Health::Unhealthy);
        faring.note("a", Health::Healthy);

        assert!(faring.note_death("a") && !faring.note_death("b"));
        assert_eq!((faring.of("a"), faring.of("b")), (Health::Starting, Health::Healthy));
        assert!(!faring.take_stock(&Census::from([("a".to_owned(), Resident::default())])), "it is so still");
        assert!(faring.forget("a") && !faring.note_death("a"));
        assert!(faring.note("a", Health::Unhealthy) && faring.take_stock(&Census::new()) && faring.is_empty());
    }
}
