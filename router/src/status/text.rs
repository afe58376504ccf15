//! The snapshot as text, in the columns of the original; scripts read them. Whatever others said is in one line and moves
//! no cursor.

use std::fmt::Write;

use super::time::rfc3339;
use super::{Carrier, Connection, ConnectionState, Direction, Dns, Path, Snapshot};
use crate::shown::Shown;

/// Labels are right-aligned so that the colons sit in this column.
const LABEL_WIDTH: usize = 15;

/// `status`.
pub fn summary(snapshot: &Snapshot) -> String {
    let router = &snapshot.router;
    let mut lines = vec![("Version", snapshot.version.to_owned()), ("", String::new())];
    lines.push(("Service", "router".to_owned()));
    lines.push(("Protocol", format!("weave {}", router.protocol)));
    lines.push(("Name", format!("{}({})", router.name, router.nickname)));
    lines.push(("Mesh", router.mesh.clone()));
    lines.push(("Encryption", if router.encryption { "enabled" } else { "disabled" }.to_owned()));
    lines.push(("PeerDiscovery", if router.peer_discovery { "enabled" } else { "disabled" }.to_owned()));
    lines.extend(snapshot.discovery.summary());
    lines.push(("Targets", snapshot.targets.len().to_string()));
    lines.push(("Connections", count_connections(&snapshot.connections)));
    lines.push(("Peers", count_peers(snapshot)));
    lines.push(("TrustedSubnets", trusted_subnets(&router.trusted_subnets)));
    lines.push(("", String::new()));
    lines.push(("Service", "datapath".to_owned()));
    lines.push(("Bridge", format!("{} (mtu {})", router.bridge, router.mtu)));
    lines.push(("FastPath", if router.fast_path { "enabled" } else { "disabled" }.to_owned()));
    lines.push(("Paths", count_paths(&snapshot.paths)));
    lines.push(("Endpoints", snapshot.endpoints.len().to_string()));
    if let Some(ipam) = &snapshot.ipam {
        lines.push(("", String::new()));
        lines.extend(ipam.summary());
    }
    lines.extend(snapshot.dns.iter().flat_map(dns_summary));
    lines.extend(snapshot.docker.summary());
    lines.extend(snapshot.warnings.iter().map(|warning| ("Warning", warning.clone())));
    lines.iter().fold(String::new(), |mut text, (label, value)| {
        let colon = if label.is_empty() { "" } else { ": " };
        let _ = writeln!(text, "{}", Shown(format!("{label:>LABEL_WIDTH$}{colon}{value}").trim_end()));
        text
    })
}

fn dns_summary(dns: &Dns) -> [(&'static str, String); 7] {
    let listed = |texts: &[String]| if texts.is_empty() { "none".to_owned() } else { texts.join(", ") };
    [
        ("", String::new()),
        ("Service", "dns".to_owned()),
        ("Domain", dns.domain.clone()),
        ("Upstream", listed(&dns.upstream)),
        ("Listening", listed(&dns.listening)),
        ("TTL", dns.ttl.to_string()),
        ("Entries", dns.entries.len().to_string()),
    ]
}

fn trusted_subnets(subnets: &[String]) -> String {
    if subnets.is_empty() { "none".to_owned() } else { subnets.join(", ") }
}

fn count_connections(connections: &[Connection]) -> String {
    let count = |state| connections.iter().filter(|connection| connection.state == state).count();
    let counts = ConnectionState::ALL.map(|state| (state, count(state)));
    let named: Vec<_> =
        counts.iter().filter(|(_, count)| *count > 0).map(|(state, count)| format!("{count} {state}")).collect();
    bracketed(connections.len(), "", &named)
}

fn count_peers(snapshot: &Snapshot) -> String {
    let connections = || snapshot.peers.iter().flat_map(|peer| &peer.connections);
    let established = connections().filter(|connection| connection.established).count();
    let pending = connections().count() - established;
    let named = [(established, "established"), (pending, "pending")];
    let named: Vec<_> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, state)| format!("{count} {state}")).collect();
    let text = bracketed(snapshot.peers.len(), "with ", &named);
    if named.is_empty() { text } else { text.replace(')', " connections)") }
}

fn count_paths(paths: &[Path]) -> String {
    let count = |carrier| paths.iter().filter(|path| path.carrier == carrier).count();
    let counts = [(count(Carrier::Fastdp), "fastdp"), (count(Carrier::Sleeve), "sleeve")];
    let named: Vec<_> =
        counts.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    bracketed(paths.len(), "", &named)
}

fn bracketed(total: usize, lead: &str, parts: &[String]) -> String {
    if parts.is_empty() { total.to_string() } else { format!("{total} ({lead}{})", parts.join(", ")) }
}

const fn arrow(direction: Direction) -> &'static str {
    match direction {
        Direction::Outbound => "->",
        Direction::Inbound => "<-",
    }
}

fn lines<T>(items: &[T], line: impl Fn(&T) -> String) -> String {
    items.iter().map(|item| format!("{}\n", Shown(line(item).trim_end()))).collect()
}

/// `status connections`: arrow, address, state, and either carrier, peer and MTU or what went wrong.
pub fn connections(snapshot: &Snapshot) -> String {
    lines(&snapshot.connections, |connection| {
        let Connection { direction, address, state, info, .. } = connection;
        let lead = format!("{} {address:<21} {state:<11}", arrow(*direction));
        match (&connection.peer, state) {
            (Some(peer), ConnectionState::Established | ConnectionState::Pending) => {
                let encryption = if connection.encrypted { "encrypted" } else { "unencrypted" };
                let carrier =
                    connection.carrier.map_or_else(|| format!("{:<6}", "none"), |carrier| format!("{carrier:<6}"));
                format!("{lead} {encryption:<11} {carrier} {peer} mtu={} {info}", connection.mtu)
            }
            _ => format!("{lead} {info}"),
        }
    })
}

/// `status peers`: a line for each peer, and one for each of its connections.
pub fn peers(snapshot: &Snapshot) -> String {
    let mut text = String::new();
    for peer in &snapshot.peers {
        let state = if peer.reachable { "" } else { " - unreachable" };
        let _ = writeln!(text, "{}{state}", peer.label);
        for connection in &peer.connections {
            let state = if connection.established { "established" } else { "pending" };
            let lead = arrow(connection.direction);
            let _ = writeln!(text, "   {lead} {:<21} {:<37} {state}", connection.address, connection.peer);
        }
    }
    text
}

/// `status targets`: one per line, as it was entered.
pub fn targets(snapshot: &Snapshot) -> String {
    lines(&snapshot.targets, Clone::clone)
}

/// `status paths`: one line per peer: carrier, MTU, since when, why.
pub fn paths(snapshot: &Snapshot) -> String {
    lines(&snapshot.paths, |path| {
        let encryption = if path.encrypted { "encrypted" } else { "unencrypted" };
        let via = path.relay.as_ref().map_or_else(String::new, |relay| format!(" via {relay}"));
        let since = rfc3339(path.since);
        let carrier = path.carrier;
        let sends = if path.sends.fallen_back { format!("; {}", path.sends) } else { String::new() };
        let Path { peer, mtu, reason, .. } = path;
        format!("{peer:<37} {carrier:<6} {encryption:<11} mtu={mtu} since {since}{via}: {reason}{sends}")
    })
}

/// `status endpoints`: MAC, owner, state, container, addresses.
pub fn dns(dns: &Dns) -> String {
    let suffix = format!(".{}", dns.domain);
    lines(&dns.entries, |entry| {
        let is_inside = entry.hostname.to_ascii_lowercase().ends_with(&suffix);
        let host = if is_inside { &entry.hostname[..entry.hostname.len() - suffix.len()] } else { &entry.hostname };
        let container: String = entry.container_id.chars().take(12).collect();
        format!("{host:<12} {:<15} {container:>12} {}", entry.address, entry.origin.name)
    })
}

/// `status endpoints`.
pub fn endpoints(snapshot: &Snapshot) -> String {
    lines(&snapshot.endpoints, |endpoint| {
        let container = if endpoint.container.is_empty() { "-" } else { &endpoint.container };
        let addresses = endpoint.addresses.join(" ");
        format!("{} {:<37} {:<11} {container:<12} {addresses}", endpoint.mac, endpoint.peer, endpoint.state)
    })
}

/// `status ipam`: owners with what they own, and what is waited for.
pub fn ipam(snapshot: &Snapshot) -> String {
    match &snapshot.ipam {
        Some(ipam) => ipam.table(),
        None => "this host gives no addresses: it was launched with an empty --ipalloc-range\n".to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::{DnsEntry, Endpoint, EndpointState, Peer, PeerConnection, PeerLabel, Router, Sends};
    use super::*;
    use crate::discovery::DiscoveryPart;

    fn label(number: u8) -> PeerLabel {
        PeerLabel { name: format!("02:00:00:00:00:0{number}"), nickname: format!("host{number}") }
    }

    fn router() -> Router {
        Router {
            name: label(1).name,
            nickname: label(1).nickname,
            key: "ab".repeat(32),
            mesh: "weave".to_owned(),
            protocol: 3,
            port: 6783,
            encryption: true,
            peer_discovery: true,
            trusted_subnets: Vec::new(),
            bridge: "weave".to_owned(),
            mtu: 1376,
            fast_path: true,
            connection_limit: 200,
        }
    }

    fn links() -> Vec<Connection> {
        let established = Connection {
            direction: Direction::Inbound,
            address: "192.168.48.12:34919".to_owned(),
            state: ConnectionState::Established,
            peer: Some(label(2)),
            carrier: Some(Carrier::Sleeve),
            encrypted: true,
            mtu: 1376,
            info: String::new(),
        };
        let failed = Connection {
            direction: Direction::Outbound,
            address: "192.168.48.13:6783".to_owned(),
            state: ConnectionState::Failed,
            peer: None,
            carrier: None,
            info: "connection refused, retry: 2026-11-22T19:20:05Z".to_owned(),
            ..established
        };
        vec![established, failed]
    }

    fn path() -> Path {
        Path {
            peer: label(2),
            key: "cd".repeat(32),
            carrier: Carrier::Sleeve,
            encrypted: true,
            mtu: 1376,
            mtu_reason: "frames of 1390 octets arrive".to_owned(),
            sends: Sends {
                segmented: false,
                fallen_back: false,
                since: 1_795_375_206,
                reason: "the peer is sick of trains".to_owned(),
            },
            since: 1_795_375_205,
            reason: "no answer to heartbeats on the fast path".to_owned(),
            outlook: "an answered heartbeat moves it to fastdp".to_owned(),
            remote: Some("192.168.48.12:6783".to_owned()),
            relay: None,
            session_age_seconds: Some(3),
        }
    }

    fn names() -> Dns {
        Dns {
            domain: "weave.local.".to_owned(),
            upstream: vec!["192.0.2.53".to_owned()],
            address: "172.17.0.1:53".to_owned(),
            listening: vec!["169.254.65.53:53".to_owned(), "172.17.0.1:53".to_owned()],
            ttl: 1,
            entries: vec![DnsEntry {
                hostname: "MixedCase.weave.local.".to_owned(),
                address: "10.32.0.77".to_owned(),
                container_id: "aaaa81120ee4a67655146b5b".to_owned(),
                origin: label(1),
            }],
        }
    }

    pub(crate) fn snapshot() -> Snapshot {
        Snapshot {
            version: "0.1.0",
            ready: true,
            router: router(),
            targets: vec!["192.168.48.12".to_owned()],
            connections: links(),
            peers: vec![Peer {
                label: label(1),
                key: "ab".repeat(32),
                is_self: true,
                reachable: true,
                version: (1, 1),
                addresses: Vec::new(),
                connections: vec![PeerConnection {
                    direction: Direction::Inbound,
                    address: "192.168.48.12:34919".to_owned(),
                    peer: label(2),
                    established: true,
                }],
            }],
            paths: vec![path()],
            endpoints: vec![Endpoint {
                mac: "8e:00:00:00:00:01".to_owned(),
                addresses: vec!["10.32.0.1/12".to_owned()],
                container: "c1".to_owned(),
                peer: label(1),
                state: EndpointState::Local,
            }],
            ipam: Some(super::super::ipam::tests::ipam()),
            dns: Some(names()),
            docker: super::super::docker::tests::part(),
            discovery: DiscoveryPart { source: "none".to_owned(), ..DiscoveryPart::default() },
            warnings: Vec::new(),
            counters: Default::default(),
        }
    }

    #[test]
    fn connections_keep_the_originals_columns() {
        assert_eq!(
            connections(&snapshot()),
            "<- 192.168.48.12:34919   established encrypted   sleeve 02:00:00:00:00:02(host2) mtu=1376\n\
             -> 192.168.48.13:6783    failed      connection refused, retry: 2026-11-22T19:20:05Z\n"
        );
    }

    #[test]
    fn what_others_said_neither_ends_a_line_nor_moves_a_cursor() {
        let mut snapshot = snapshot();
        let evil = "h2\nfa:ke (x) 999 IPs\u{1b}[31m\u{9b}\u{202e}";
        let label = PeerLabel { nickname: evil.to_owned(), ..label(2) };
        snapshot.router.nickname = evil.to_owned();
        snapshot.peers[0].label = label.clone();
        snapshot.peers[0].connections[0].peer = label.clone();
        snapshot.connections[0].peer = Some(label.clone());
        snapshot.connections[1].info = evil.to_owned();
        snapshot.paths[0].peer = label.clone();
        snapshot.endpoints[0].peer.nickname = evil.to_owned();
        snapshot.endpoints[0].container = evil.to_owned();
        snapshot.warnings.push(evil.to_owned());
        snapshot.docker.failures[0].container = evil.to_owned();
        if let Some(ipam) = &mut snapshot.ipam {
            ipam.owners[0].peer = label;
        }
        if let Some(dns) = &mut snapshot.dns {
            dns.entries[0].container_id = evil.to_owned();
        }
        let plain = tests::snapshot();

        let all = |snapshot: &Snapshot| {
            let why = super::super::why::explain(snapshot, &snapshot.peers[0]);
            let ps = super::super::ps::text(&super::super::ps::attached(snapshot, &[]));
            let names = snapshot.dns.as_ref().map(dns).unwrap_or_default();
            let tables = [summary, connections, peers, targets, paths, endpoints, ipam].map(|table| table(snapshot));
            [tables.concat(), names, why, ps].concat()
        };
        let shown = all(&snapshot);
        assert!(!shown.contains(|character| character != '\n' && crate::shown::is_dangerous(character)), "{shown:?}");
        // One more for the warning.
        assert_eq!(shown.lines().count(), all(&plain).lines().count() + 1, "{shown}");
    }

    #[test]
    fn without_a_password_connections_are_called_unencrypted() {
        let mut snapshot = snapshot();
        snapshot.connections[0].encrypted = false;

        assert!(connections(&snapshot).contains("established unencrypted sleeve 02:00:00:00:00:02(host2) mtu=1376\n"));
    }

    #[test]
    fn the_summary_aligns_its_colons() {
        let text = summary(&snapshot());

        for line in text.lines().filter(|line| !line.is_empty()) {
            assert_eq!(line.find(':'), Some(LABEL_WIDTH), "{line}");
        }
        assert!(text.contains("    Connections: 2 (1 established, 1 failed)\n"), "{text}");
        assert!(text.contains("          Peers: 1 (with 1 established connections)\n"), "{text}");
    }

    #[test]
    fn peers_list_their_connections_indented() {
        assert_eq!(
            peers(&snapshot()),
            "02:00:00:00:00:01(host1)\n   <- 192.168.48.12:34919   02:00:00:00:00:02(host2)              established\n"
        );
    }

    #[test]
    fn a_path_is_one_line_with_its_reason() {
        assert_eq!(
            paths(&snapshot()),
            "02:00:00:00:00:02(host2)              sleeve encrypted   mtu=1376 since 2026-11-22T19:20:05Z: \
             no answer to heartbeats on the fast path\n"
        );
    }

    #[test]
    fn a_path_that_fell_back_to_plain_sends_says_so() {
        let mut snapshot = snapshot();
        snapshot.paths[0].sends.fallen_back = true;

        let text = paths(&snapshot);

        let expected = "fast path; plain sends since 2026-11-22T19:20:06Z: the peer is sick of trains\n";
        assert!(text.ends_with(expected), "{text}");
    }

    #[test]
    fn names_are_shown_without_the_domain_in_the_originals_columns() {
        let shown = dns(snapshot().dns.as_ref().unwrap());

        assert_eq!(shown, "MixedCase    10.32.0.77      aaaa81120ee4 02:00:00:00:00:01\n");
    }
}
