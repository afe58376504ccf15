//! The edge of a host in every direction: from its containers to itself, and through it.
//!
//! ```text
//!   h1 ─┬─ weave ── 10.32.0.1                       h2 ── weave ── 10.32.0.2
//!       ├─ bridge as Docker's or another's ── 10.99.0.2 (guest, masqueraded)
//!       └──────────────── switch, 192.168.48.0/24 ──┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::{Context, Result};
use weave_netns_tests::frame::{self, Mac};
use weave_netns_tests::probe::{Capture, PacketSocket, eventually, ping_eventually};
use weave_netns_tests::scene::{SETTLED, Scene};
use weave_netns_tests::topology::{Container, Host, Namespace};
use weave_netns_tests::weave::Launch;

const EXPOSED: Ipv4Addr = Ipv4Addr::new(10, 32, 0, 9);
const EXPOSE: [&str; 2] = ["expose", "10.32.0.9/12"];
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Where nothing of the mesh is.
const ELSEWHERE: u16 = 9_999;

struct Lab {
    scene: Scene,
}

impl Lab {
    fn new(launch: &Launch) -> Result<Self> {
        let scene = Scene::new(2, launch)?;
        scene.wait_known()?;
        scene.hosts[0].namespace().run("sysctl -qw net.ipv4.ip_forward=1")?;
        Ok(Self { scene })
    }

    fn h1(&self) -> &Host {
        &self.scene.hosts[0]
    }

    fn h2(&self) -> &Host {
        &self.scene.hosts[1]
    }

    fn container(&self) -> &Container {
        &self.scene.containers[0]
    }

    fn bridge_mac(&self) -> Mac {
        frame::parse_mac(self.scene.weaves[0].name()).expect("a name is a MAC")
    }

    fn expose(&self, more: &[&str]) -> Result<()> {
        self.scene.weaves[0].run(&[&EXPOSE, more].concat())?;
        ping_eventually(self.container(), EXPOSED, SETTLED)?;
        Ok(())
    }

    /// A container of somebody else on h1, on a bridge of its own or, without one, on a veth; masqueraded.
    fn guest(&self, bridge: Option<&str>) -> Result<Container> {
        let (host, guest) = (self.h1().namespace(), self.h1().container()?);
        host.run(&format!("ip link add guest0 type veth peer name eth0 netns {}", guest.namespace().name()))?;
        let gateway = bridge.unwrap_or("guest0");
        if let Some(bridge) = bridge {
            host.run(&format!("ip link add {bridge} type bridge"))?;
            host.run(&format!("ip link set guest0 master {bridge}"))?;
            host.run(&format!("ip link set {bridge} up"))?;
        }
        host.run("ip link set guest0 up")?;
        host.run(&format!("ip addr add 10.99.0.1/24 dev {gateway}"))?;
        host.run("iptables -t nat -A POSTROUTING -s 10.99.0.0/24 -o eth0 -j MASQUERADE")?;
        guest.namespace().run(&format!("ip addr add {GUEST}/24 dev eth0"))?;
        guest.namespace().run("ip link set eth0 up")?;
        guest.namespace().run("ip route add default via 10.99.0.1")?;
        Ok(guest)
    }

    /// What the container says in a datagram of its own to an address behind the bridge's MAC.
    fn to_the_bridge(&self, to: (Ipv4Addr, u16), text: &[u8]) -> Result<Vec<u8>> {
        let mut datagram = frame::udp((self.scene.address(0), 7), to, text);
        // One that may go further than the next host.
        datagram[8] = 64;
        datagram[10..12].fill(0);
        let sum = frame::checksum(&datagram[..20]);
        datagram[10..12].copy_from_slice(&sum.to_be_bytes());
        Ok(frame::ethernet(self.bridge_mac(), self.container().mac()?, frame::IPV4, &datagram))
    }

    fn no_port_of_the_mesh_is_reached_by(&self, sender: &Namespace) -> Result<()> {
        self.no_port_is_reached_by(sender, self.h2().address().into())
    }

    /// Nor by this address of h2.
    fn no_port_is_reached_by(&self, sender: &Namespace, h2: IpAddr) -> Result<()> {
        let capture = Capture::start(self.h2().namespace(), "eth0")?;
        let listener = listen(self.h2().namespace(), h2)?;
        assert!(connects(sender, listener.local_addr()?)?, "{}: the way is open", sender.name());
        assert!(connects(self.h1().namespace(), (h2, 6783).into())?, "a host itself reaches the other");
        assert!(!connects(sender, (h2, 6783).into())?, "{}: control", sender.name());
        for (port, text) in [(6783, "to the sleeve"), (6784, "to the fast path"), (ELSEWHERE, "elsewhere")] {
            sender.enter(|| {
                let any = if h2.is_ipv4() { IpAddr::from(Ipv4Addr::UNSPECIFIED) } else { Ipv6Addr::UNSPECIFIED.into() };
                UdpSocket::bind((any, 0))?.send_to(text.as_bytes(), (h2, port))?;
                Ok(())
            })?;
        }
        let is = |text: &'static str| move |seen: &[u8]| seen.ends_with(text.as_bytes());
        capture.wait("what was sent last, to another port", SETTLED, is("elsewhere"))?;
        assert_eq!((capture.count(is("to the sleeve")), capture.count(is("to the fast path"))), (0, 0));
        Ok(())
    }
}

fn listen(at: &Namespace, address: impl Into<IpAddr>) -> Result<TcpListener> {
    let address = address.into();
    at.enter(|| Ok(TcpListener::bind((address, 0))?))
}

fn connects(from: &Namespace, to: SocketAddr) -> Result<bool> {
    from.enter(|| Ok(TcpStream::connect_timeout(&to, Duration::from_secs(1)).is_ok()))
}

/// A socket that can be asked what came.
fn hear(at: &Namespace, address: impl Into<SocketAddr>) -> Result<UdpSocket> {
    let address = address.into();
    at.enter(|| {
        let socket = UdpSocket::bind(address).with_context(|| address.to_string())?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
}

fn heard(socket: &UdpSocket) -> bool {
    socket.recv(&mut [0; 100]).is_ok()
}

#[test]
fn what_a_host_forwards_for_containers_reaches_no_port_of_the_mesh() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    lab.scene.wait_carrier("fastdp")?;
    let guest = lab.guest(Some("natbr"))?;

    lab.no_port_of_the_mesh_is_reached_by(guest.namespace())?;

    lab.expose(&[])?;
    let route = format!("ip route add {}/32 via {EXPOSED}", lab.h2().address());
    lab.container().namespace().run(&route)?;
    lab.no_port_of_the_mesh_is_reached_by(lab.container().namespace())?;
    lab.no_port_of_the_mesh_is_reached_by(guest.namespace())?;
    lab.scene.ping_both_ways(0, 1)
}

#[test]
fn nor_does_it_over_ipv6() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    let guest = lab.guest(Some("natbr"))?;
    let h2: Ipv6Addr = "fd48::2".parse()?;
    for (namespace, commands) in [
        (
            lab.h1().namespace(),
            &["ip addr add fd48::1/64 dev eth0 nodad", "ip addr add fd99::1/64 dev natbr nodad"][..],
        ),
        (lab.h2().namespace(), &["ip addr add fd48::2/64 dev eth0 nodad"]),
        (guest.namespace(), &["ip addr add fd99::2/64 dev eth0 nodad", "ip route add default via fd99::1"]),
    ] {
        commands.iter().try_for_each(|command| namespace.run(command).map(drop))?;
    }
    lab.h1().namespace().run("sysctl -qw net.ipv6.conf.all.forwarding=1")?;
    lab.h1().namespace().run("ip6tables -t nat -A POSTROUTING -s fd99::/64 -o eth0 -j MASQUERADE")?;
    eventually(SETTLED, "h1 has heard that h2 has this address, too", || {
        Ok(!connects(guest.namespace(), (h2, 6783).into())?)
    })?;

    lab.no_port_is_reached_by(guest.namespace(), h2.into())
}

/// Where frames between hosts are not sealed.
#[test]
fn nor_between_hosts_that_trust_their_network() -> Result<()> {
    let trusting =
        Launch::new().password("correct horse battery").argument("--trusted-subnets").argument("192.168.48.0/24");
    let lab = Lab::new(&trusting)?;
    lab.scene.wait_carrier("fastdp")?;
    let guest = lab.guest(Some("natbr"))?;
    lab.no_port_of_the_mesh_is_reached_by(guest.namespace())
}

#[test]
fn a_container_on_a_bare_veth_is_no_other() -> Result<()> {
    let lab = Lab::new(&Launch::new().password("correct horse battery"))?;
    let guest = lab.guest(None)?;

    lab.no_port_of_the_mesh_is_reached_by(guest.namespace())
}

#[test]
fn a_host_that_bridges_or_routes_for_members_does_not_part_them() -> Result<()> {
    let net = weave_netns_tests::topology::Topology::new()?;
    let hosts = vec![net.host()?, net.host()?, net.host()?];
    // h1 is the bridge between its own address and h3, as a host of virtual machines is, and its packets pass iptables.
    let (bridge, h3) = (hosts[0].namespace(), hosts[2].namespace());
    bridge.run("ip link add vmbr0 type bridge")?;
    bridge.run("ip addr flush dev eth0")?;
    bridge.run("ip link set eth0 master vmbr0")?;
    bridge.run(&format!("ip addr add {}/24 brd + dev vmbr0", hosts[0].address()))?;
    bridge.run("ip link set vmbr0 up")?;
    bridge.run("ip route replace default dev vmbr0")?;
    h3.run("ip link del eth0")?;
    h3.run(&format!("ip link add eth0 type veth peer name vm3 netns {}", bridge.name()))?;
    bridge.run("ip link set vm3 master vmbr0 up")?;
    h3.run(&format!("ip addr add {}/24 brd + dev eth0", hosts[2].address()))?;
    h3.run("ip link set eth0 up")?;
    h3.run("ip route add default dev eth0")?;
    bridge.run("sysctl -qw net.bridge.bridge-nf-call-iptables=1")?;
    let scene = Scene::on(net, hosts, |number, hosts| match number {
        0 => Launch::new(),
        // h2 and h3 meet by themselves.
        1 => Launch::new().peer(&hosts[0]),
        _ => Launch::new().peer(&hosts[1]).argument("--no-discovery"),
    })?;

    scene.wait_known()?;
    scene.weaves[2].wait_path(&scene.weaves[1], "fastdp", SETTLED)?;
    scene.ping_both_ways(1, 2)
}

#[test]
fn a_host_that_is_not_exposed_hears_nothing_of_its_containers_but_questions_for_names() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    let (host, inside) = (lab.h1().namespace(), lab.container().namespace());
    let socket = PacketSocket::open(inside, "ethwe")?;
    let own = hear(host, (lab.h1().address(), ELSEWHERE))?;
    let loopback = hear(host, (Ipv4Addr::LOCALHOST, ELSEWHERE))?;
    host.run("sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.weave.route_localnet=1")?;
    let link_local = frame::link_local(lab.bridge_mac());
    let listener = host.enter(|| Ok(TcpListener::bind("[::]:0")?))?;
    let port = listener.local_addr()?.port();
    let capture = Capture::start(lab.h2().namespace(), "eth0")?;
    let beyond = lab.to_the_bridge((lab.h2().address(), ELSEWHERE), b"beyond")?;
    let send_all = || -> Result<()> {
        for address in [lab.h1().address(), Ipv4Addr::LOCALHOST, EXPOSED] {
            socket.send(&lab.to_the_bridge((address, ELSEWHERE), b"hello")?)?;
        }
        socket.send(&beyond)
    };
    let connects_by_link_local = || {
        let index = inside.run("cat /sys/class/net/ethwe/ifindex")?.trim().parse()?;
        connects(inside, std::net::SocketAddrV6::new(link_local, port, 0, index).into())
    };

    send_all()?;
    assert!(!connects_by_link_local()?, "the bridge's own address");
    inside.run("dig +tries=1 +time=2 @169.254.65.53 nobody.weave.local")?;

    assert!(!heard(&own) && !heard(&loopback));
    assert_eq!(capture.count(|seen| seen.ends_with(b"beyond")), 0);
    lab.expose(&[])?;
    let exposed = hear(host, (EXPOSED, ELSEWHERE))?;
    eventually(SETTLED, "what is exposed is reached, and what is behind it", || {
        send_all()?;
        Ok(heard(&exposed) && capture.count(|seen| seen.ends_with(b"beyond")) > 0)
    })?;
    assert!(!heard(&own) && !heard(&loopback), "an address that is not exposed");
    assert!(!connects_by_link_local()?, "IPv6 is not exposed");
    lab.scene.weaves[0].run(&["hide"])?;
    capture.clear();
    send_all()?;
    inside.run("dig +tries=1 +time=2 @169.254.65.53 nobody.weave.local")?;
    assert_eq!(capture.count(|seen| seen.ends_with(b"beyond")), 0, "hidden again");
    Ok(())
}

#[test]
fn an_exposed_host_has_answers_to_what_it_asks() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    lab.scene.weaves[0].run(&["expose", "10.32.0.9/12", "fd00:32::9/64"])?;
    for (weave, container, address) in [(0, 0, "fd00:32::1/64"), (1, 1, "fd00:32::2/64")] {
        lab.scene.weaves[weave].attach(&lab.scene.containers[container], address)?;
    }
    for address in ["10.32.0.1", "10.32.0.2", "fd00:32::1", "fd00:32::2"] {
        eventually(SETTLED, &format!("h1 reaches {address}"), || {
            Ok(lab.h1().namespace().run(&format!("ping -n -c1 -W1 {address}")).is_ok())
        })?;
    }
    let listener = listen(lab.scene.containers[1].namespace(), lab.scene.address(1))?;
    assert!(connects(lab.h1().namespace(), listener.local_addr()?)?);
    ping_eventually(&lab.scene.containers[1], "fd00:32::9".parse::<Ipv6Addr>()?, SETTLED)?;
    Ok(())
}

#[test]
fn metadata_is_closed_until_it_is_allowed() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    let (host, cloud, inside) = (lab.h1().namespace(), lab.h2().namespace(), lab.container().namespace());
    cloud.run(&format!("ip addr add {METADATA}/32 dev eth0"))?;
    host.run(&format!("ip route add {METADATA} via {}", lab.h2().address()))?;
    let served = listen(cloud, METADATA)?;
    let service = served.local_addr()?;
    // As Amazon's container agent does it.
    let agent = listen(host, Ipv4Addr::LOCALHOST)?;
    host.run("sysctl -qw net.ipv4.conf.all.route_localnet=1")?;
    host.run(&format!(
        "iptables -t nat -A PREROUTING -p tcp -d 169.254.170.2 --dport 80 -j DNAT --to-destination {}",
        agent.local_addr()?
    ))?;
    let reached = || -> Result<_> {
        Ok((connects(inside, service)?, connects(inside, (Ipv4Addr::new(169, 254, 170, 2), 80).into())?))
    };
    assert!(connects(host, service)?, "the host itself");
    lab.expose(&[])?;
    for address in ["169.254.169.254", "169.254.170.2"] {
        inside.run(&format!("ip route add {address} via {EXPOSED}"))?;
    }

    assert_eq!(reached()?, (false, false));
    lab.expose(&["--allow-metadata"])?;
    assert_eq!(reached()?, (true, true));
    lab.expose(&[])?;
    assert_eq!(reached()?, (false, false));
    Ok(())
}

#[test]
fn networks_of_docker_are_closed_in_both_directions_and_what_it_publishes_is_not() -> Result<()> {
    let lab = Lab::new(&Launch::new())?;
    let guest = lab.guest(Some("br-0123456789ab"))?;
    lab.expose(&[])?;
    let inside = lab.container().namespace();
    inside.run(&format!("ip route add {GUEST}/32 via {EXPOSED}"))?;
    let served = listen(guest.namespace(), GUEST)?;
    let own = listen(inside, lab.scene.address(0))?;
    lab.h1().namespace().run(&format!(
        "iptables -t nat -A PREROUTING -p tcp -d {EXPOSED} --dport 8080 -j DNAT --to-destination {}",
        served.local_addr()?
    ))?;

    assert!(connects(inside, (EXPOSED, 8080).into())?, "what is published");
    assert!(!connects(inside, served.local_addr()?)?, "by a detour");
    assert!(!connects(guest.namespace(), own.local_addr()?)?, "the other way round");
    assert!(connects(lab.h1().namespace(), served.local_addr()?)?, "it is there");
    assert!(connects(lab.h1().namespace(), own.local_addr()?)?, "it is there");
    Ok(())
}
