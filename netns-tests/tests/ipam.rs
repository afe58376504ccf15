//! Containers get addresses by themselves: on every host, across partitions, deaths and restarts, and never one twice.
//!
//! ```text
//!   h1 ─── h2 ─── h3 …          `attach CONTAINER`, and no address given
//! ```

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use weave_netns_tests::probe::{eventually, ping_eventually, throughout};
use weave_netns_tests::scene::SETTLED;
use weave_netns_tests::topology::{Container, Fault, Host, Topology};
use weave_netns_tests::weave::{Launch, Weave};

/// A dead neighbour is noticed after three missed probes, three seconds apart.
const NOTICED: Duration = Duration::from_secs(20);
/// For so long nobody believes that a peer is dead which it reached.
const HOLD: Duration = Duration::from_secs(120);
/// Who has been reachable for so long is there.
const LONG_THERE: Duration = Duration::from_secs(30);
/// The connector's back-off has grown in the meantime.
const HEALED: Duration = Duration::from_secs(30);
/// An endpoint change is published after at most 50 ms; the rest is the test's own commands on a busy machine.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Hosts with a daemon each, all told how many they are.
struct Mesh {
    weaves: Vec<Weave>,
    hosts: Vec<Host>,
    net: Topology,
}

impl Mesh {
    /// Everybody dials everybody.
    fn new(count: usize, launch: impl Fn(usize) -> Launch) -> Result<Self> {
        Self::with(count, |number, hosts| {
            let others = hosts.iter().enumerate().filter(|(other, _)| *other != number);
            others.fold(launch(number), |launch, (_, host)| launch.peer(host))
        })
    }

    fn with(count: usize, launch: impl Fn(usize, &[Host]) -> Launch) -> Result<Self> {
        let net = Topology::new()?;
        let hosts = (0..count).map(|_| net.host()).collect::<Result<Vec<_>>>()?;
        let mut weaves = Vec::new();
        for (number, host) in hosts.iter().enumerate() {
            let mut weave = Weave::prepare(host, launch(number, &hosts))?;
            weave.spawn()?;
            weaves.push(weave);
        }
        for weave in &mut weaves {
            weave.wait_ready()?;
        }
        Ok(Self { weaves, hosts, net })
    }

    /// A new container of a host, and the address that it got.
    fn container(&self, host: usize) -> Result<(Container, Ipv4Addr)> {
        let container = self.hosts[host].container()?;
        let address = attach(&self.weaves[host], &container)?;
        Ok((container, address))
    }

    fn isolate(&self, host: usize) -> Result<()> {
        self.net.set_faults(&[Fault::Isolated(self.hosts[host].address())])
    }

    /// Waits until a host holds another for unreachable.
    fn wait_unreachable(&self, host: usize, other: usize) -> Result<()> {
        let name = self.weaves[other].name();
        eventually(NOTICED, "the loss is noticed", || {
            let ipam = self.weaves[host].run(&["status", "ipam"])?;
            Ok(ipam.lines().any(|line| line.contains(name) && line.contains("unreachable")))
        })?;
        Ok(())
    }
}

/// What everybody owns, as one host has it.
fn shares(weave: &Weave) -> Result<BTreeSet<String>> {
    let table = weave.run(&["status", "ipam"])?;
    let share = |line: &str| Some(line.split_once("% of total")?.0.to_owned());
    Ok(table.lines().filter_map(share).collect())
}

/// Attaches a container without giving an address.
fn attach(weave: &Weave, container: &Container) -> Result<Ipv4Addr> {
    let printed = weave.run(&["attach", "--wait", "30", &container.target()])?;
    printed.trim().parse().with_context(|| format!("attach printed {printed:?}"))
}

fn assert_distinct(addresses: &[Ipv4Addr]) {
    let distinct: BTreeSet<_> = addresses.iter().collect();
    assert_eq!(distinct.len(), addresses.len(), "{addresses:?}");
}

#[test]
fn containers_on_all_hosts_get_addresses_of_their_own_and_reach_each_other() -> Result<()> {
    let mesh = Mesh::new(3, |_| Launch::new())?;

    let containers = (0..6).map(|number| mesh.container(number % 3)).collect::<Result<Vec<_>>>()?;

    let addresses: Vec<_> = containers.iter().map(|(_, address)| *address).collect();
    assert_distinct(&addresses);
    for (container, own) in &containers {
        let shown = container.namespace().run("ip -br addr show ethwe")?;
        assert!(shown.contains(&format!("{own}/12")), "{shown}");
        for address in addresses.iter().filter(|address| *address != own) {
            ping_eventually(container, *address, SETTLED)?;
        }
    }
    let again = attach(&mesh.weaves[0], &containers[0].0)?;
    assert_eq!(again, containers[0].1, "attaching twice is attaching once");
    let total: Vec<_> = mesh.weaves[1].run(&["status", "ipam"])?.lines().map(str::to_owned).collect();
    assert_eq!(total.iter().filter(|line| line.contains("% of total")).count(), 3, "{total:?}");
    Ok(())
}

#[test]
fn a_detached_address_is_free_again_and_several_subnets_are_given_at_once() -> Result<()> {
    let mesh = Mesh::new(1, |_| Launch::new())?;
    let (weave, container) = (&mesh.weaves[0], mesh.hosts[0].container()?);
    let target = container.target();

    let printed = weave.run(&[
        "attach",
        "--wait",
        "30",
        "net:default",
        "net:10.40.0.0/24",
        "ip:10.44.0.7/16",
        "10.99.0.1/24",
        &target,
    ])?;
    let shown = container.namespace().run("ip -br addr show ethwe")?;
    assert_eq!(printed, "10.32.0.1 10.40.0.1 10.44.0.7 10.99.0.1\n");
    for address in ["10.32.0.1/12", "10.40.0.1/24", "10.44.0.7/16", "10.99.0.1/24"] {
        assert!(shown.contains(address), "{shown}");
    }
    assert_eq!(weave.run(&["detach", "net:10.40.0.0/24", &target])?, "10.40.0.1\n");
    assert_eq!(weave.run(&["detach", &target])?, "10.32.0.1 10.44.0.7 10.99.0.1\n");

    assert_eq!(attach(weave, &mesh.hosts[0].container()?)?, Ipv4Addr::new(10, 32, 0, 1));
    Ok(())
}

#[test]
fn both_sides_of_a_partition_give_addresses_and_none_twice() -> Result<()> {
    let mesh = Mesh::new(3, |_| Launch::new())?;
    let mut containers = (0..3).map(|host| mesh.container(host)).collect::<Result<Vec<_>>>()?;

    mesh.isolate(2)?;
    mesh.wait_unreachable(0, 2)?;
    for host in [0, 2, 1, 2, 0] {
        containers.push(mesh.container(host)?);
    }
    mesh.net.set_faults(&[])?;

    assert_distinct(&containers.iter().map(|(_, address)| *address).collect::<Vec<_>>());
    ping_eventually(&containers[4].0, containers[3].1, HEALED)?;
    ping_eventually(&containers[7].0, containers[6].1, HEALED)?;
    assert_distinct(&[mesh.container(0)?.1, mesh.container(1)?.1, mesh.container(2)?.1]);
    Ok(())
}

/// Whoever shows the machine id of another lives on another machine all the same.
#[test]
fn hosts_of_one_image_are_never_taken_for_each_others_successors() -> Result<()> {
    let mesh = mesh_of_machines("0123456789abcdef0123456789abcdef\n")?;
    eventually(LONG_THERE + SETTLED, "clones are told of", || {
        Ok(mesh.weaves[0].run(&["status", "ipam"])?.contains("made of one image"))
    })?;
    assert_nobody_succeeds_another(mesh)
}

#[test]
fn hosts_without_a_machine_id_are_never_taken_for_each_others_successors() -> Result<()> {
    assert_nobody_succeeds_another(mesh_of_machines("")?)
}

/// Three hosts with this machine id.
fn mesh_of_machines(id: &str) -> Result<Mesh> {
    Mesh::with(3, |number, hosts| {
        hosts[number].namespace().set_machine_id(id).expect("a file in /etc/netns");
        hosts[..number].iter().fold(Launch::new(), |launch, other| launch.peer(other))
    })
}

/// One is cut off and starts anew: both sides go on, and nobody's addresses go to another.
fn assert_nobody_succeeds_another(mut mesh: Mesh) -> Result<()> {
    let mut containers = (0..3).map(|host| mesh.container(host)).collect::<Result<Vec<_>>>()?;
    mesh.isolate(1)?;
    mesh.weaves[1].kill()?;
    mesh.weaves[1].start()?;
    mesh.wait_unreachable(0, 1)?;
    let shares = || [0, 1].map(|host| shares(&mesh.weaves[host])).into_iter().collect::<Result<Vec<_>>>();
    let before = shares()?;
    throughout(LONG_THERE + Duration::from_secs(10), "each side believes that the other lives", || {
        Ok(shares()? == before)
    })?;
    for host in [0, 1] {
        containers.push(mesh.container(host)?);
    }
    mesh.net.set_faults(&[])?;

    ping_eventually(&containers[4].0, containers[3].1, HEALED)?;
    for host in [0, 1, 2] {
        containers.push(mesh.container(host)?);
    }
    assert_distinct(&containers.iter().map(|(_, address)| *address).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn a_killed_daemon_keeps_every_address_and_gives_none_twice() -> Result<()> {
    let mut mesh = Mesh::new(2, |_| Launch::new())?;
    let mut addresses = Vec::new();
    let mut containers = Vec::new();
    for _ in 0..3 {
        for host in [0, 1] {
            let (container, address) = mesh.container(host)?;
            containers.push(container);
            addresses.push(address);
        }
        mesh.weaves[1].kill()?;
        mesh.weaves[1].start()?;
    }
    let status = mesh.weaves[0].stop()?;
    ensure!(status.success(), "{status}");
    mesh.weaves[0].start()?;
    for host in [0, 1] {
        addresses.push(mesh.container(host)?.1);
    }

    assert_distinct(&addresses);
    assert_eq!(attach(&mesh.weaves[1], &containers[1])?, addresses[1], "a container keeps its address");
    ping_eventually(&containers[0], addresses[1], SETTLED)?;
    Ok(())
}

#[test]
fn a_dead_peer_is_removed_and_a_living_one_is_not() -> Result<()> {
    let mut mesh = Mesh::new(3, |_| Launch::new())?;
    let _containers = (0..3).map(|host| mesh.container(host)).collect::<Result<Vec<_>>>()?;
    let name = mesh.weaves[2].name().to_owned();

    let refused = mesh.weaves[0].ask(&["rmpeer", &name])?;
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("reachable"), "{refused:?}");
    mesh.weaves[2].kill()?;
    mesh.wait_unreachable(0, 2)?;
    mesh.wait_unreachable(1, 2)?;
    let patience = (HOLD + NOTICED).as_secs().to_string();
    let taken = mesh.weaves[0].run(&["rmpeer", "--wait", &patience, "h3"])?;

    assert!(taken.ends_with("IPs taken over from h3\n") && !taken.starts_with("0 "), "{taken}");
    eventually(SETTLED, "nobody lists the dead peer", || {
        let mut lists = Vec::new();
        for weave in &mesh.weaves[..2] {
            lists.push(weave.run(&["status", "ipam"])?);
        }
        Ok(lists.iter().all(|list| !list.contains(&name)))
    })?;
    let unknown = mesh.weaves[0].run(&["rmpeer", "no-such-peer"])?;
    assert_eq!(unknown, "0 IPs taken over from no-such-peer\n");
    Ok(())
}

#[test]
fn an_observer_gives_no_first_share_and_gets_its_addresses_from_others() -> Result<()> {
    let mesh = Mesh::with(2, |number, hosts| match number {
        0 => Launch::new().argument("--ipalloc-init").argument("observer").peer(&hosts[1]),
        _ => Launch::new(),
    })?;

    let (observed, address) = mesh.container(0)?;
    let (other, elsewhere) = mesh.container(1)?;

    assert_distinct(&[address, elsewhere]);
    ping_eventually(&observed, elsewhere, SETTLED)?;
    ping_eventually(&other, address, SETTLED)?;
    Ok(())
}

#[test]
fn hosts_with_different_seeds_say_so_and_stay_connected() -> Result<()> {
    let names = ["02:00:00:00:00:01", "02:00:00:00:00:02"];
    let mesh =
        Mesh::new(2, |number| Launch::new().argument("--ipalloc-init").argument(&format!("seed={}", names[number])))?;

    for (number, weave) in mesh.weaves.iter().enumerate() {
        let other = mesh.weaves[1 - number].name();
        eventually(SETTLED, &format!("{weave} tells of other seeds"), || {
            let status = weave.run(&["status", "ipam"])?;
            Ok(status.lines().any(|line| line.starts_with("peer ") && line.contains("seeds") && line.contains(other)))
        })
        .with_context(|| weave.run(&["status", "ipam"]).unwrap_or_default())?;
    }
    let connected = |weave: &Weave| {
        let connections = weave.run(&["status", "connections"])?;
        Ok(connections.lines().any(|line| line.contains("established")))
    };
    throughout(Duration::from_secs(3), "the connection stays", || connected(&mesh.weaves[0]))
}

#[test]
fn an_address_freed_on_one_host_is_reachable_on_another_at_once() -> Result<()> {
    let mesh = Mesh::new(3, |_| Launch::new())?;
    let (watcher, own) = mesh.container(0)?;
    let (before, address) = mesh.container(1)?;
    ping_eventually(&watcher, address, SETTLED)?;

    mesh.weaves[1].run(&["detach", &before.target()])?;
    let after = mesh.hosts[2].container()?;
    mesh.weaves[2].attach(&after, &format!("{address}/12"))?;

    ping_eventually(&watcher, address, AT_ONCE)?;
    ping_eventually(&after, own, AT_ONCE)?;
    Ok(())
}

#[test]
fn an_address_that_lives_elsewhere_is_refused_and_its_holder_named() -> Result<()> {
    let mesh = Mesh::new(2, |_| Launch::new())?;
    let (_holder, address) = mesh.container(0)?;
    let container = mesh.hosts[1].container()?;
    let target = container.target();

    let answer = mesh.weaves[1].ask(&["attach", "--wait", "20", &format!("{address}/12"), &target])?;

    assert_eq!(answer.code, 1, "{answer:?}");
    assert!(answer.stderr.contains(&address.to_string()) && answer.stderr.contains("h1"), "{answer:?}");
    Ok(())
}

#[test]
fn what_cannot_be_had_yet_is_said_and_given_up_after_the_wait() -> Result<()> {
    // Three peers are expected and one is there: no majority.
    let mesh = Mesh::new(1, |_| Launch::new().argument("--ipalloc-init").argument("consensus=3"))?;
    let weave = &mesh.weaves[0];
    let container = mesh.hosts[0].container()?;
    let target = container.target();

    let answer = weave.ask(&["attach", "--wait", "3", &target])?;
    let prime = weave.ask(&["prime", "--wait", "1"])?;

    assert_eq!((answer.code, prime.code), (1, 1), "{answer:?} {prime:?}");
    // As progress, and in the error.
    assert!(answer.stderr.matches("quorum").count() >= 2, "{answer:?}");
    assert!(prime.stderr.contains("quorum"), "{prime:?}");
    Ok(())
}

#[test]
fn a_caller_that_goes_away_is_waited_for_no_more() -> Result<()> {
    let mesh = Mesh::new(1, |_| Launch::new().argument("--ipalloc-init").argument("consensus=3"))?;
    let weave = &mesh.weaves[0];
    let container = mesh.hosts[0].container()?;
    let target = container.target();
    let mut command = weave_netns_tests::weave::client(mesh.hosts[0].namespace())?;
    command.args(["attach", &target]).env("WEAVE_SOCKET", weave.socket()).stderr(Stdio::null());
    let waits = || Ok(weave.run(&["status", "ipam"])?.contains(&target));

    let mut caller = command.spawn()?;
    eventually(SETTLED, "the caller waits", waits)?;
    caller.kill()?;
    caller.wait()?;

    eventually(SETTLED, "nobody waits", || Ok(!waits()?))?;
    Ok(())
}

#[test]
fn a_small_range_is_used_to_the_last_address_wherever_it_is_asked_for() -> Result<()> {
    let mesh = Mesh::new(2, |_| Launch::new().argument("--ipalloc-range").argument("10.32.0.0/29"))?;
    let mut containers = Vec::new();

    // Six of the eight can be given; who owned them first is of no matter.
    for _ in 0..6 {
        containers.push(mesh.container(1)?);
    }
    assert_distinct(&containers.iter().map(|(_, address)| *address).collect::<Vec<_>>());
    let container = mesh.hosts[0].container()?;
    let target = container.target();
    let full = mesh.weaves[0].ask(&["attach", "--wait", "2", &target])?;
    assert_eq!(full.code, 1, "{full:?}");
    mesh.weaves[1].run(&["detach", &containers[3].0.target()])?;
    let printed = mesh.weaves[0].run(&["attach", "--wait", "20", &target])?;

    assert_eq!(printed.trim(), containers[3].1.to_string());
    Ok(())
}

#[test]
fn a_peer_that_leaves_for_good_hands_its_addresses_over() -> Result<()> {
    let mut mesh = Mesh::new(2, |_| Launch::new().argument("--ipalloc-range").argument("10.32.0.0/29"))?;
    let _first = mesh.container(0)?;
    let _second = mesh.container(1)?;

    mesh.weaves[1].run(&["reset"])?;
    mesh.weaves[1].wait_end(SETTLED)?;

    let rest = (0..5).map(|_| mesh.container(0)).collect::<Result<Vec<_>>>()?;
    assert_eq!(rest.len(), 5, "every address but the first one's was to be had");
    Ok(())
}

/// Two groups that were started apart are told of it, until one of them is reset and joins the other.
#[test]
fn a_complaint_goes_with_the_peer_that_caused_it() -> Result<()> {
    let net = Topology::new()?;
    let (one, two) = (net.host()?, net.host()?);
    let first = Weave::launch(&one, Launch::new())?;
    let mut second = Weave::launch(&two, Launch::new())?;
    attach(&first, &one.container()?)?;
    attach(&second, &two.container()?)?;
    second.run(&["connect", &one.address().to_string()])?;
    let complains = || Ok(first.run(&["status", "ipam"])?.contains("two groups were started apart"));
    eventually(SETTLED, "the one complains of the other", complains)?;

    second.run(&["reset"])?;
    second.wait_end(SETTLED)?;
    second.set_launch(Launch::new().peer(&one));
    second.start()?;

    eventually(SETTLED, "there is nothing to complain of", || Ok(!complains()?))?;
    attach(&second, &two.container()?)?;
    assert!(!complains()?);
    Ok(())
}

#[test]
fn a_container_that_vanished_while_the_daemon_was_down_has_no_address_any_more() -> Result<()> {
    let mut mesh = Mesh::new(1, |_| Launch::new())?;
    let (container, address) = mesh.container(0)?;

    mesh.weaves[0].kill()?;
    drop(container);
    mesh.weaves[0].start()?;

    assert_eq!(mesh.container(0)?.1, address, "the lowest free address is given");
    Ok(())
}
