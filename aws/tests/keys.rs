//! Tokens, keys and clocks that are old or wrong, and the secret that is fetched with them.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, TcpListener};

use weave_aws::fake::{Fake, Fault, World};
use weave_aws::{Cloud, Kind, Presence};

const OWN: &str = "i-00000000000000001";

fn world() -> World {
    let mut world = World::default();
    world.launch(OWN, Ipv4Addr::new(10, 0, 0, 1), &[]);
    world.join("web", OWN);
    world.parameters.insert("/weave/password".to_owned(), "hush".to_owned());
    world
}

fn serve(world: World) -> Fake {
    Fake::on_loopback(world).expect("a listener on loopback")
}

fn cloud_with(fake: &Fake, more: &[(&str, &str)]) -> Cloud {
    Cloud::new(fake.settings(OWN, more).expect("URLs"))
}

fn cloud(fake: &Fake) -> Cloud {
    cloud_with(fake, &[])
}

#[tokio::test]
async fn imds_tells_who_this_is_and_nothing_is_asked_without_a_token() {
    let fake = serve(world());
    let mut cloud = cloud(&fake);

    let identity = cloud.identity().await.unwrap();

    assert_eq!((identity.instance.as_ref(), identity.region.as_str()), (OWN, "eu-central-1"));
    assert_eq!((identity.account.as_str(), identity.address), ("123456789012", Ipv4Addr::new(10, 0, 0, 1)));
    cloud.identity().await.unwrap();
    assert_eq!(fake.world().asked, ["token", "document"], "the second time it is known");
}

#[tokio::test]
async fn a_token_that_ends_early_is_renewed_once() {
    let fake = serve(world());
    let mut cloud = cloud(&fake);
    cloud.identity().await.unwrap();
    fake.world().token += 1;

    cloud.list(&BTreeSet::new()).await.unwrap();
    assert_eq!(fake.count("token"), 2);

    // From here on no token is any good.
    fake.world().keys += 1;
    fake.world().asked.clear();
    for _ in 0..2 {
        fake.world().fail("roles", Fault::Error { status: 401, code: String::new() });
    }
    let problem = cloud.list(&BTreeSet::new()).await.unwrap_err();
    assert_eq!((problem.to_string().as_str(), fake.count("roles")), ("IMDS: status 401", 2));
}

#[tokio::test]
async fn a_probe_tells_three_cases_apart() {
    let fake = serve(world());
    assert_eq!(cloud(&fake).probe().await, Presence::Answers);

    fake.world().has_imds = false;
    assert_eq!(cloud(&fake).probe().await, Presence::Refuses("status 403 instead of a token".to_owned()));

    fake.world().fail("token", Fault::Silence);
    assert!(matches!(cloud(&fake).probe().await, Presence::Refuses(why) if why.contains("within 2s")));

    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nobody = format!("http://{free}");
    let elsewhere = cloud_with(&fake, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &nobody)]);
    assert_eq!(elsewhere.probe().await, Presence::Nobody);
}

#[tokio::test]
async fn imds_that_may_not_be_asked_is_not() {
    let fake = serve(world());
    let mut cloud = cloud_with(&fake, &[("AWS_EC2_METADATA_DISABLED", "true")]);

    assert_eq!(cloud.probe().await, Presence::Forbidden);
    assert!(cloud.list(&BTreeSet::new()).await.unwrap_err().to_string().contains("AWS_EC2_METADATA_DISABLED"));
    assert!(fake.world().asked.is_empty());
}

#[tokio::test]
async fn an_instance_without_a_role_says_what_it_needs() {
    let fake = serve(world());
    fake.world().fail("roles", Fault::Error { status: 404, code: String::new() });

    let problem = cloud(&fake).list(&BTreeSet::new()).await.unwrap_err().to_string();

    assert_eq!(problem, "IMDS: this instance has no role; attach an instance profile");
}

#[tokio::test]
async fn keys_that_expire_are_fetched_anew_once() {
    let fake = serve(world());
    let mut cloud = cloud(&fake);
    cloud.list(&BTreeSet::new()).await.unwrap();
    assert_eq!(fake.count("keys"), 1, "good ones are kept");

    fake.world().keys += 1;
    assert!(cloud.list(&BTreeSet::new()).await.unwrap().complete);
    assert_eq!(fake.count("keys"), 2);
    fake.world().keys += 1;
    assert_eq!(cloud.parameter("/weave/password").await.unwrap().reveal(), "hush", "SSM says it in other words");

    fake.world().asked.clear();
    for _ in 0..2 {
        fake.world().fail("DescribeInstances", Fault::Error { status: 400, code: "RequestExpired".to_owned() });
    }
    assert_eq!(cloud.list(&BTreeSet::new()).await.unwrap_err().kind, Kind::Expired);
    assert_eq!((fake.count("keys"), fake.count("DescribeInstances")), (1, 2));
}

#[tokio::test]
async fn keys_near_their_end_are_renewed_before_and_used_if_there_are_no_others() {
    let mut near = world();
    near.keys_life = 299;
    let fake = serve(near);
    let mut cloud = cloud(&fake);

    cloud.list(&BTreeSet::new()).await.unwrap();
    assert!(fake.count("keys") >= 2, "each call looks for better ones");

    fake.world().fail("roles", Fault::Error { status: 500, code: String::new() });
    assert_eq!(cloud.parameter("/weave/password").await.unwrap().reveal(), "hush");
}

#[tokio::test]
async fn a_wrong_clock_is_learnt_from_the_answer() {
    for ahead in [-7200, -330, 3600, 86_400 * 400] {
        let mut skewed = world();
        skewed.clock_ahead = ahead;
        let fake = serve(skewed);
        let mut cloud = cloud(&fake);

        assert!(cloud.list(&BTreeSet::new()).await.unwrap().complete, "{ahead}");
        let asked = fake.count("DescribeInstances");
        assert_eq!(asked, 3, "one for the scope, of which the first was too far off, and one for the listing");
        assert_eq!(cloud.parameter("/weave/password").await.unwrap().reveal(), "hush");
        assert_eq!(fake.count("GetParameter"), 1, "the other services have the same clock");
    }
}

#[tokio::test]
async fn a_clock_is_learnt_in_the_words_of_every_service() {
    let fake = serve(world());
    let mut cloud = cloud(&fake);
    cloud.list(&BTreeSet::new()).await.unwrap();

    fake.world().clock_ahead = 3000;
    assert_eq!(cloud.parameter("/weave/password").await.unwrap().reveal(), "hush");
    fake.world().clock_ahead = -3000;
    assert!(cloud.list(&BTreeSet::new()).await.unwrap().complete);
    assert_eq!(fake.count("GetParameter"), 2);
}

#[tokio::test]
async fn keys_of_the_environment_are_used_as_they_are() {
    let fake = serve(world());
    let keys = [("AWS_ACCESS_KEY_ID", "FAKEKEY1"), ("AWS_SECRET_ACCESS_KEY", "secret-of-FAKEKEY1")];
    let mut cloud = cloud_with(&fake, &keys);

    assert!(cloud.list(&BTreeSet::new()).await.unwrap().complete);
    assert_eq!(fake.count("keys"), 0);

    fake.world().keys += 1;
    assert_eq!(cloud.list(&BTreeSet::new()).await.unwrap_err().kind, Kind::Expired, "nobody can renew them");
    assert!(!format!("{cloud:?}").contains("secret-of"), "{cloud:?}");
}

#[tokio::test]
async fn a_wrong_secret_is_refused() {
    let fake = serve(world());
    let keys = [("AWS_ACCESS_KEY_ID", "FAKEKEY1"), ("AWS_SECRET_ACCESS_KEY", "guessed")];

    let problem = cloud_with(&fake, &keys).list(&BTreeSet::new()).await.unwrap_err().to_string();

    assert_eq!(problem, "DescribeInstances: SignatureDoesNotMatch (request req-1)");
}

#[tokio::test]
async fn a_parameter_that_is_not_there_or_forbidden_is_named() {
    let fake = serve(world());
    let mut cloud = cloud(&fake);

    let missing = cloud.parameter("/nothing").await.unwrap_err().to_string();
    assert_eq!(missing, "GetParameter: ParameterNotFound (request req-1)");

    fake.world().denied.insert("GetParameter".to_owned());
    let denied = cloud.parameter("/weave/password").await.unwrap_err().to_string();
    assert!(denied.contains("AccessDeniedException") && denied.contains("the role needs ssm:GetParameter"), "{denied}");
    assert!(!format!("{:?}", cloud).contains("hush"));
}

#[tokio::test]
async fn an_answer_without_end_is_not_read_to_its_end() {
    let fake = serve(world());
    fake.world().fail("document", Fault::Body(" ".repeat(64 * 1024 + 1)));
    let problem = cloud(&fake).list(&BTreeSet::new()).await.unwrap_err();
    assert_eq!((problem.kind, problem.to_string().contains("length limit exceeded")), (Kind::Unanswered, true));

    fake.world().fail("DescribeInstances", Fault::Body(" ".repeat(16 * 1024 * 1024 + 1)));
    let problem = cloud(&fake).list(&BTreeSet::new()).await.unwrap_err();
    assert_eq!((problem.kind, problem.to_string().contains("length limit exceeded")), (Kind::Unanswered, true));
}

#[tokio::test]
async fn hosts_of_one_cloud_have_an_imds_each() {
    let mut two = world();
    two.launch("i-2", Ipv4Addr::new(10, 0, 0, 2), &[]);
    two.join("web", "i-2");
    let fake = serve(two);
    let imds = fake.imds_url("i-2");
    let mut second = cloud_with(&fake, &[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &imds)]);

    let listing = second.list(&BTreeSet::new()).await.unwrap();

    assert_eq!(listing.own.as_ref(), "i-2");
    assert_eq!(listing.instances, cloud(&fake).list(&BTreeSet::new()).await.unwrap().instances);
}
