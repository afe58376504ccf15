//! A bridge with a veth port, whose other end `station` is where a container would be, and the TAP as another port.

use std::time::Duration;

use anyhow::Result;
use weave_datapath::linux::tap::Tap;
use weave_datapath::plan::LinkName;
use weave_netns_tests::probe::eventually;
use weave_netns_tests::topology::Host;

pub(crate) const DEADLINE: Duration = Duration::from_secs(5);
/// Local experimental ethertype 2: no bridge filter takes it for a malformed packet.
pub(crate) const EXPERIMENTAL: u16 = 0x88b6;

pub(crate) fn device(name: &str) -> LinkName {
    name.parse().expect("a device name")
}

/// Sets it up; the TAP's device stays when its descriptor is closed.
pub(crate) fn bridge_with_tap(host: &Host) -> Result<Tap> {
    let tap = host.namespace().enter(|| Ok(Tap::open(&device("weave-tap"))?))?;
    for line in [
        "ip link add weave type bridge mcast_snooping 0",
        "ip link set weave up",
        "ip link add port type veth peer name station",
        "ip link set port master weave up",
        "ip link set station up",
        "ip link set weave-tap master weave up",
    ] {
        host.namespace().run(line)?;
    }
    wait_forwarding(host)?;
    Ok(tap)
}

/// The bridge starts to use a port some time after its carrier came up.
pub(crate) fn wait_forwarding(host: &Host) -> Result<()> {
    eventually(DEADLINE, "both ports forward", || {
        Ok(host.namespace().run("bridge link")?.matches("state forwarding").count() == 2)
    })?;
    Ok(())
}
