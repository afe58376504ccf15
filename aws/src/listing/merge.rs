//! One listing of two answers: EC2 tells who there is, Auto Scaling what becomes of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{Instance, InstanceState, Lifecycle, Scope};
use crate::answers::autoscaling::Group;
use crate::answers::ec2::Described;
use crate::identity::InstanceId;

/// The Auto Scaling groups that tell more of these instances.
pub(crate) fn groups_of(scope: &Scope, described: &[Described]) -> BTreeSet<String> {
    match scope {
        Scope::Group(name) => BTreeSet::from([name.clone()]),
        Scope::Tag(_) => described.iter().filter_map(|it| it.group.clone()).collect(),
    }
}

/// Which instances are its peers, by its tags.
pub(crate) fn scope_of(described: &Described) -> Option<Scope> {
    let by_tag = described.peer_group.clone().map(Scope::Tag);
    by_tag.or_else(|| described.group.clone().map(Scope::Group))
}

/// How many instances these groups are to have together; none where there is no group.
pub(crate) fn desired(groups: &[Group]) -> Option<u32> {
    groups.iter().map(|group| group.desired).reduce(u32::saturating_add)
}

/// Every instance once, in the order of ids. EC2 answers late at times: a member of the own group that it does not name
/// yet is listed, too, in an unknown state. Members of other groups are not: they may lack the tag.
pub(crate) fn merge(scope: &Scope, described: Vec<Described>, groups: Vec<Group>) -> Vec<Instance> {
    let mut all: BTreeMap<InstanceId, Instance> = described.into_iter().map(|it| (it.id.clone(), plain(it))).collect();
    for group in groups {
        let is_own = matches!(scope, Scope::Group(name) if *name == group.name);
        for (id, lifecycle) in group.members {
            if is_own {
                all.entry(id.clone()).or_insert_with(|| unheard_of(id.clone()));
            }
            if let Some(instance) = all.get_mut(&id) {
                instance.lifecycle = Some(lifecycle);
                instance.group = Some(group.name.clone());
            }
        }
    }
    all.into_values().collect()
}

pub(crate) fn plain(described: Described) -> Instance {
    let Described { id, launched, address, state, group, .. } = described;
    Instance { id, launched, address, state, lifecycle: None::<Lifecycle>, group }
}

fn unheard_of(id: InstanceId) -> Instance {
    let state = InstanceState::Unknown(String::new());
    Instance { id, launched: 0, address: None, state, lifecycle: None, group: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn described(id: &str, peer_group: Option<&str>, group: Option<&str>) -> Described {
        let own = |text: &str| text.to_owned();
        let (peer_group, group) = (peer_group.map(own), group.map(own));
        let (id, state) = (id.parse().unwrap(), InstanceState::Running);
        Described { id, launched: 1, address: None, state, peer_group, group }
    }

    fn group(name: &str, desired: u32, members: &[&str]) -> Group {
        let members = members.iter().map(|id| (id.parse().unwrap(), Lifecycle::InService)).collect();
        Group { name: name.to_owned(), desired, members }
    }

    fn ids(instances: &[Instance]) -> Vec<&str> {
        instances.iter().map(|instance| instance.id.as_ref()).collect()
    }

    #[test]
    fn a_tag_comes_before_a_group() {
        assert_eq!(scope_of(&described("i-1", Some("blue"), Some("web"))), Some(Scope::Tag("blue".to_owned())));
        assert_eq!(scope_of(&described("i-1", None, Some("web"))), Some(Scope::Group("web".to_owned())));
        assert_eq!(scope_of(&described("i-1", None, None)), None);
    }

    #[test]
    fn a_member_that_ec2_does_not_name_yet_is_listed_and_alive() {
        let scope = Scope::Group("web".to_owned());
        let merged = merge(&scope, vec![described("i-2", None, Some("web"))], vec![group("web", 2, &["i-1", "i-2"])]);

        assert_eq!(ids(&merged), ["i-1", "i-2"]);
        assert!(merged.iter().all(|it| it.is_expected() && it.lifecycle == Some(Lifecycle::InService)));
        assert_eq!(merged[0].group.as_deref(), Some("web"));
    }

    #[test]
    fn of_a_tag_nobody_is_listed_who_does_not_carry_it() {
        let scope = Scope::Tag("blue".to_owned());
        let found = vec![described("i-1", Some("blue"), Some("web")), described("i-3", Some("blue"), None)];
        let groups = vec![group("web", 2, &["i-1", "i-2"])];

        assert_eq!(groups_of(&scope, &found), BTreeSet::from(["web".to_owned()]));
        let merged = merge(&scope, found, groups);

        assert_eq!(ids(&merged), ["i-1", "i-3"]);
        assert_eq!(merged[1].lifecycle, None);
    }

    #[test]
    fn capacities_add_up_and_no_group_has_none() {
        assert_eq!(desired(&[group("a", 2, &[]), group("b", 3, &[])]), Some(5));
        assert_eq!(desired(&[group("a", u32::MAX, &[]), group("b", 3, &[])]), Some(u32::MAX));
        assert_eq!(desired(&[]), None);
    }
}
