//! What a user of Weave Net does by habit, and what must come of it here.
//!
//! ```text
//!   h1 ◄──── h2 ◄──── h3        each launched as the test says
//! ```

use std::time::Duration;

use anyhow::Result;
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::{Container, Fault, Topology};
use weave_netns_tests::weave::{Answer, Launch, Weave};

/// How long a daemon is watched for a connection that must not come: dials begin again a quarter of a second apart.
const WATCHED: Duration = Duration::from_secs(4);

#[test]
fn a_bare_dns_remove_takes_no_name_away() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new().argument("--http-addr=127.0.0.1:6784"))?;
    weave.run(&["dns-add", "10.32.0.9", "-h", "kept.weave.local"])?;

    for words in [&["dns-remove"][..], &["dns-add"], &["rmpeer", ""], &["report", "-f", "{{.Router}}"]] {
        assert_eq!(weave.ask(words)?.code, 2, "{words:?}");
    }

    assert!(weave.run(&["status", "dns"])?.contains("kept"));
    let curl = |method: &str, path: &str| {
        let url = format!("http://127.0.0.1:6784{path}");
        host.namespace().run(&format!("curl -gs -o /dev/null -w %{{http_code}} -X {method} {url}"))
    };
    assert_eq!(curl("DELETE", "/peer/")?.trim(), "400");
    assert_eq!(curl("DELETE", "/peer/%20")?.trim(), "400");
    assert_eq!(curl("GET", "/report?format=x")?.trim(), "400");
    Ok(())
}

#[test]
fn several_addresses_are_exposed_and_hidden_in_every_form() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new())?;
    let exposed = weave.run(&["expose", "net:10.33.1.0/24", "net:10.33.2.0/24", "10.34.0.9/16", "net:default"])?;
    assert_eq!(exposed.split_whitespace().count(), 4, "{exposed}");

    let hidden = weave.run(&["hide", "ip:10.34.0.9/16", "net:10.33.1.0/24"])?;
    assert_eq!(hidden.split_whitespace().count(), 2, "{hidden}");
    assert_eq!(weave.run(&["hide", "net:default"])?.split_whitespace().count(), 1);

    assert_eq!(weave.run(&["hide"])?.trim(), exposed.split_whitespace().nth(1).unwrap_or_default());
    Ok(())
}

#[test]
fn two_that_forgot_each_other_stay_apart_over_a_restart() -> Result<()> {
    let net = Topology::new()?;
    let (a, b) = (net.host()?, net.host()?);
    let mut first = Weave::launch(&a, Launch::new())?;
    let mut second = Weave::launch(&b, Launch::new().peer(&a))?;
    first.wait_connection(&["established"], SETTLED)?;
    // Whom nobody has met yet cannot be met again: both have written down the other.
    for weave in [&first, &second] {
        eventually(SETTLED, "the other is written down", || {
            Ok(std::fs::read_dir(weave.state_directory().join("members"))?.count() == 1)
        })?;
    }

    first.run(&["forget", &b.address().to_string()])?;
    second.run(&["forget", &a.address().to_string()])?;
    first.stop()?;
    first.start()?;
    let has_met = |weave: &Weave| Ok(weave.run(&["status", "connections"])?.contains("established"));
    assert!(eventually(WATCHED, "they meet", || has_met(&first)).is_err());

    second.stop()?;
    second.set_launch(Launch::new().argument("--resume"));
    second.start()?;
    assert!(eventually(WATCHED, "they meet", || has_met(&second)).is_err());
    second.run(&["connect", &a.address().to_string()])?;
    second.wait_connection(&["->", "established"], SETTLED)?;
    Ok(())
}

#[test]
fn the_command_line_replaces_stored_targets_and_resume_uses_them() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new().argument("192.0.2.1"))?;
    weave.run(&["connect", "192.0.2.2"])?;
    let targets = |weave: &Weave| {
        let text = weave.run(&["status", "targets"])?;
        Ok::<_, anyhow::Error>(text.lines().map(str::to_owned).collect::<Vec<_>>())
    };

    for (arguments, expected) in [
        (&["--resume"][..], &["192.0.2.1", "192.0.2.2"][..]),
        (&["192.0.2.3"], &["192.0.2.3"]),
        (&["--resume"], &["192.0.2.3"]),
        (&[], &[]),
    ] {
        weave.kill()?;
        weave.set_launch(arguments.iter().fold(Launch::new(), |launch, argument| launch.argument(argument)));
        weave.start()?;
        assert_eq!(targets(&weave)?, expected, "{arguments:?}");
    }
    Ok(())
}

#[test]
fn hosts_that_all_restart_meet_without_the_one_that_they_were_told_of() -> Result<()> {
    let net = Topology::new()?;
    let hosts = [net.host()?, net.host()?, net.host()?];
    let mut seed = Weave::launch(&hosts[0], Launch::new())?;
    let others = (1..3).map(|number| Weave::launch(&hosts[number], Launch::new().peer(&hosts[0])));
    let mut others = others.collect::<Result<Vec<_>>>()?;
    for weave in &others {
        eventually(SETTLED, "everybody is written down", || {
            Ok(std::fs::read_dir(weave.state_directory().join("members"))?.count() == 2)
        })?;
    }

    seed.kill()?;
    others.iter_mut().try_for_each(Weave::kill)?;
    others.iter_mut().try_for_each(Weave::spawn)?;
    others.iter_mut().try_for_each(Weave::wait_ready)?;

    for weave in &others {
        weave.wait_connection(&["established"], SETTLED)?;
    }
    Ok(())
}

/// Attaches a container with this address, waiting so many seconds.
fn claim(weave: &Weave, container: &Container, address: &str, seconds: u8) -> Result<Answer> {
    weave.ask(&["attach", "--wait", &seconds.to_string(), address, &container.target()])
}

#[test]
fn no_address_is_given_by_hand_before_the_range_is_shared_out() -> Result<()> {
    const WANTED: &str = "10.32.128.4/12";
    let net = Topology::new()?;
    let (a, b) = (net.host()?, net.host()?);
    net.set_faults(&[Fault::Between(a.address(), b.address())])?;
    let weaves = [Weave::launch(&a, Launch::new().peer(&b))?, Weave::launch(&b, Launch::new().peer(&a))?];

    let containers = [a.container()?, b.container()?];

    for (weave, container, peer) in [(&weaves[0], &containers[0], &b), (&weaves[1], &containers[1], &a)] {
        let answer = claim(weave, container, WANTED, 1)?;
        assert_eq!(answer.code, 1, "{answer:?}");
        assert!(answer.stderr.contains(&peer.address().to_string()), "{answer:?}");
        assert!(weave.run(&["ps"])?.lines().all(|line| line.starts_with("weave:expose")));
    }

    net.set_faults(&[])?;
    let answers = [claim(&weaves[0], &containers[0], WANTED, 30)?, claim(&weaves[1], &containers[1], WANTED, 30)?];
    assert_eq!([answers[0].code, answers[1].code], [0, 1], "{answers:?}");
    assert!(answers[1].stderr.contains("(h1)"), "{answers:?}");
    Ok(())
}

#[test]
fn an_elector_that_was_given_only_an_observer_has_its_quorum() -> Result<()> {
    let net = Topology::new()?;
    let hosts = [net.host()?, net.host()?, net.host()?];
    let init = |how: &str| Launch::new().argument("--ipalloc-init").argument(how);
    let first = Weave::launch(&hosts[0], init("consensus=2"))?;
    let _observer = Weave::launch(&hosts[1], init("observer").peer(&hosts[0]))?;
    let _second = Weave::launch(&hosts[2], init("consensus=2").peer(&hosts[1]))?;

    let answer = first.run(&["attach", "--wait", "30", &hosts[0].container()?.target()])?;

    assert!(answer.starts_with("10."), "{answer}");
    Ok(())
}

#[test]
fn an_address_that_is_taken_is_refused_with_names() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let _weave = Weave::launch(&host, Launch::new().argument("--http-addr=127.0.0.1:6784"))?;
    let id = "0123456789abcdef".repeat(4);
    let put = |id: &str| {
        let url = format!("http://127.0.0.1:6784/ip/{id}/10.32.0.9/12");
        host.namespace().run(&format!("curl -gs -X PUT {url}"))
    };
    put(&id)?;

    let refused = put("other")?;

    assert!(refused.contains("already owned by 0123456789ab") && !refused.contains(&id), "{refused}");
    Ok(())
}

#[test]
fn variables_are_honoured_or_told_of_once() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let launch = Launch::new().environment("WEAVE_MTU", "1400").environment("WEAVE_NO_FASTDP", "1");
    let launch = launch.environment("WEAVE_PORT", "7000").environment("WEAVE_NO_BRIDGED_FASTDP", "1");
    let weave = Weave::launch(&host, launch)?;

    let status = weave.json(&["status"])?;
    let router = &status["router"];
    assert_eq!((&router["mtu"], &router["port"], &router["fast_path"]), (&1400.into(), &7000.into(), &false.into()));
    let log = weave.log();
    let told = log.lines().filter(|line| line.contains("WARN") && line.contains("WEAVE_NO_BRIDGED_FASTDP"));
    assert_eq!(told.count(), 1, "{log}");
    Ok(())
}

#[test]
fn another_range_on_old_state_is_refused_once_and_the_advice_works() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let mut weave = Weave::launch(&host, Launch::new())?;
    weave.run(&["attach", &host.container()?.target()])?;
    weave.stop()?;
    weave.set_launch(Launch::new().argument("--ipalloc-range").argument("10.64.0.0/12"));

    weave.spawn()?;
    assert!(!weave.wait_end(SETTLED)?.success());

    let log = weave.log();
    assert_eq!(log.matches("--ipalloc-range is 10.64.0.0/12").count(), 1, "{log}");
    assert!(log.contains("reset --force"), "{log}");
    let state = weave.state_directory();
    weave.run(&["reset", "--force", "--state-dir", &state.display().to_string()])?;
    weave.start()?;
    Ok(())
}

#[test]
fn multicast_leaves_by_the_overlay_unless_told_otherwise() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new())?;
    let container = host.container()?;
    let target = container.target();
    let has_route = || Ok::<_, anyhow::Error>(container.namespace().run("ip route")?.contains("224.0.0.0/4 dev ethwe"));

    weave.run(&["attach", "--no-multicast-route", "10.32.0.1/12", &target])?;
    assert!(!has_route()?);
    weave.run(&["attach", "10.32.0.1/12", &target])?;
    assert!(has_route()?);
    weave.run(&["attach", "--no-multicast-route", "10.32.0.1/12", &target])?;
    assert!(!has_route()?);
    Ok(())
}
