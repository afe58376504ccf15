//! The plan that tests begin with.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use weave_mesh::name::MacAddr;

use super::{BridgeNames, BridgePlan, Plan, Resolver, VxlanPlan};
use crate::guard::Rules;

/// Without containers or peers.
pub(crate) fn bare_plan() -> Plan {
    Plan {
        names: names(),
        bridge: BridgePlan { mac: mac(1), mtu: 1376, addresses: BTreeSet::new() },
        vxlan: Some(VxlanPlan { vni: 7, port: 6784, local: Ipv4Addr::UNSPECIFIED.into() }),
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

pub(crate) fn names() -> BridgeNames {
    BridgeNames::of("weave").expect("names")
}

pub(crate) fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}
