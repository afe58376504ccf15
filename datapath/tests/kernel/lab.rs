//! Hosts and containers made of nothing but network namespaces.
//!
//! A test body runs on a thread inside its first host's namespace. Further namespaces are held open by a descriptor:
//! nothing has a name in the file system, so nothing is left behind, whatever a test does.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::process::Command;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, send, socket};
use rustix::thread::{UnshareFlags, unshare_unsafe};
use weave_datapath::guard::Rules;
use weave_datapath::linux::kernel::{Event, Generation, Kernel};
use weave_datapath::linux::netlink::Netlink;
use weave_datapath::linux::netns::Netns;
use weave_datapath::linux::observe::observe;
use weave_datapath::linux::tap::Tap;
use weave_datapath::linux::veth::{self, AttachSpec, Attached};
use weave_datapath::plan::{BridgeNames, BridgePlan, Observed, Plan, PortPlan, Resolver, VxlanPlan};
use weave_mesh::card::Subnet;
use weave_mesh::name::MacAddr;
use weave_netns_tests::probe;

/// Local experimental ethertype 2: `br_netfilter` takes such a frame for no malformed packet.
pub(crate) const EXPERIMENTAL: u16 = 0x88b6;
/// How long anything may take that the kernel or the keeper does by itself.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs `test` inside a fresh network namespace.
pub(crate) fn on_a_host(test: impl FnOnce() + Send) {
    fresh_namespace().run(test).expect("enter the namespace");
}

/// A network namespace with its loopback up. It has no name in the file system and goes with its last descriptor and
/// device.
pub(crate) fn fresh_namespace() -> Netns {
    assert!(rustix::process::geteuid().is_root(), "this test makes network namespaces: run it as root");
    let made = std::thread::spawn(|| {
        // SAFETY: only the network namespace is unshared, and only for this thread; descriptors and memory stay shared
        // with the others.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.expect("a network namespace");
        Netns::current().expect("/proc is mounted")
    });
    let netns = made.join().expect("a network namespace");
    netns.run(|| run("ip link set lo up")).expect("enter the namespace");
    netns
}

/// Runs a command line (split at spaces) in the namespace of this thread; fails the test when it fails.
pub(crate) fn run(line: &str) -> String {
    let (ok, output) = try_run(line);
    assert!(ok, "`{line}` failed: {output}");
    output
}

pub(crate) fn try_run(line: &str) -> (bool, String) {
    let mut words = line.split_whitespace();
    let program = words.next().expect("a program");
    let output = Command::new(program).args(words).output().unwrap_or_else(|error| panic!("run `{line}`: {error}"));
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// Waits until `holds`; fails the test with `what` when it does not.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    if let Err(late) = probe::eventually(PATIENCE, what, || Ok(holds())) {
        panic!("{late}");
    }
}

pub(crate) fn names() -> BridgeNames {
    BridgeNames::of("weave").expect("names")
}

pub(crate) fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("address")
}

pub(crate) fn subnet(text: &str) -> Subnet {
    let (address, prefix_len) = text.split_once('/').expect("a prefix length");
    Subnet { address: ip(address), prefix_len: prefix_len.parse().expect("a prefix length") }
}

/// A plan without peers or containers.
pub(crate) fn bare_plan(host: u8) -> Plan {
    Plan {
        names: names(),
        bridge: BridgePlan { mac: mac(host), mtu: 1376, addresses: BTreeSet::new() },
        vxlan: Some(VxlanPlan { vni: 77, port: 6784, local: Ipv4Addr::UNSPECIFIED.into() }),
        ports: BTreeMap::new(),
        bridge_fdb: BTreeMap::new(),
        vxlan_fdb: BTreeMap::new(),
        flood: BTreeSet::new(),
        neighbours: BTreeMap::new(),
        resolver: Resolver::Absent,
        exposed: BTreeMap::new(),
        range: None,
        guard: Rules {
            mesh_port: 6783,
            vxlan_port: 6784,
            vxlan_sources: BTreeSet::new(),
            clear_pairs: BTreeMap::new(),
            members: BTreeSet::new(),
            allow_ethertypes: BTreeSet::new(),
        },
    }
}

/// Kernel state, as the keeper sees it, without its memory and without the neighbours that come and go by themselves.
pub(crate) fn look() -> Observed {
    let mut netlink = Netlink::open().expect("netlink");
    let mut observed = observe(&mut netlink, &names()).expect("dump");
    observed.neighbours.retain(|_, entry| entry.permanent);
    observed
}

/// A keeper, and what it said.
pub(crate) struct Host {
    kernel: Kernel,
    events: tokio::sync::mpsc::Receiver<Event>,
    pub(crate) plan: Plan,
    pub(crate) heard: Vec<Event>,
    pub(crate) tap: Tap,
}

impl Host {
    /// A host with its bridge and both overlay ports.
    pub(crate) fn start(plan: Plan) -> Self {
        let tap = probe::obtain(PATIENCE, "the TAP device is free", || Ok(Tap::open(&plan.names.tap)?)).expect("tap");
        let (kernel, events) = Kernel::spawn().expect("keeper");
        let mut host = Self { kernel, events, plan, heard: Vec::new(), tap };
        host.apply();
        host
    }

    /// Applies the plan as it is; fails the test on any failed step.
    pub(crate) fn apply(&mut self) {
        let asked = self.kernel.apply(self.plan.clone());
        let failures = self.wait_for("the plan is applied", |event| match event {
            Event::Applied { generation, failures, .. } if *generation >= asked => Some(failures.clone()),
            _ => None,
        });
        assert_eq!(failures, Vec::<String>::new());
    }

    /// Asks for the plan as it is, and does not wait.
    pub(crate) fn ask(&self) -> Generation {
        self.kernel.apply(self.plan.clone())
    }

    /// Whether a plan that was asked for has been applied.
    pub(crate) fn has_applied(&mut self, asked: Generation) -> bool {
        while let Ok(event) = self.events.try_recv() {
            self.heard.push(event);
        }
        let is_it = |event: &Event| matches!(event, Event::Applied { generation, .. } if *generation >= asked);
        self.heard.iter().any(is_it)
    }

    /// The first event, heard already or to come, of which `pick` makes something.
    pub(crate) fn wait_for<T>(&mut self, what: &str, pick: impl Fn(&Event) -> Option<T>) -> T {
        let mut found = None;
        eventually(what, || {
            while let Ok(event) = self.events.try_recv() {
                self.heard.push(event);
            }
            found = self.heard.iter().find_map(&pick);
            found.is_some()
        });
        found.expect("found")
    }

    /// Attaches a new container and opens its port.
    pub(crate) fn container(&mut self, last: u8, addresses: &[&str]) -> Container {
        let netns = fresh_namespace();
        let spec = AttachSpec {
            mtu: self.plan.bridge.mtu,
            mac: Some(mac(last)),
            addresses: addresses.iter().map(|text| subnet(text)).collect(),
            resolver: Resolver::Absent,
            multicast_route: true,
        };
        let attached = veth::attach(&netns, &spec).expect("attach");
        let own: BTreeSet<Subnet> = spec.addresses.iter().copied().collect();
        self.plan.neighbours.extend(own.iter().map(|subnet| (subnet.address, attached.mac)));
        self.plan.ports.insert(attached.host_link.clone(), PortPlan { mac: attached.mac, addresses: own });
        self.apply();
        Container { netns, attached }
    }

    pub(crate) fn stop(self) {
        self.kernel.stop();
    }
}

/// An attached container.
pub(crate) struct Container {
    pub(crate) netns: Netns,
    pub(crate) attached: Attached,
}

impl Container {
    pub(crate) fn run(&self, line: &str) -> String {
        self.netns.run(|| run(line)).expect("enter")
    }

    pub(crate) fn pings(&self, address: &str) -> bool {
        let ping = format!("ping -n -c 1 -W 2 {address}");
        self.netns.run(|| try_run(&ping).0).expect("enter")
    }

    /// Raw frames from and to its interface.
    pub(crate) fn wire(&self) -> Wire {
        self.netns.run(|| Wire::on("ethwe")).expect("enter")
    }
}

/// Raw Ethernet on one device.
pub(crate) struct Wire {
    socket: OwnedFd,
}

impl Wire {
    /// Of a device of this thread's namespace. Hears every frame that arrives from then on.
    pub(crate) fn on(link: &str) -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Packet, SockType::Raw, flags, SockProtocol::EthAll).expect("socket");
        let mut interfaces = getifaddrs().expect("interfaces");
        let address = interfaces.find_map(|interface| {
            (interface.interface_name == link).then_some(interface.address)??.as_link_addr().copied()
        });
        bind(socket.as_raw_fd(), &address.expect("the device")).expect("bind");
        Self { socket }
    }

    pub(crate) fn send(&self, frame: &[u8]) {
        let sent = send(self.socket.as_raw_fd(), frame, MsgFlags::empty()).expect("send");
        assert_eq!(sent, frame.len());
    }

    /// The frames that arrived since the last call.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        let mut buffer = vec![0; 2048];
        while let Ok(length) = recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            frames.push(buffer[..length].to_vec());
        }
        frames
    }

    /// Everything that arrives until all of `markers` did.
    pub(crate) fn until(&self, markers: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut frames = Vec::new();
        eventually("the marker arrives", || {
            frames.extend(self.heard());
            markers.iter().all(|marker| frames.iter().any(|frame| contains(frame, marker)))
        });
        frames
    }
}

pub(crate) fn contains(frame: &[u8], marker: &[u8]) -> bool {
    frame.windows(marker.len()).any(|window| window == marker)
}
