//! A host that joins the overlay: reached there, and a way out of it.
//!
//! ```text
//!   h1 ── 10.32.0.1      h2 ── 10.32.0.2      outside: no daemon
//!    └ weave: 10.32.0.9                        │
//!    └───────────── switch, 192.168.48.0/24 ───┘
//! ```

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::{Result, ensure};
use weave_netns_tests::frame::{self, BROADCAST};
use weave_netns_tests::probe::{Capture, PacketSocket, eventually, ping, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::{Container, Host, Namespace, Topology};
use weave_netns_tests::weave::{Launch, Weave};

const EXPOSED: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 9);
const EXPOSE: [&str; 2] = ["expose", "10.32.0.9/12"];
/// "Re-applied within seconds after somebody flushes it."
const MENDED: Duration = Duration::from_secs(8);

/// Two hosts that know each other's container, and a machine without a daemon.
struct Lab {
    scene: Scene,
    outside: Host,
}

impl Lab {
    fn new(launch: &Launch) -> Result<Self> {
        let scene = Scene::new(2, launch)?;
        let outside = scene.net.host()?;
        scene.wait_known()?;
        Ok(Self { scene, outside })
    }

    fn weave(&self) -> &Weave {
        &self.scene.weaves[0]
    }

    fn host(&self) -> &Namespace {
        self.scene.hosts[0].namespace()
    }

    fn remote(&self) -> &Container {
        &self.scene.containers[1]
    }

    /// Lets the exposed host forward, and gives both sides a route over it.
    fn route_over_host(&self) -> Result<()> {
        self.host().run("sysctl -qw net.ipv4.ip_forward=1")?;
        self.outside.namespace().run(&format!("ip route add 10.32.0.0/12 via {}", self.scene.hosts[0].address()))?;
        let route = format!("ip route add {} via {EXPOSED}", self.outside.address());
        self.remote().namespace().run(&route)?;
        Ok(())
    }

    /// As whom the outside meets the remote container, and the other way round.
    fn sources(&self) -> Result<(IpAddr, IpAddr)> {
        let (inside, outside) = (self.remote().namespace(), self.outside.namespace());
        let container: IpAddr = self.scene.address(1).into();
        Ok((source_seen(inside, outside, self.outside.address().into())?, source_seen(outside, inside, container)?))
    }
}

/// The address that a server at `address` sees when somebody connects.
fn source_seen(client: &Namespace, server: &Namespace, address: IpAddr) -> Result<IpAddr> {
    let listener = server.enter(|| Ok(TcpListener::bind((address, 0))?))?;
    let to: SocketAddr = listener.local_addr()?;
    listener.set_nonblocking(true)?;
    let _stream = client.enter(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(5))?))?;
    let mut seen = None;
    eventually(SETTLED, "the server accepts", || {
        seen = listener.accept().ok().map(|(_, from)| from.ip());
        Ok(seen.is_some())
    })?;
    seen.ok_or_else(|| anyhow::anyhow!("nobody came"))
}

fn reaches(host: &Namespace, address: Ipv4Addr) -> bool {
    host.run(&format!("ping -n -c1 -W1 {address}")).is_ok()
}

fn is_hidden(lab: &Lab) -> Result<()> {
    let addresses = lab.host().run("ip addr show dev weave")?;
    ensure!(!addresses.contains("10.32.0.9"), "{addresses}");
    let tables = lab.host().run("nft list ruleset")?;
    ensure!(!tables.contains("masquerade") && !tables.contains("10.32.0.0/12"), "{tables}");
    let endpoints = lab.scene.weaves[1].run(&["status", "endpoints"])?;
    ensure!(!endpoints.contains("10.32.0.9/"), "{endpoints}");
    ensure!(!reaches(lab.host(), lab.scene.address(0)), "the host is still on the overlay");
    Ok(())
}

#[test]
fn an_exposed_host_reaches_containers_everywhere_and_not_before() -> Result<()> {
    for launch in [Launch::new(), Launch::new().password("correct horse battery")] {
        let lab = Lab::new(&launch)?;
        assert!(!reaches(lab.host(), lab.scene.address(0)));
        assert!(!reaches(lab.host(), lab.scene.address(1)));

        assert_eq!(lab.weave().run(&EXPOSE)?, "10.32.0.9\n");

        assert!(reaches(lab.host(), lab.scene.address(0)), "a container here");
        eventually(SETTLED, "a container on another host", || Ok(reaches(lab.host(), lab.scene.address(1))))?;
        ping(&lab.scene.containers[0], EXPOSED)?;
        ping_eventually(lab.remote(), EXPOSED, SETTLED)?;
        lab.scene.ping_both_ways(0, 1)?;
        let endpoints = lab.scene.weaves[1].run(&["status", "endpoints"])?;
        assert!(
            endpoints.lines().any(|line| line.contains("weave:expose") && line.contains("10.32.0.9/12")),
            "{endpoints}"
        );
    }
    Ok(())
}

#[test]
fn two_exposed_hosts_reach_each_other() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    lab.weave().run(&EXPOSE)?;
    lab.scene.weaves[1].run(&["expose", "10.32.0.10/12"])?;

    eventually(SETTLED, "h1 reaches h2", || Ok(reaches(lab.host(), Ipv4Addr::new(10, 32, 0, 10))))?;
    Ok(())
}

#[test]
fn what_crosses_an_exposed_host_comes_from_that_host() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    lab.weave().run(&EXPOSE)?;
    lab.route_over_host()?;
    ping_eventually(lab.remote(), EXPOSED, SETTLED)?;

    let (outward, inward) = lab.sources()?;

    assert_eq!(outward, IpAddr::from(lab.scene.hosts[0].address()));
    assert_eq!(inward, IpAddr::from(EXPOSED));
    let inside =
        source_seen(lab.remote().namespace(), lab.scene.containers[0].namespace(), lab.scene.address(0).into())?;
    assert_eq!(inside, IpAddr::from(lab.scene.address(1)), "inside nobody is masqueraded");
    Ok(())
}

#[test]
fn without_masquerade_everybody_keeps_their_address() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    lab.weave().run(&EXPOSE)?;
    lab.weave().run(&["expose", "10.32.0.9/12", "--without-masquerade"])?;
    lab.route_over_host()?;
    ping_eventually(lab.remote(), EXPOSED, SETTLED)?;

    let (outward, inward) = lab.sources()?;

    assert_eq!(outward, IpAddr::from(lab.scene.address(1)));
    assert_eq!(inward, IpAddr::from(lab.outside.address()));
    Ok(())
}

#[test]
fn exposing_twice_is_exposing_once_and_hiding_undoes_it() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    for _ in 0..2 {
        assert_eq!(lab.weave().run(&EXPOSE)?, "10.32.0.9\n");
    }
    let addresses = lab.host().run("ip -o -4 addr show dev weave scope global")?;
    assert_eq!(addresses.lines().count(), 1, "{addresses}");

    assert_eq!(lab.weave().run(&["hide"])?, "10.32.0.9\n");
    eventually(SETTLED, "nothing is left", || Ok(is_hidden(&lab).is_ok()))?;

    assert_eq!(lab.weave().run(&["hide"])?, "\n");
    lab.weave().run(&["expose", "10.32.0.9/12", "10.40.0.9/24"])?;
    assert_eq!(lab.weave().run(&["hide", "10.40.0.9/24"])?, "10.40.0.9\n");
    assert!(reaches(lab.host(), lab.scene.address(0)), "the other address stays");
    Ok(())
}

#[test]
fn a_host_is_given_an_address_keeps_it_and_gives_it_back() -> Result<()> {
    let mut lab = Lab::new(&Launch::new())?;
    lab.weave().run(&["prime", "--wait", "10"])?;

    // A subnet in which nobody was given an address by hand before there was a ring.
    let expose = ["expose", "net:10.32.7.0/24"];
    let given = lab.weave().run(&expose)?;
    assert!(given.starts_with("10.32.7."), "{given}");
    assert_eq!(lab.weave().run(&expose)?, given, "exposing twice is exposing once");
    lab.scene.weaves[0].kill()?;
    lab.scene.weaves[0].start()?;
    assert_eq!(lab.weave().run(&expose)?, given, "a kill takes nothing back");
    let taken = lab.scene.weaves[1].ask(&["expose", &format!("{}/24", given.trim()), "--wait", "5"])?;
    assert_eq!(taken.code, 1, "no other host gets it: {taken:?}");

    assert_eq!(lab.weave().run(&["hide"])?, given);
    assert!(lab.weave().run(&expose)?.starts_with("10.32.7."), "there is room again");
    lab.weave().run(&["expose"])?.trim().parse::<Ipv4Addr>()?;
    Ok(())
}

#[test]
fn a_host_hides_although_no_addresses_can_be_given() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let weave = Weave::launch(&host, Launch::new().argument("--ipalloc-init=observer"))?;
    weave.run(&["expose", "10.99.0.9/24"])?;
    let waiting = weave.ask(&["expose", "net:10.32.7.0/24", "--wait", "1"])?;
    assert_eq!(waiting.code, 1, "{waiting:?}");

    assert_eq!(weave.run(&["hide"])?, "10.99.0.9\n");
    Ok(())
}

#[test]
fn a_host_that_does_not_forward_says_so_when_it_is_exposed() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    lab.host().run("sysctl -qw net.ipv4.ip_forward=0")?;
    let warns = || -> Result<bool> { Ok(lab.weave().run(&["status"])?.contains("ip_forward")) };
    assert!(!warns()?);

    lab.weave().run(&EXPOSE)?;
    assert!(warns()?);

    lab.host().run("sysctl -qw net.ipv4.ip_forward=1")?;
    assert!(!warns()?);
    Ok(())
}

#[test]
fn an_exposed_host_stays_exposed_over_a_restart_and_a_kill() -> Result<()> {
    let mut lab = Lab::new(&Launch::new())?;
    lab.weave().run(&EXPOSE)?;
    lab.route_over_host()?;

    for gracefully in [true, false] {
        if gracefully {
            lab.scene.weaves[0].stop()?;
        } else {
            lab.scene.weaves[0].kill()?;
        }
        assert!(reaches(lab.host(), lab.scene.address(0)), "the kernel goes on");
        lab.scene.weaves[0].start()?;
        eventually(SETTLED, "reached again", || Ok(reaches(lab.host(), lab.scene.address(1))))?;
        let (outward, _) = lab.sources()?;
        assert_eq!(outward, IpAddr::from(lab.scene.hosts[0].address()));
    }
    assert_eq!(lab.weave().run(&["hide"])?, "10.32.0.9\n");
    eventually(SETTLED, "nothing is left", || Ok(is_hidden(&lab).is_ok()))?;
    Ok(())
}

#[test]
fn what_others_remove_of_it_comes_back() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    lab.weave().run(&EXPOSE)?;
    lab.route_over_host()?;

    lab.host().run("nft flush ruleset")?;
    lab.host().run("ip addr flush dev weave scope global")?;
    eventually(MENDED, "the address is back", || {
        Ok(lab.host().run("ip addr show dev weave")?.contains("10.32.0.9/12"))
    })?;
    eventually(MENDED, "the rules are back", || Ok(lab.host().run("nft list ruleset")?.contains("masquerade")))?;

    let (outward, _) = lab.sources()?;
    assert_eq!(outward, IpAddr::from(lab.scene.hosts[0].address()));
    Ok(())
}

#[test]
fn a_firewall_like_dockers_lets_an_exposed_network_pass() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    let user_chain = || lab.host().run("iptables -S DOCKER-USER");
    for line in ["iptables -N DOCKER-USER", "iptables -A FORWARD -j DOCKER-USER", "iptables -P FORWARD DROP"] {
        lab.host().run(line)?;
    }
    lab.route_over_host()?;

    lab.weave().run(&EXPOSE)?;
    ping_eventually(lab.remote(), EXPOSED, SETTLED)?;
    lab.sources()?;

    // What Docker does when it restarts.
    lab.host().run("iptables -F DOCKER-USER")?;
    eventually(MENDED, "the accepts are back", || Ok(user_chain()?.matches("10.32.0.0/12").count() == 2))?;
    lab.sources()?;

    lab.weave().run(&["hide"])?;
    assert!(!user_chain()?.contains("10.32.0.0/12"), "{}", user_chain()?);
    assert!(user_chain()?.contains("-i weave -o weave"), "{}", user_chain()?);
    Ok(())
}

#[test]
fn no_container_can_pass_for_the_exposed_host() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    lab.scene.wait_carrier("fastdp")?;
    lab.weave().run(&EXPOSE)?;
    let container = &lab.scene.containers[0];
    let (own, host) = (container.mac()?, frame::parse_mac(lab.weave().name()).expect("a name is a MAC"));
    let forged = |mac| {
        frame::ethernet(
            BROADCAST,
            mac,
            frame::IPV4,
            &frame::udp((EXPOSED, 9), (Ipv4Addr::BROADCAST, 9), b"a forged broadcast"),
        )
    };
    let honest = frame::udp((lab.scene.address(0), 9), (Ipv4Addr::BROADCAST, 9), b"an honest broadcast");
    let honest = frame::ethernet(BROADCAST, own, frame::IPV4, &honest);
    let capture = Capture::start(lab.remote().namespace(), "ethwe")?;
    let socket = PacketSocket::open(container.namespace(), "ethwe")?;
    let lies = [
        forged(own),
        forged(host),
        frame::gratuitous_arp(own, EXPOSED, own),
        frame::gratuitous_arp(host, EXPOSED, host),
    ];

    for lie in &lies {
        socket.send(lie)?;
    }
    socket.send(&honest)?;

    capture.wait("the honest broadcast, sent last", SETTLED, |seen| seen == honest)?;
    for lie in &lies {
        assert_eq!(capture.count(|seen| seen == lie), 0, "{lie:?}");
    }
    ping_eventually(lab.remote(), EXPOSED, SETTLED)?;
    let taken = lab.weave().ask(&["attach", "10.32.0.9/12", &container.target()])?;
    assert!(taken.code == 1 && taken.stderr.contains("weave:expose"), "{taken:?}");
    let taken = lab.weave().ask(&["expose", "10.32.0.1/12"])?;
    assert!(taken.code == 1 && taken.stderr.contains("10.32.0.1"), "{taken:?}");
    Ok(())
}

#[test]
fn containers_do_not_reach_the_meshs_own_port_over_an_exposed_host() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    lab.weave().run(&EXPOSE)?;
    ping(&lab.scene.containers[0], EXPOSED)?;

    let connected = lab.scene.containers[0]
        .namespace()
        .enter(|| Ok(TcpStream::connect_timeout(&(EXPOSED, 6783).into(), Duration::from_secs(1)).is_ok()))?;

    assert!(!connected);
    Ok(())
}

#[test]
fn resetting_an_exposed_host_leaves_nothing_behind() -> Result<()> {
    let mut lab = Lab::new(&Launch::new())?;
    lab.host().run("iptables -N DOCKER-USER")?;
    lab.weave().run(&EXPOSE)?;
    eventually(SETTLED, "accepted", || Ok(lab.host().run("iptables -S DOCKER-USER")?.contains("10.32.0.0/12")))?;

    lab.weave().run(&["reset"])?;
    lab.scene.weaves[0].wait_end(SETTLED)?;

    assert!(!lab.host().run("ip addr")?.contains("10.32."), "{}", lab.host().run("ip addr")?);
    for rules in ["nft list ruleset", "iptables -S"] {
        let rules = lab.host().run(rules)?;
        assert!(!rules.contains("weave"), "{rules}");
    }
    assert!(!lab.weave().state_directory().exists());
    Ok(())
}
