//! What is read off the kernel before anything is changed.

use weave_datapath::linux::mtu::overlay_mtu;

use crate::lab::{ip, on_a_host, run};

#[test]
fn the_overlay_is_as_large_as_its_underlay_allows() {
    on_a_host(|| {
        run("ip link add jumbo mtu 9001 type veth peer name far");
        run("ip link set jumbo up");
        run("ip link set far up");
        run("ip address add 192.0.2.1/24 dev jumbo");
        run("ip -6 address add 2001:db8::1/64 dev far nodad");

        assert_eq!(overlay_mtu(&[]).expect("nothing is known"), 1376);
        assert_eq!(overlay_mtu(&[ip("192.0.2.1")]).expect("jumbo"), 8877);
        assert_eq!(overlay_mtu(&[ip("192.0.2.1"), ip("2001:db8::1")]).expect("both"), 1356);
        run("ip link add second mtu 1500 type veth peer name other");
        run("ip address add 198.51.100.1/24 dev second");
        assert_eq!(overlay_mtu(&[ip("192.0.2.1"), ip("198.51.100.1")]).expect("two devices"), 1376);
        run("ip route add default via 192.0.2.9 dev jumbo");
        assert_eq!(overlay_mtu(&[ip("203.0.113.1")]).expect("by the default route"), 8877);
    });
}
