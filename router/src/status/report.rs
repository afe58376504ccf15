//! `report`: the snapshot as JSON under the original's field names, which Scope and scripts read; what the original
//! does not have follows under names of the same style.

use serde_json::{Value, json};

use super::{Carrier, Connection, Direction, Dns, Ipam, Peer, Snapshot};

/// The whole report.
pub fn report(snapshot: &Snapshot) -> Value {
    json!({
        "Ready": snapshot.ready,
        "Version": snapshot.version,
        "VersionCheck": { "Enabled": false },
        "Router": router(snapshot),
        "IPAM": snapshot.ipam.as_ref().map(Ipam::report),
        "Paths": snapshot.paths,
        "Endpoints": snapshot.endpoints,
        "DNS": snapshot.dns.as_ref().map(dns),
        "Warnings": snapshot.warnings,
        "Counters": snapshot.counters,
    })
}

fn router(snapshot: &Snapshot) -> Value {
    let router = &snapshot.router;
    json!({
        "Protocol": "weave",
        "ProtocolMinVersion": router.protocol,
        "ProtocolMaxVersion": router.protocol,
        "Encryption": router.encryption,
        "PeerDiscovery": router.peer_discovery,
        "Name": router.name,
        "NickName": router.nickname,
        "Key": router.key,
        "Mesh": router.mesh,
        "Port": router.port,
        "Peers": snapshot.peers.iter().map(peer).collect::<Vec<_>>(),
        "Connections": snapshot.connections.iter().map(|each| connection(each, router.encryption)).collect::<Vec<_>>(),
        "UnicastRoutes": unicast_routes(snapshot),
        "BroadcastRoutes": broadcast_routes(snapshot),
        "OverlayDiagnostics": overlay_diagnostics(snapshot),
        "Targets": snapshot.targets,
        "TrustedSubnets": router.trusted_subnets,
        "Interface": format!("{} (mtu {})", router.bridge, router.mtu),
        "MACs": macs(snapshot),
    })
}

/// What stands for "this host itself" where a next hop is named.
const NO_HOP: &str = "00:00:00:00:00:00";

/// The next hop of frames to each peer: itself, unless its sleeve goes by a relay.
fn unicast_routes(snapshot: &Snapshot) -> Vec<Value> {
    let own = json!({ "Dest": snapshot.router.name, "Via": NO_HOP });
    let others = snapshot.paths.iter().map(|path| {
        let hop = path.relay.as_ref().unwrap_or(&path.peer);
        json!({ "Dest": path.peer.name, "Via": hop.name })
    });
    std::iter::once(own).chain(others).collect()
}

/// Whoever sends a broadcast sends it to everybody; nobody passes on those of others.
fn broadcast_routes(snapshot: &Snapshot) -> Vec<Value> {
    let everybody: Vec<_> = snapshot.paths.iter().map(|path| &path.peer.name).collect();
    let own = json!({ "Source": snapshot.router.name, "Via": everybody });
    let others = snapshot.paths.iter().map(|path| json!({ "Source": path.peer.name, "Via": null }));
    std::iter::once(own).chain(others).collect()
}

/// The fast path's one device; the kernel has no flows to list where no datapath of Open vSwitch is.
fn overlay_diagnostics(snapshot: &Snapshot) -> Value {
    let port = json!({ "ID": 1, "Name": format!("{}-vx", snapshot.router.bridge), "TypeName": "vxlan" });
    let fast_path = snapshot.router.fast_path.then(|| json!({ "Vports": [port], "Flows": [] }));
    json!({ "fastdp": fast_path, "sleeve": null })
}

fn peer(peer: &Peer) -> Value {
    let connections = peer.connections.iter().map(|connection| {
        json!({
            "Name": connection.peer.name,
            "NickName": connection.peer.nickname,
            "Address": connection.address,
            "Outbound": connection.direction == Direction::Outbound,
            "Established": connection.established,
        })
    });
    json!({
        "Name": peer.label.name,
        "NickName": peer.label.nickname,
        "Key": peer.key,
        "Reachable": peer.reachable,
        "Incarnation": peer.version.0,
        "Version": peer.version.1,
        "Connections": connections.collect::<Vec<_>>(),
    })
}

fn connection(connection: &Connection, mesh_has_password: bool) -> Value {
    let attributes = connection.carrier.map(|carrier| {
        let name = match carrier {
            Carrier::Fastdp => "fastdp",
            Carrier::Sleeve => "sleeve",
        };
        let mut attributes = json!({ "name": name, "mtu": connection.mtu });
        if mesh_has_password {
            attributes["encrypted"] = connection.encrypted.into();
        }
        attributes
    });
    let info = connection.peer.as_ref().map_or_else(|| connection.info.clone(), ToString::to_string);
    json!({
        "Address": connection.address,
        "Outbound": connection.direction == Direction::Outbound,
        "State": connection.state,
        "Info": info,
        "Attrs": attributes,
    })
}

fn dns(dns: &Dns) -> Value {
    let entries = dns.entries.iter().map(|entry| {
        json!({
            "Hostname": entry.hostname,
            "Origin": entry.origin.name,
            "ContainerID": entry.container_id,
            "Address": entry.address,
        })
    });
    json!({
        "Domain": dns.domain,
        "Upstream": dns.upstream,
        "Address": dns.address,
        "TTL": dns.ttl,
        "Entries": entries.collect::<Vec<_>>(),
    })
}

fn macs(snapshot: &Snapshot) -> Vec<Value> {
    let entries = snapshot.endpoints.iter();
    entries
        .map(|endpoint| json!({ "Mac": endpoint.mac, "Name": endpoint.peer.name, "NickName": endpoint.peer.nickname }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::text::tests::snapshot;
    use super::*;

    #[test]
    fn the_report_keeps_the_originals_field_names() {
        let report = report(&snapshot());

        assert_eq!(report["Router"]["NickName"], "host1");
        assert_eq!(report["Router"]["Peers"][0]["Connections"][0]["Established"], true);
        assert_eq!(report["Router"]["Connections"][0]["Attrs"]["name"], "sleeve");
        assert_eq!(report["Router"]["Connections"][1]["Attrs"], Value::Null);
        assert_eq!(report["Router"]["Connections"][0]["State"], "established");
        let own = &report["Router"]["Name"];
        assert_eq!(report["Router"]["UnicastRoutes"][0], json!({ "Dest": own, "Via": NO_HOP }));
        assert_eq!(report["Router"]["BroadcastRoutes"][0]["Source"], *own);
        assert_eq!(report["Router"]["OverlayDiagnostics"]["sleeve"], Value::Null);
        assert_eq!(report["IPAM"]["ActiveIPs"], 2);
    }
}
