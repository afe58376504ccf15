//! `status ipam`: who owns how many addresses, and what is waited for.

use std::fmt::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};
use weave_mesh::identity::PeerKey;
use weave_mesh::ipam::{Cidr, IpamView, Owner, Problem, Wait};
use weave_mesh::node::View;

use super::{PeerLabel, titles, waits};
use crate::shown::Shown;

/// How addresses are given.
#[derive(Clone, Debug, Serialize)]
pub struct Ipam {
    pub range: String,
    /// How many addresses it has.
    pub size: u64,
    pub default_subnet: String,
    /// Whether the range is shared out.
    pub ready: bool,
    /// In the original's words.
    pub status: String,
    /// Empty before the range is shared out.
    pub owners: Vec<IpamOwner>,
    pub waiting: Vec<IpamWaiting>,
    /// Only while it is waited for.
    #[serde(skip)]
    pub election: Option<Election>,
    /// What needs a person, such as a peer with another range.
    pub problems: Vec<IpamProblem>,
}

/// What one peer owns.
#[derive(Clone, Debug, Serialize)]
pub struct IpamOwner {
    pub peer: PeerLabel,
    pub addresses: u64,
    /// How many of them containers hold; known of this host alone.
    pub active: Option<u64>,
    pub reachable: bool,
}

/// An operation that cannot end yet.
#[derive(Clone, Debug, Serialize)]
pub struct IpamWaiting {
    /// For whom an address is wanted, if one is.
    pub container: Option<String>,
    /// The very address that is wanted; any of a subnet when `None`.
    #[serde(skip)]
    pub claimed: Option<Cidr>,
    pub waiting_for: String,
}

/// How far the peers have come that agree on who owns what at first, under the original's field names.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Election {
    /// Whether this peer votes.
    pub elector: bool,
    pub known_nodes: usize,
    pub quorum: usize,
}

/// A peer that cannot share the range with us, or that broke a rule.
#[derive(Clone, Debug, Serialize)]
pub struct IpamProblem {
    pub peer: PeerLabel,
    pub problem: String,
}

impl fmt::Display for IpamProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer {} and addresses: {}", self.peer, self.problem)
    }
}

impl Ipam {
    /// From what the mesh machine knows.
    pub fn of(ipam: &IpamView, view: &View) -> Self {
        let label = |key: &PeerKey| label(key, view);
        let waiting = ipam.pending.iter().map(|pending| IpamWaiting {
            container: pending.container.clone(),
            claimed: pending.claimed,
            waiting_for: waits::wait(&pending.wait, &|key| label(key).to_string()),
        });
        let titled = |problem: &Problem| titles::titled(&problem.to_string(), &|digits| title(digits, view));
        let problem =
            |(peer, problem): (&PeerKey, &Problem)| IpamProblem { peer: label(peer), problem: titled(problem) };
        let owners: Vec<_> = ipam.owned.iter().map(|(owner, size)| of_owner(owner, *size, ipam, view)).collect();
        Self {
            range: ipam.config.range.to_string(),
            size: ipam.config.range.range().size(),
            default_subnet: ipam.config.default_subnet.to_string(),
            ready: ipam.is_ready,
            status: status(ipam, &owners),
            owners,
            waiting: waiting.collect(),
            election: election(ipam),
            problems: ipam.problems.iter().map(problem).collect(),
        }
    }

    /// The lines of `status`, beneath those of the router.
    pub fn summary(&self) -> [(&'static str, String); 4] {
        [
            ("Service", "ipam".to_owned()),
            ("Status", self.status.clone()),
            ("Range", self.range.clone()),
            ("DefaultSubnet", self.default_subnet.clone()),
        ]
    }

    /// The original's table, a line for each operation that waits, and one for each problem.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for IpamOwner { peer, addresses, active, reachable } in &self.owners {
            let share = *addresses as f64 * 100.0 / self.size as f64;
            let tail = match active {
                Some(active) => format!("({active} active)"),
                None if *reachable => String::new(),
                None => "- unreachable!".to_owned(),
            };
            let line = format!("{peer:<37} {addresses:>8} IPs ({share:04.1}% of total) {tail}");
            let _ = writeln!(text, "{}", line.trim_end());
        }
        for IpamWaiting { container, waiting_for, .. } in &self.waiting {
            let whose = container.as_ref().map_or_else(String::new, |container| format!("{container}: "));
            let _ = writeln!(text, "{}waiting for {}", Shown(whose), Shown(waiting_for));
        }
        for problem in &self.problems {
            let _ = writeln!(text, "{}", Shown(problem));
        }
        text
    }

    /// Under the original's field names.
    pub fn report(&self) -> Value {
        let entry = |owner: &IpamOwner| {
            json!({
                "Peer": owner.peer.name,
                "Nickname": owner.peer.nickname,
                "Size": owner.addresses,
                "IsKnownPeer": owner.reachable,
            })
        };
        let allocates = self.waiting.iter().filter(|waiting| waiting.claimed.is_none());
        let claims = self.waiting.iter().filter_map(|waiting| {
            let (container, claimed) = (waiting.container.as_ref()?, waiting.claimed?);
            let cidr = json!({ "Addr": claimed.address(), "PrefixLen": claimed.prefix_len() });
            Some(json!({ "Ident": container, "CIDR": cidr }))
        });
        json!({
            "Paxos": self.election,
            "Range": self.range,
            "RangeNumIPs": self.size,
            "ActiveIPs": self.owners.iter().filter_map(|owner| owner.active).sum::<u64>(),
            "DefaultSubnet": self.default_subnet,
            "Entries": self.owners.iter().map(entry).collect::<Vec<_>>(),
            "PendingClaims": claims.collect::<Vec<_>>(),
            "PendingAllocates": allocates.filter_map(|waiting| waiting.container.as_ref()).collect::<Vec<_>>(),
        })
    }
}

fn of_owner(owner: &Owner, addresses: u64, ipam: &IpamView, view: &View) -> IpamOwner {
    let (peer, is_self, reachable) = match owner {
        Owner::Peer(key) => {
            let is_self = *key == view.card.key;
            let is_there = view.peers.get(key).is_some_and(|peer| peer.standing.is_reachable());
            (label(key, view), is_self, is_self || is_there)
        }
        Owner::Named(name) => (PeerLabel { name: name.to_string(), nickname: "not seen yet".to_owned() }, false, false),
    };
    IpamOwner { peer, addresses, active: is_self.then_some(ipam.active), reachable }
}

/// What the peer is called whose key begins with these digits, or a container with that id.
fn title(digits: &str, view: &View) -> Option<String> {
    if digits.len() == titles::CONTAINER_DIGITS {
        return Some(titles::container(digits, None));
    }
    let mut keys = view.peers.keys().chain([&view.card.key]);
    keys.find(|key| key.to_string() == digits).map(|key| label(key, view).to_string())
}

fn label(key: &PeerKey, view: &View) -> PeerLabel {
    let card = if *key == view.card.key { Some(&view.card) } else { view.peers.get(key).map(|peer| &*peer.card) };
    match card {
        Some(card) => PeerLabel { name: card.name.to_string(), nickname: card.nickname.clone() },
        None => PeerLabel { name: key.to_string(), nickname: String::new() },
    }
}

fn election(ipam: &IpamView) -> Option<Election> {
    ipam.pending.iter().find_map(|pending| match pending.wait {
        Wait::Quorum { have, need, .. } => Some(Election { elector: true, known_nodes: have, quorum: need }),
        Wait::Ring => Some(Election { elector: false, known_nodes: 0, quorum: 0 }),
        _ => None,
    })
}

fn status(ipam: &IpamView, owners: &[IpamOwner]) -> String {
    let is_waiting = |wanted: fn(&Wait) -> bool| ipam.pending.iter().find(|pending| wanted(&pending.wait));
    if ipam.is_ready && owners.iter().all(|owner| !owner.reachable) {
        return "all IP ranges owned by unreachable peers - use 'rmpeer' if they are dead".to_owned();
    }
    if let Some(Wait::Quorum { have, need, .. }) =
        is_waiting(|wait| matches!(wait, Wait::Quorum { .. })).map(|pending| &pending.wait)
    {
        return format!("awaiting consensus (quorum: {need}, known: {have})");
    }
    if is_waiting(|wait| matches!(wait, Wait::Ring | Wait::Electors)).is_some() {
        return "priming".to_owned();
    }
    if is_waiting(|wait| matches!(wait, Wait::Space | Wait::Peer(_))).is_some() {
        return "waiting for IP(s) to become available".to_owned();
    }
    if ipam.is_ready { "ready".to_owned() } else { "idle".to_owned() }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn ipam() -> Ipam {
        let owner = |number: u8, addresses, active, reachable| IpamOwner {
            peer: PeerLabel { name: format!("4a:0f:f6:ec:1c:9{number}"), nickname: format!("host{number}") },
            addresses,
            active,
            reachable,
        };
        Ipam {
            range: "10.32.0.0/12".to_owned(),
            size: 1 << 20,
            default_subnet: "10.32.0.0/12".to_owned(),
            ready: true,
            status: "ready".to_owned(),
            owners: vec![
                owner(1, 393_216, Some(2), true),
                owner(3, 524_288, None, false),
                owner(2, 131_072, None, true),
            ],
            waiting: vec![IpamWaiting {
                container: Some("web".to_owned()),
                claimed: None,
                waiting_for: "an address to become available".to_owned(),
            }],
            election: None,
            problems: vec![IpamProblem {
                peer: PeerLabel { name: "4a:0f:f6:ec:1c:94".to_owned(), nickname: "host4".to_owned() },
                problem: "its range is another".to_owned(),
            }],
        }
    }

    #[test]
    fn the_table_keeps_the_originals_columns() {
        assert_eq!(
            ipam().table(),
            "4a:0f:f6:ec:1c:91(host1)                393216 IPs (37.5% of total) (2 active)\n\
             4a:0f:f6:ec:1c:93(host3)                524288 IPs (50.0% of total) - unreachable!\n\
             4a:0f:f6:ec:1c:92(host2)                131072 IPs (12.5% of total)\n\
             web: waiting for an address to become available\n\
             peer 4a:0f:f6:ec:1c:94(host4) and addresses: its range is another\n"
        );
    }

    #[test]
    fn the_report_counts_what_the_range_has() {
        let report = ipam().report();

        assert_eq!(report["RangeNumIPs"], 1_048_576);
        assert_eq!(report["ActiveIPs"], 2);
        assert_eq!(report["Paxos"], Value::Null);
        assert_eq!(report["PendingAllocates"], json!(["web"]));
        assert_eq!(report["Entries"][0]["Nickname"], "host1");
    }

    #[test]
    fn the_report_tells_claims_from_allocations_and_how_far_the_election_is() {
        let mut ipam = ipam();
        ipam.waiting[0].claimed = "10.32.0.9/12".parse().ok();
        ipam.election = Some(Election { elector: true, known_nodes: 1, quorum: 2 });

        let report = ipam.report();

        let claim = json!({ "Ident": "web", "CIDR": { "Addr": "10.32.0.9", "PrefixLen": 12 } });
        assert_eq!(report["PendingClaims"], json!([claim]));
        assert_eq!(report["PendingAllocates"], json!([]));
        assert_eq!(report["Paxos"], json!({ "Elector": true, "KnownNodes": 1, "Quorum": 2 }));
    }
}
