//! `DescribeInstances` (EC2, version 2016-11-15).

use std::net::Ipv4Addr;

use super::{Page, token};
use crate::identity::InstanceId;
use crate::listing::InstanceState;
use crate::time;
use crate::xml::{Step, Unreadable, walk};

/// The tag by which instances of several groups, or of none, are peers.
pub(crate) const PEER_GROUP_TAG: &str = "weave:peerGroupName";
/// The tag that Auto Scaling gives to members of a group. Nobody else can: AWS keeps the prefix to itself.
pub(crate) const GROUP_TAG: &str = "aws:autoscaling:groupName";
const INSTANCE: &str = "DescribeInstancesResponse/reservationSet/item/instancesSet/item";

/// An instance as EC2 has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Described {
    pub(crate) id: InstanceId,
    pub(crate) launched: i64,
    pub(crate) address: Option<Ipv4Addr>,
    pub(crate) state: InstanceState,
    /// The value of [`PEER_GROUP_TAG`].
    pub(crate) peer_group: Option<String>,
    /// The value of [`GROUP_TAG`].
    pub(crate) group: Option<String>,
}

/// What was read of an instance so far.
#[derive(Default)]
struct Draft {
    id: String,
    launched: String,
    address: String,
    state: String,
    /// The tag that is being read.
    tag: (String, String),
    peer_group: Option<String>,
    group: Option<String>,
}

/// Reads one page.
pub(crate) fn instances(body: &[u8]) -> Result<Page<Described>, Unreadable> {
    let (mut drafts, mut next, mut is_ours) = (Vec::new(), None, false);
    walk(body, |path, step| match (path, step) {
        ("DescribeInstancesResponse", Step::Opened) => is_ours = true,
        ("DescribeInstancesResponse/nextToken", Step::Closed(text)) => next = token(text),
        (INSTANCE, Step::Opened) => drafts.push(Draft::default()),
        (path, Step::Closed(text)) => {
            let field = path.strip_prefix(INSTANCE).and_then(|rest| rest.strip_prefix('/'));
            if let (Some(field), Some(draft)) = (field, drafts.last_mut()) {
                draft.take(field, text);
            }
        }
        _ => {}
    })?;
    if !is_ours {
        return Err(Unreadable("it is not about instances".to_owned()));
    }
    Ok(Page { items: drafts.into_iter().map(Draft::finish).collect::<Result<_, _>>()?, next })
}

impl Draft {
    fn take(&mut self, field: &str, text: &str) {
        match field {
            "instanceId" => text.clone_into(&mut self.id),
            "launchTime" => text.clone_into(&mut self.launched),
            // That of the primary interface; each interface has a list of its own further below.
            "privateIpAddress" => text.clone_into(&mut self.address),
            "instanceState/name" => text.clone_into(&mut self.state),
            "tagSet/item/key" => text.clone_into(&mut self.tag.0),
            "tagSet/item/value" => text.clone_into(&mut self.tag.1),
            "tagSet/item" => self.take_tag(),
            _ => {}
        }
    }

    fn take_tag(&mut self) {
        let (key, value) = std::mem::take(&mut self.tag);
        match key.as_str() {
            PEER_GROUP_TAG => self.peer_group = token(&value),
            GROUP_TAG => self.group = token(&value),
            _ => {}
        }
    }

    fn finish(self) -> Result<Described, Unreadable> {
        let Self { id, launched, address, state, peer_group, group, .. } = self;
        let unreadable = |what: &str| Unreadable(format!("an instance without {what}"));
        Ok(Described {
            id: id.parse().map_err(|_| unreadable("an id"))?,
            launched: time::parse_iso(&launched).ok_or_else(|| unreadable("a launch time"))?,
            address: address.parse().ok(),
            state: InstanceState::of_word(&state),
            peer_group,
            group,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ANSWER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">
  <requestId>8f7724cf</requestId>
  <reservationSet><item><reservationId>r-1</reservationId><ownerId>123456789012</ownerId><groupSet/>
    <instancesSet>
      <item><instanceId>i-0a</instanceId><instanceState><code>16</code><name>running</name></instanceState>
        <privateIpAddress>10.0.0.7</privateIpAddress><launchTime>2026-09-22T10:00:00.000Z</launchTime>
        <tagSet><item><key>Name</key><value>a &lt;b&gt;</value></item>
          <item><key>weave:peerGroupName</key><value>blue &amp; green</value></item>
          <item><key>aws:autoscaling:groupName</key><value>web</value></item></tagSet>
        <networkInterfaceSet><item><privateIpAddress>10.0.0.9</privateIpAddress><privateIpAddressesSet>
          <item><privateIpAddress>10.0.0.8</privateIpAddress></item></privateIpAddressesSet>
          <tagSet><item><key>aws:autoscaling:groupName</key><value>not this</value></item></tagSet></item>
        </networkInterfaceSet></item>
      <item><instanceId>i-0b</instanceId><instanceState><code>48</code><name>terminated</name></instanceState>
        <launchTime>2026-09-22T10:00:00.000Z</launchTime><tagSet/></item>
    </instancesSet></item></reservationSet>
  <nextToken>more</nextToken>
</DescribeInstancesResponse>"#;

    #[test]
    fn instances_have_one_address_and_two_tags_that_count() {
        let page = instances(ANSWER.as_bytes()).unwrap();

        assert_eq!(page.next.as_deref(), Some("more"));
        let [first, second] = &page.items[..] else { panic!("{page:?}") };
        assert_eq!((first.address, first.launched), (Some(Ipv4Addr::new(10, 0, 0, 7)), 1_790_071_200));
        assert_eq!((first.peer_group.as_deref(), first.group.as_deref()), (Some("blue & green"), Some("web")));
        assert_eq!((second.address, &second.state), (None, &InstanceState::Terminated));
    }

    #[test]
    fn an_empty_answer_is_one_and_another_is_none() {
        let empty = b"<DescribeInstancesResponse><reservationSet/><nextToken/></DescribeInstancesResponse>";
        assert_eq!(instances(empty), Ok(Page { items: Vec::new(), next: None }));
        assert!(instances(b"<html><body>proxy</body></html>").is_err());
        assert!(instances(ANSWER.replace("i-0a", "").as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn no_part_of_an_answer_is_taken_for_all_of_it(cut in 0..ANSWER.len()) {
            prop_assert!(instances(&ANSWER.as_bytes()[..cut]).is_err());
        }

        #[test]
        fn a_changed_answer_does_no_harm(at in 0..ANSWER.len(), octet in any::<u8>()) {
            let mut bytes = ANSWER.as_bytes().to_vec();
            bytes[at] = octet;
            instances(&bytes).ok();
        }
    }
}
