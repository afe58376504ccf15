//! Listings against an AWS that misbehaves: over real connections, with signatures that are checked.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use weave_aws::fake::{Fake, Fault, World};
use weave_aws::{Call, Cloud, InstanceState, Kind, Lifecycle, Listing, Presence, Scope};

const OWN: &str = "i-00000000000000001";

fn id(number: u8) -> String {
    format!("i-{number:017}")
}

fn address(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, 0, number)
}

/// A world with instances 1 to `count` in one Auto Scaling group, of which 1 is ours.
fn group_of(count: u8) -> World {
    let mut world = World::default();
    for number in 1..=count {
        world.launch(&id(number), address(number), &[("Name", "a <b> & c")]);
        world.join("web", &id(number));
    }
    world
}

/// A world with instances 1 to `count` that carry a tag, and another that does not.
fn tagged(count: u8, value: &str) -> World {
    let mut world = World::default();
    (1..=count).for_each(|number| world.launch(&id(number), address(number), &[("weave:peerGroupName", value)]));
    world.launch(&id(99), address(99), &[("weave:peerGroupName", "another")]);
    world
}

fn serve(world: World) -> Fake {
    Fake::on_loopback(world).expect("a listener on loopback")
}

fn cloud(fake: &Fake) -> Cloud {
    Cloud::new(fake.settings(OWN, &[]).expect("URLs"))
}

fn error(status: u16, code: &str) -> Fault {
    Fault::Error { status, code: code.to_owned() }
}

fn ids(listing: &Listing) -> Vec<String> {
    listing.instances.iter().map(|instance| instance.id.to_string()).collect()
}

fn lines(listing: &Listing) -> Vec<String> {
    listing.problems.iter().map(ToString::to_string).collect()
}

#[tokio::test]
async fn an_instance_lists_its_auto_scaling_group() {
    let fake = serve(group_of(3));
    fake.world().groups.get_mut("web").unwrap().members.insert(id(2), "Warmed:Stopped".to_owned());
    fake.world().machines.get_mut(&id(2)).unwrap().state = "stopped".to_owned();

    let listing = cloud(&fake).list(&BTreeSet::new()).await.unwrap();

    assert_eq!((listing.own.as_ref(), &listing.scope), (OWN, &Scope::Group("web".to_owned())));
    assert_eq!((ids(&listing), listing.desired), (vec![id(1), id(2), id(3)], Some(3)));
    assert!(listing.complete && listing.problems.is_empty(), "{listing:?}");
    let [first, second, _] = &listing.instances[..] else { panic!("{listing:?}") };
    assert_eq!((first.address, first.launched), (Some(address(1)), 1_790_071_200));
    assert_eq!((first.state.clone(), first.lifecycle.clone()), (InstanceState::Running, Some(Lifecycle::InService)));
    assert!(first.is_expected() && !second.is_expected());
    assert_eq!(fake.count("no token"), 0);
}

#[tokio::test]
async fn a_tag_goes_before_the_group_and_is_taken_as_it_is() {
    let mut world = tagged(2, "blue *?\\ & <green>");
    world.join("a", &id(1));
    world.join("b", &id(2));
    world.groups.get_mut("b").unwrap().desired = 5;
    world.launch(&id(3), address(3), &[]);
    world.join("b", &id(3));
    let fake = serve(world);

    let listing = cloud(&fake).list(&BTreeSet::new()).await.unwrap();

    assert_eq!(listing.scope, Scope::Tag("blue *?\\ & <green>".to_owned()));
    assert_eq!((ids(&listing), listing.desired), (vec![id(1), id(2)], Some(7)));
    assert!(listing.complete);
    assert_eq!(listing.instances[1].group.as_deref(), Some("b"));
}

#[tokio::test]
async fn a_tag_without_groups_asks_auto_scaling_nothing_and_desires_nothing() {
    let fake = serve(tagged(2, "blue"));

    let listing = cloud(&fake).list(&BTreeSet::new()).await.unwrap();

    assert_eq!((listing.desired, listing.complete, listing.instances.len()), (None, true, 2));
    assert_eq!(fake.count("DescribeAutoScalingGroups"), 0);
}

#[tokio::test]
async fn answers_come_in_pages_and_the_scope_is_found_once() {
    let fake = serve(group_of(7));
    fake.world().per_page = 2;
    let mut cloud = cloud(&fake);

    let first = cloud.list(&BTreeSet::new()).await.unwrap();
    assert_eq!((first.instances.len(), first.complete), (7, true));
    assert_eq!(fake.count("DescribeInstances"), 1 + 4);

    fake.world().asked.clear();
    assert_eq!(cloud.list(&BTreeSet::new()).await.unwrap(), first);
    assert_eq!(fake.world().asked, [&["DescribeInstances"; 4][..], &["DescribeAutoScalingGroups"]].concat());
}

#[tokio::test]
async fn a_page_that_fails_leaves_those_before_it_and_no_absence_means_anything() {
    let fake = serve(group_of(5));
    let mut cloud = cloud(&fake);
    assert!(cloud.list(&BTreeSet::new()).await.unwrap().complete);

    let broken = "<DescribeInstancesResponse><reservationSet><item>".to_owned();
    for fault in [error(503, "RequestLimitExceeded"), Fault::Body(broken), Fault::CutTo(300), Fault::CutTo(0)] {
        // The first page arrives, the second does not.
        fake.world().per_page = 2;
        fake.world().fail("DescribeInstances", Fault::CutTo(usize::MAX));
        fake.world().fail("DescribeInstances", fault.clone());

        let listing = cloud.list(&BTreeSet::new()).await.unwrap();

        assert_eq!((ids(&listing)[..2].to_vec(), listing.complete), (vec![id(1), id(2)], false), "{fault:?}");
        assert_eq!(listing.problems.len(), 1, "{fault:?}");
        assert_eq!(listing.problems[0].call, Call::DescribeInstances);
    }
    assert!(cloud.list(&BTreeSet::new()).await.unwrap().complete, "the next one goes well again");
}

#[tokio::test]
async fn throttling_is_told_from_other_failures() {
    let fake = serve(group_of(2));
    let mut cloud = cloud(&fake);
    for (status, code, kind) in [
        (503, "RequestLimitExceeded", Kind::Throttled),
        (500, "InternalError", Kind::Throttled),
        (400, "Throttling", Kind::Throttled),
        (400, "InvalidParameterValue", Kind::Failed),
    ] {
        fake.world().fail("DescribeInstances", error(status, code));

        let problem = cloud.list(&BTreeSet::new()).await.unwrap_err();

        assert_eq!((problem.kind, problem.to_string()), (kind, format!("DescribeInstances: {code} (request req-1)")));
    }
}

#[tokio::test]
async fn what_the_role_lacks_is_named() {
    let fake = serve(group_of(2));
    fake.world().denied.insert("DescribeInstances".to_owned());

    let problem = cloud(&fake).list(&BTreeSet::new()).await.unwrap_err();

    assert_eq!(
        problem.to_string(),
        "DescribeInstances: UnauthorizedOperation (request req-1): the role needs ec2:DescribeInstances"
    );
}

#[tokio::test]
async fn without_auto_scaling_the_rest_is_of_use_and_whole() {
    let fake = serve(group_of(2));
    fake.world().denied.insert("DescribeAutoScalingGroups".to_owned());

    let listing = cloud(&fake).list(&BTreeSet::new()).await.unwrap();

    assert_eq!((ids(&listing), listing.desired, listing.complete), (vec![id(1), id(2)], None, true));
    assert_eq!(
        lines(&listing),
        [
            "DescribeAutoScalingGroups: AccessDenied (request req-1): the role needs autoscaling:DescribeAutoScalingGroups"
        ]
    );
}

#[tokio::test]
async fn auto_scaling_that_stumbles_makes_a_listing_incomplete() {
    let fake = serve(group_of(2));
    fake.world().fail("DescribeAutoScalingGroups", error(400, "Throttling"));

    let listing = cloud(&fake).list(&BTreeSet::new()).await.unwrap();

    assert_eq!((listing.instances.len(), listing.desired, listing.complete), (2, None, false));
}

#[tokio::test]
async fn a_group_without_a_tag_yet_is_asked_for_at_auto_scaling() {
    let fake = serve(group_of(2));
    fake.world().machines.get_mut(OWN).unwrap().tags.clear();

    let listing = cloud(&fake).list(&BTreeSet::new()).await.unwrap();

    assert_eq!((&listing.scope, ids(&listing)), (&Scope::Group("web".to_owned()), vec![id(1), id(2)]));
    assert!(!listing.complete, "EC2 does not count this instance in yet");
    assert_eq!(listing.instances[0].state, InstanceState::Unknown(String::new()));
}

#[tokio::test]
async fn an_instance_of_no_group_says_so() {
    let mut world = World::default();
    world.launch(OWN, address(1), &[]);
    let fake = serve(world);

    let problem = cloud(&fake).list(&BTreeSet::new()).await.unwrap_err().to_string();

    assert!(problem.contains("has no tag weave:peerGroupName and is in no Auto Scaling group"), "{problem}");
}

#[tokio::test]
async fn credentials_of_another_account_are_no_empty_group() {
    let fake = serve(group_of(2));
    fake.world().account = "999999999999".to_owned();

    let problem = cloud(&fake).list(&BTreeSet::new()).await.unwrap_err().to_string();

    assert!(problem.contains("are the credentials of its account?"), "{problem}");
}

#[tokio::test]
async fn an_instance_that_leaves_the_answer_makes_it_incomplete_and_is_looked_for_anew() {
    let fake = serve(group_of(2));
    let mut cloud = cloud(&fake);
    assert!(cloud.list(&BTreeSet::new()).await.unwrap().complete);

    fake.world().machines.get_mut(OWN).unwrap().tags.insert("aws:autoscaling:groupName".to_owned(), "other".to_owned());
    let listing = cloud.list(&BTreeSet::new()).await.unwrap();
    assert!(!listing.complete && lines(&listing)[0].contains("is not in the answer"), "{listing:?}");

    let listing = cloud.list(&BTreeSet::new()).await.unwrap();
    assert_eq!((listing.scope, listing.complete), (Scope::Group("other".to_owned()), true));
}

#[tokio::test]
async fn states_that_nobody_knows_are_kept_and_alive() {
    let fake = serve(group_of(2));
    fake.world().groups.get_mut("web").unwrap().members.insert(id(2), "Pondering:Wait".to_owned());
    fake.world().machines.get_mut(&id(2)).unwrap().state = "levitating".to_owned();

    let listing = cloud(&fake).list(&BTreeSet::new()).await.unwrap();

    let second = &listing.instances[1];
    assert_eq!(second.lifecycle, Some(Lifecycle::Unknown("Pondering:Wait".to_owned())));
    assert_eq!(second.state, InstanceState::Unknown("levitating".to_owned()));
    assert!(second.is_expected() && !second.is_gone());
}

#[tokio::test]
async fn a_terminated_instance_is_listed_as_gone_without_an_address() {
    let fake = serve(group_of(2));
    fake.world().machines.get_mut(&id(2)).unwrap().state = "terminated".to_owned();
    fake.world().groups.get_mut("web").unwrap().members.remove(&id(2));

    let listing = cloud(&fake).list(&BTreeSet::new()).await.unwrap();

    assert!(listing.complete && listing.instances[1].is_gone() && !listing.instances[0].is_gone());
    assert_eq!(listing.instances[1].address, None);
}

#[tokio::test]
async fn more_instances_than_the_limit_are_left_out_and_said() {
    let mut world = World::default();
    world.launch(OWN, address(1), &[("weave:peerGroupName", "crowd")]);
    for number in 0..10_000 {
        world.launch(&format!("i-9{number:016}"), address(2), &[("weave:peerGroupName", "crowd")]);
    }
    let fake = serve(world);

    let listing = cloud(&fake).list(&BTreeSet::new()).await.unwrap();

    assert_eq!((listing.instances.len(), listing.complete), (10_000, false));
    assert!(lines(&listing)[0].contains("the rest is left out"), "{:?}", lines(&listing));
}

#[tokio::test]
async fn silence_ends_after_ten_seconds() {
    let fake = serve(group_of(2));
    fake.world().fail("DescribeInstances", Fault::Silence);

    let problem = cloud(&fake).list(&BTreeSet::new()).await.unwrap_err();

    assert_eq!((problem.call, problem.kind), (Call::DescribeInstances, Kind::Unanswered));
    assert!(problem.to_string().contains("within 10s"), "{problem}");
}

#[tokio::test]
async fn a_cloud_that_goes_away_is_unanswered() {
    let fake = serve(group_of(2));
    let mut cloud = cloud(&fake);
    cloud.list(&BTreeSet::new()).await.unwrap();
    drop(fake);

    assert_eq!(cloud.list(&BTreeSet::new()).await.unwrap_err().kind, Kind::Unanswered);
    assert_eq!(cloud.probe().await, Presence::Nobody);
}

#[tokio::test]
async fn an_instance_that_its_group_let_go_is_found_by_its_id_and_one_that_ec2_forgot_is_not() {
    let fake = serve(group_of(2));
    fake.world().launch(&id(7), address(7), &[]);
    let also = [id(1), id(7), id(8)].map(|id| id.parse().unwrap());

    let listing = cloud(&fake).list(&BTreeSet::from(also)).await.unwrap();

    assert_eq!(ids(&listing), [id(1), id(2)]);
    assert_eq!(listing.others.iter().map(|it| it.id.to_string()).collect::<Vec<_>>(), [id(7)]);
    assert!(listing.complete, "{listing:?}");
}

#[tokio::test]
async fn a_listing_in_which_others_could_not_be_looked_for_is_not_complete() {
    let fake = serve(group_of(2));
    let mut cloud = cloud(&fake);
    cloud.list(&BTreeSet::new()).await.unwrap();
    // The group is told of, and then not the other.
    fake.world().pass("DescribeInstances");
    fake.world().fail("DescribeInstances", error(400, "RequestLimitExceeded"));

    let listing = cloud.list(&BTreeSet::from([id(7).parse().unwrap()])).await.unwrap();

    assert_eq!((listing.complete, listing.instances.len()), (false, 2), "{listing:?}");
}
