//! What one plan has beyond another: stations that can be let in at once, whatever else has to wait.

use std::net::SocketAddr;

use weave_mesh::name::MacAddr;

use super::{OverlayPort, Plan};

/// A station elsewhere that an earlier plan did not name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newcomer {
    pub mac: MacAddr,
    /// By which port frames for it leave.
    pub port: OverlayPort,
    /// Where the fast path sends them, if it may.
    pub remote: Option<SocketAddr>,
}

/// The stations elsewhere that `after` has and `before` has not. One that moves is none: what it displaces has an order.
pub fn newcomers<'a>(before: &'a Plan, after: &'a Plan) -> impl Iterator<Item = Newcomer> + 'a {
    let is_here = |mac: &MacAddr| *mac == after.bridge.mac || after.ports.values().any(|port| port.mac == *mac);
    let new = after.bridge_fdb.iter().filter(move |(mac, _)| !before.bridge_fdb.contains_key(mac) && !is_here(mac));
    new.map(|(mac, port)| {
        let remote = after.vxlan.as_ref().and_then(|_| after.vxlan_fdb.get(mac)).copied();
        Newcomer { mac: *mac, port: *port, remote }
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{bare_plan, mac};
    use super::*;
    use crate::plan::PortPlan;

    #[test]
    fn a_station_is_new_when_it_is_elsewhere_and_was_unknown() {
        let (mut before, mut after) = (bare_plan(), bare_plan());
        before.bridge_fdb.insert(mac(7), OverlayPort::Tap);
        let remote = SocketAddr::from(([192, 0, 2, 9], 6784));
        after.ports.insert("vethwepl0000001".parse().unwrap(), PortPlan { mac: mac(5), addresses: [].into() });
        for last in [1, 5, 7, 8, 9] {
            after.bridge_fdb.insert(mac(last), OverlayPort::Vxlan);
        }
        after.vxlan_fdb.insert(mac(9), remote);

        let found: Vec<_> = newcomers(&before, &after).map(|new| (new.mac, new.port, new.remote)).collect();

        assert_eq!(found, [(mac(8), OverlayPort::Vxlan, None), (mac(9), OverlayPort::Vxlan, Some(remote))]);
        assert_eq!(newcomers(&after, &after).count(), 0);
    }
}
