//! What is in the way and not ours to change: a human is told.
//!
//! | | |
//! |---|---|
//! | chains of nftables that drop what is forwarded | `br_netfilter` shows them what is bridged; no accept elsewhere undoes a drop |
//! | routes into what is the overlay's | an address in both is one place or the other, by the longer prefix |

use weave_mesh::card::Subnet;

use super::{LinkName, Plan};

/// Overlapping routes that are told one by one.
const OVERLAPS_MAX: usize = 4;

/// Where this host sends packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub to: Subnet,
    pub device: String,
}

/// A chain on the hook of what is forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForwardChain {
    pub family: String,
    pub table: String,
    pub name: String,
    pub drops_by_policy: bool,
}

impl ForwardChain {
    /// Of a listing of all chains, those that are neither a daemon's of our kind nor of iptables, where we have accepts.
    pub fn of_others(listing: &str) -> Vec<Self> {
        let mut found = Vec::new();
        let (mut table, mut chain) = (None, None);
        for line in listing.lines() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["table", family, name, "{"] => table = Some((*family, *name)),
                ["chain", name, "{"] => chain = Some(*name),
                ["type", _, "hook", "forward", rest @ ..] => {
                    let Some(((family, table), name)) = table.zip(chain) else { continue };
                    let drops_by_policy = rest.ends_with(&["policy", "drop;"]);
                    let [family, table, name] = [family, table, name].map(str::to_owned);
                    found.push(Self { family, table, name, drops_by_policy });
                }
                _ => {}
            }
        }
        found.retain(|chain| !chain.is_ours() && !chain.is_of_iptables());
        found
    }

    fn is_ours(&self) -> bool {
        self.table.starts_with(crate::guard::TABLE_PREFIX)
    }

    fn is_of_iptables(&self) -> bool {
        ["ip", "ip6"].contains(&self.family.as_str())
            && (self.table.as_str(), self.name.as_str()) == ("filter", "FORWARD")
    }

    /// Whether it drops what its rules, listed, do not speak of. One that names the bridge was made by somebody who
    /// knows.
    pub fn drops(&self, listing: &str, bridge: &LinkName) -> bool {
        let last = listing.lines().map(str::trim).rfind(|line| *line != "}").unwrap_or_default();
        let verdict = match last.strip_prefix("counter packets ") {
            Some(counted) => counted.splitn(4, ' ').nth(3).unwrap_or_default(),
            None => last,
        };
        let drops = self.drops_by_policy || verdict == "drop" || verdict.starts_with("reject");
        drops && !listing.contains(&format!("\"{bridge}\""))
    }

    /// What a human is told.
    pub fn complaint(&self, bridge: &LinkName) -> String {
        let Self { family, table, name, .. } = self;
        format!(
            "nftables drops what is forwarded in table {family} {table}, chain {name}, and with it packets of the overlay: \
             accept there what comes from and goes to the device {bridge}"
        )
    }
}

impl Plan {
    /// Routes by other devices to addresses of the overlay.
    pub fn overlaps(&self, routes: &[Route]) -> Vec<String> {
        let range = self.range.map(|range| ("the range", range));
        let exposed = self.exposed.keys().map(|network| ("the exposed network", *network));
        let all = range.into_iter().chain(exposed).flat_map(|(what, network)| {
            let overlaps = move |route: &&Route| meet(network, route.to);
            routes.iter().filter(overlaps).map(move |route| told(what, network, route))
        });
        all.take(OVERLAPS_MAX).collect()
    }
}

fn told(what: &str, network: Subnet, Route { to, device }: &Route) -> String {
    let text = |Subnet { address, prefix_len }: &Subnet| format!("{address}/{prefix_len}");
    let (network, to) = (text(&network), text(to));
    format!(
        "{what} {network} overlaps {to}, to which this host has a route by {device}; choose another or remove the route"
    )
}

fn meet(one: Subnet, other: Subnet) -> bool {
    one.contains(other.address) || other.contains(one.address)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::fixture::bare_plan;
    use crate::plan::{Crossing, Opening};

    fn subnet(text: &str) -> Subnet {
        let (address, prefix_len) = text.split_once('/').expect("a length");
        Subnet { address: address.parse().expect("address"), prefix_len: prefix_len.parse().expect("length") }
    }

    #[test]
    fn somebodys_chains_are_found_and_ours_and_those_of_iptables_are_not() {
        let listing = "table ip filter {\n\tchain FORWARD {\n\t\ttype filter hook forward priority filter; policy drop;\n\t}\n}\n\
            table inet weave-rs-weave {\n\tchain fastpath {\n\t}\n\tchain forward {\n\
            \t\ttype filter hook forward priority filter - 10; policy accept;\n\t}\n}\n\
            table inet firewalld {\n\tchain filter_FORWARD {\n\
            \t\ttype filter hook forward priority filter + 10; policy accept;\n\t}\n\
            \tchain other {\n\t\ttype filter hook input priority filter; policy drop;\n\t}\n}\n\
            table ip mine {\n\tchain f {\n\t\ttype filter hook forward priority 0; policy drop;\n\t}\n}\n";

        let found = ForwardChain::of_others(listing);

        let named: Vec<_> = found.iter().map(|chain| (chain.table.as_str(), chain.drops_by_policy)).collect();
        assert_eq!(named, [("firewalld", false), ("mine", true)]);
    }

    #[test]
    fn a_chain_drops_by_its_policy_or_its_last_rule_unless_it_names_the_bridge() {
        let bridge = "weave".parse().expect("name");
        let chain = |drops_by_policy| ForwardChain {
            family: "inet".to_owned(),
            table: "t".to_owned(),
            name: "c".to_owned(),
            drops_by_policy,
        };
        let listing = |rules: &str| format!("table inet t {{\n\tchain c {{\n\t\ttype filter\n{rules}\t}}\n}}\n");

        assert!(chain(true).drops(&listing(""), &bridge));
        assert!(!chain(false).drops(&listing("\t\tip saddr 10.0.0.1 drop\n"), &bridge));
        assert!(chain(false).drops(&listing("\t\treject with icmpx admin-prohibited\n"), &bridge));
        assert!(chain(false).drops(&listing("\t\tcounter packets 3 bytes 80 drop\n"), &bridge));
        assert!(!chain(false).drops(&listing("\t\tcounter packets 3 bytes 80\n"), &bridge));
        assert!(!chain(true).drops(&listing("\t\tiifname \"weave\" accept\n"), &bridge));
    }

    #[test]
    fn routes_that_meet_the_range_or_an_exposed_network_are_told() {
        let mut plan = bare_plan();
        plan.range = Some(subnet("10.32.0.0/12"));
        plan.exposed.insert(subnet("10.2.1.0/24"), Opening::of(Crossing::AsIs));
        let route = |to: &str| Route { to: subnet(to), device: "eth1".to_owned() };
        let routes = ["192.168.0.0/16", "10.40.0.0/16", "10.0.0.0/8", "fd00::/8"].map(route);

        let told = plan.overlaps(&routes);

        assert_eq!(told.len(), 3, "{told:?}");
        assert!(told[0].contains("range 10.32.0.0/12 overlaps 10.40.0.0/16") && told[0].contains("eth1"), "{told:?}");
        assert!(told[2].contains("network 10.2.1.0/24 overlaps 10.0.0.0/8"), "{told:?}");
    }
}
