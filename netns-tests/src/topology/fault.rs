//! Faults of the switch, as data: a list of them becomes one nftables ruleset.

use std::fmt::Write;
use std::net::Ipv4Addr;

/// Something the switch does not carry, in either direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Anything between two addresses.
    Between(Ipv4Addr, Ipv4Addr),
    /// Anything to and from one address.
    Isolated(Ipv4Addr),
    /// UDP to one port, whoever sends it: 6784 blocks the fast path, 6783 the sleeve.
    UdpPort(u16),
    /// UDP to one port, between two addresses.
    UdpPortBetween(Ipv4Addr, Ipv4Addr, u16),
}

impl Fault {
    /// The match expressions, one per direction.
    fn matches(self) -> [String; 2] {
        match self {
            Self::Between(a, b) => [format!("ip saddr {a} ip daddr {b}"), format!("ip saddr {b} ip daddr {a}")],
            Self::Isolated(a) => [format!("ip saddr {a}"), format!("ip daddr {a}")],
            Self::UdpPort(port) => [format!("udp dport {port}"), format!("udp sport {port}")],
            Self::UdpPortBetween(a, b, port) => [
                format!("ip saddr {a} ip daddr {b} udp dport {port}"),
                format!("ip saddr {b} ip daddr {a} udp dport {port}"),
            ],
        }
    }
}

/// A ruleset that replaces whatever was in force before.
pub(super) fn ruleset(faults: &[Fault]) -> String {
    let mut rules = String::new();
    for line in faults.iter().flat_map(|fault| fault.matches()) {
        let _ = writeln!(rules, "    {line} counter drop");
    }
    format!(
        "table bridge faults\ndelete table bridge faults\ntable bridge faults {{\n  chain forward {{\n    \
         type filter hook forward priority 0; policy accept;\n{rules}  }}\n}}\n"
    )
}
