//! The descriptors of the packet thread, one by one.

use anyhow::{Context, Result};
use weave_datapath::heartbeat;
use weave_datapath::linux::packet_socket::{PacketSocket, SendError};
use weave_datapath::linux::tap::Tap;
use weave_datapath::offload::vnet::Header;
use weave_netns_tests::frame::{BROADCAST, Mac, ethernet};
use weave_netns_tests::probe::{self, Capture, eventually};
use weave_netns_tests::topology::{Host, Topology};

use crate::bridge::{DEADLINE, EXPERIMENTAL, bridge_with_tap, device, wait_forwarding};

const STATION: Mac = [2, 0, 0, 0, 1, 1];

fn next_frame(tap: &Tap, wanted: &[u8]) -> Result<()> {
    let mut buffer = [0; 2048];
    eventually(DEADLINE, "the frame comes out of the TAP", || {
        while let Some((_, length)) = tap.receive(&mut buffer)? {
            if &buffer[..length] == wanted {
                return Ok(true);
            }
        }
        Ok(false)
    })?;
    Ok(())
}

#[test]
fn frames_cross_the_tap_both_ways() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let tap = bridge_with_tap(&host)?;
    let capture = Capture::start(host.namespace(), "station")?;
    let outward = ethernet(BROADCAST, STATION, EXPERIMENTAL, b"outward");
    let inward = ethernet(BROADCAST, [2, 0, 0, 0, 2, 2], EXPERIMENTAL, b"inward");

    probe::PacketSocket::open(host.namespace(), "station")?.send(&outward)?;
    next_frame(&tap, &outward)?;
    tap.send(Header::default(), &inward)?;

    capture.wait("the frame written to the TAP", DEADLINE, |frame| frame == inward)?;
    Ok(())
}

#[test]
fn a_tap_stays_a_bridge_port_and_is_attached_to_again_at_once() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let tap = bridge_with_tap(&host)?;
    let station = probe::PacketSocket::open(host.namespace(), "station")?;

    drop(tap);
    // Nobody reads: the station's own traffic goes on.
    station.send(&ethernet(BROADCAST, STATION, EXPERIMENTAL, b"lost"))?;
    let tap = host
        .namespace()
        .enter(|| probe::obtain(DEADLINE, "the TAP device is free", || Ok(Tap::open(&device("weave-tap"))?)))?;
    let frame = ethernet(BROADCAST, STATION, EXPERIMENTAL, b"after");
    wait_forwarding(&host)?;
    station.send(&frame)?;

    next_frame(&tap, &frame)
}

#[test]
fn a_tap_has_one_owner_and_a_name_of_something_else_is_refused() -> Result<()> {
    let net = Topology::new()?;
    let host = net.host()?;
    let _tap = bridge_with_tap(&host)?;
    let open =
        |text: &str| host.namespace().enter(|| Ok(Tap::open(&device(text)).err().map(|error| error.to_string())));

    let busy = open("weave-tap")?.context("a second owner was let in")?;
    let foreign = open("port")?.context("a veth was taken for a TAP")?;

    assert!(busy.contains("`weave-tap` is in use by another process"), "{busy}");
    assert!(foreign.contains("`port` exists and cannot serve as our TAP device"), "{foreign}");
    Ok(())
}

/// The fast path by hand: VXLAN without learning, and an entry for the other bridge's MAC.
fn bridge_with_vxlan(host: &Host, mac: &str, peer: &Host, peer_mac: &str) -> Result<PacketSocket> {
    let socket = host.namespace().enter(|| Ok(PacketSocket::open(device("weave"), device("weave-vx"))?))?;
    for line in
        [format!("ip link add weave address {mac} type bridge mcast_snooping 0"), "ip link set weave up".to_owned()]
    {
        host.namespace().run(&line)?;
    }
    make_vxlan(host, peer, peer_mac)?;
    Ok(socket)
}

fn make_vxlan(host: &Host, peer: &Host, peer_mac: &str) -> Result<()> {
    for line in [
        "ip link add weave-vx type vxlan id 7 dstport 6784 nolearning dev eth0".to_owned(),
        "ip link set weave-vx master weave up".to_owned(),
        format!("bridge fdb add {peer_mac} dev weave-vx dst {} self static", peer.address()),
    ] {
        host.namespace().run(&line)?;
    }
    Ok(())
}

#[test]
fn a_heartbeat_crosses_the_vxlan_device_though_devices_come_and_go() -> Result<()> {
    let net = Topology::new()?;
    let (a, b) = (net.host()?, net.host()?);
    let (mac_a, mac_b) = ([2, 0, 0, 0, 0, 0xa], [2, 0, 0, 0, 0, 0xb]);
    let (text_a, text_b) = ("02:00:00:00:00:0a", "02:00:00:00:00:0b");
    let sender = bridge_with_vxlan(&a, text_a, &b, text_b)?;
    let mut receiver = bridge_with_vxlan(&b, text_b, &a, text_a)?;
    let heartbeat = ethernet(mac_b, mac_a, heartbeat::ETHERTYPE, &[7; 1000]);
    let mut buffer = [0; 2048];
    let mut crosses = || {
        eventually(DEADLINE, "the heartbeat arrives", || {
            b.namespace().enter(|| Ok(receiver.follow_bridge()?))?;
            a.namespace().enter(|| Ok(sender.send(&heartbeat)?))?;
            if let Some(length) = receiver.receive(&mut buffer).unwrap_or_default() {
                assert_eq!(&buffer[..length], &heartbeat, "nothing but heartbeats arrives");
                return Ok(true);
            }
            Ok(false)
        })
    };

    crosses()?;
    a.namespace().run("ip link del weave-vx")?;
    let absent = a.namespace().enter(|| Ok(sender.send(&heartbeat)))?;
    assert!(matches!(absent, Err(SendError::NoDevice(_))), "{absent:?}");
    make_vxlan(&a, &b, text_b)?;
    crosses()?;
    b.namespace().run("ip link del weave")?;
    b.namespace().run(&format!("ip link add weave address {text_b} type bridge mcast_snooping 0"))?;
    b.namespace().run("ip link set weave up")?;
    b.namespace().run("ip link set weave-vx master weave")?;
    crosses()?;
    Ok(())
}
