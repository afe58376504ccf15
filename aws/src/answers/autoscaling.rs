//! `DescribeAutoScalingInstances` and `DescribeAutoScalingGroups` (Auto Scaling, version 2011-01-01).

use super::{Page, token};
use crate::identity::InstanceId;
use crate::listing::Lifecycle;
use crate::xml::{Step, Unreadable, walk};

const OF_INSTANCE: &str =
    "DescribeAutoScalingInstancesResponse/DescribeAutoScalingInstancesResult/AutoScalingInstances/member";
const INSTANCES_TOKEN: &str = "DescribeAutoScalingInstancesResponse/DescribeAutoScalingInstancesResult/NextToken";
const GROUP: &str = "DescribeAutoScalingGroupsResponse/DescribeAutoScalingGroupsResult/AutoScalingGroups/member";
const GROUPS_TOKEN: &str = "DescribeAutoScalingGroupsResponse/DescribeAutoScalingGroupsResult/NextToken";

/// Which group an instance is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Membership {
    pub(crate) instance: String,
    pub(crate) group: String,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) desired: u32,
    pub(crate) members: Vec<(InstanceId, Lifecycle)>,
}

/// What was read of a group so far.
#[derive(Default)]
struct Draft {
    name: String,
    desired: String,
    members: Vec<(String, String)>,
}

/// Reads one page of memberships.
pub(crate) fn memberships(body: &[u8]) -> Result<Page<Membership>, Unreadable> {
    let (mut items, mut next, mut is_ours) = (Vec::<Membership>::new(), None, false);
    walk(body, |path, step| match (path, step) {
        ("DescribeAutoScalingInstancesResponse", Step::Opened) => is_ours = true,
        (INSTANCES_TOKEN, Step::Closed(text)) => next = token(text),
        (OF_INSTANCE, Step::Opened) => items.push(Membership::default()),
        (path, Step::Closed(text)) => match (field(path, OF_INSTANCE), items.last_mut()) {
            (Some("InstanceId"), Some(item)) => text.clone_into(&mut item.instance),
            (Some("AutoScalingGroupName"), Some(item)) => text.clone_into(&mut item.group),
            _ => {}
        },
        _ => {}
    })?;
    if is_ours { Ok(Page { items, next }) } else { Err(Unreadable("it is not about instances".to_owned())) }
}

/// Reads one page of groups.
pub(crate) fn groups(body: &[u8]) -> Result<Page<Group>, Unreadable> {
    let (mut drafts, mut next, mut is_ours) = (Vec::<Draft>::new(), None, false);
    walk(body, |path, step| match (path, step) {
        ("DescribeAutoScalingGroupsResponse", Step::Opened) => is_ours = true,
        (GROUPS_TOKEN, Step::Closed(text)) => next = token(text),
        (GROUP, Step::Opened) => drafts.push(Draft::default()),
        (path, step) => {
            if let (Some(field), Some(draft)) = (field(path, GROUP), drafts.last_mut()) {
                draft.take(field, &step);
            }
        }
    })?;
    if !is_ours {
        return Err(Unreadable("it is not about groups".to_owned()));
    }
    Ok(Page { items: drafts.into_iter().map(Draft::finish).collect::<Result<_, _>>()?, next })
}

fn field<'a>(path: &'a str, of: &str) -> Option<&'a str> {
    path.strip_prefix(of)?.strip_prefix('/')
}

impl Draft {
    fn take(&mut self, field: &str, step: &Step<'_>) {
        match (field, step) {
            ("AutoScalingGroupName", Step::Closed(text)) => (*text).clone_into(&mut self.name),
            ("DesiredCapacity", Step::Closed(text)) => (*text).clone_into(&mut self.desired),
            ("Instances/member", Step::Opened) => self.members.push(Default::default()),
            ("Instances/member/InstanceId", Step::Closed(text)) => {
                self.members.last_mut().into_iter().for_each(|(id, _)| (*text).clone_into(id));
            }
            ("Instances/member/LifecycleState", Step::Closed(text)) => {
                self.members.last_mut().into_iter().for_each(|(_, state)| (*text).clone_into(state));
            }
            _ => {}
        }
    }

    fn finish(self) -> Result<Group, Unreadable> {
        let unreadable = |what: &str| Unreadable(format!("a group without {what}"));
        let member = |(id, state): (String, String)| {
            Ok((id.parse().map_err(|_| unreadable("ids"))?, Lifecycle::of_word(&state)))
        };
        let desired = self.desired.parse().map_err(|_| unreadable("a desired capacity"))?;
        let members = self.members.into_iter().map(member).collect::<Result<_, Unreadable>>()?;
        Ok(Group { name: self.name, desired, members })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GROUPS: &str = r#"<DescribeAutoScalingGroupsResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/">
  <DescribeAutoScalingGroupsResult><AutoScalingGroups><member>
    <AutoScalingGroupName>web</AutoScalingGroupName><MinSize>0</MinSize><DesiredCapacity>3</DesiredCapacity>
    <Instances>
      <member><InstanceId>i-0a</InstanceId><LifecycleState>InService</LifecycleState></member>
      <member><InstanceId>i-0b</InstanceId><LifecycleState>Warmed:Stopped</LifecycleState></member>
    </Instances><Tags><member><Key>DesiredCapacity</Key><Value>9</Value></member></Tags>
  </member></AutoScalingGroups><NextToken>more</NextToken></DescribeAutoScalingGroupsResult>
  <ResponseMetadata><RequestId>1</RequestId></ResponseMetadata></DescribeAutoScalingGroupsResponse>"#;

    const INSTANCES: &str = "<DescribeAutoScalingInstancesResponse><DescribeAutoScalingInstancesResult>\
        <AutoScalingInstances><member><InstanceId>i-0a</InstanceId><AutoScalingGroupName>web</AutoScalingGroupName>\
        </member></AutoScalingInstances></DescribeAutoScalingInstancesResult></DescribeAutoScalingInstancesResponse>";

    #[test]
    fn a_group_has_a_capacity_and_members() {
        let page = groups(GROUPS.as_bytes()).unwrap();

        let member = |id: &str, state| (id.parse().unwrap(), state);
        let warmed = Lifecycle::Warmed("Stopped".to_owned());
        let members = vec![member("i-0a", Lifecycle::InService), member("i-0b", warmed)];
        assert_eq!(page.items, [Group { name: "web".to_owned(), desired: 3, members }]);
        assert_eq!(page.next.as_deref(), Some("more"));
    }

    #[test]
    fn an_instance_is_in_a_group() {
        let page = memberships(INSTANCES.as_bytes()).unwrap();
        assert_eq!(page.items, [Membership { instance: "i-0a".to_owned(), group: "web".to_owned() }]);
        assert_eq!(page.next, None);
        assert!(memberships(GROUPS.as_bytes()).is_err() && groups(INSTANCES.as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_part_of_an_answer_is_taken_for_all_of_it(cut in 0..GROUPS.len()) {
            prop_assert!(groups(&GROUPS.as_bytes()[..cut]).is_err());
            prop_assert!(memberships(&INSTANCES.as_bytes()[..cut.min(INSTANCES.len() - 1)]).is_err());
        }

        #[test]
        fn a_changed_answer_does_no_harm(at in 0..GROUPS.len(), octet in any::<u8>()) {
            let mut bytes = GROUPS.as_bytes().to_vec();
            bytes[at] = octet;
            groups(&bytes).ok();
        }
    }
}
