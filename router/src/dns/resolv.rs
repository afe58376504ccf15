//! The upstream servers in a resolv.conf (resolv.conf(5)).

use std::net::{IpAddr, SocketAddr};

/// How many servers are asked at most, as in the C library.
pub const SERVERS_MAX: usize = 3;
/// The longest file that is read.
pub const FILE_BYTES_MAX: usize = 64 * 1024;

const PORT: u16 = 53;

/// The servers that `text` names, in its order, without those at which we listen ourselves. A line that is none is
/// ignored, as everybody does.
pub fn servers(text: &str, own: impl Fn(IpAddr) -> bool) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for address in text.lines().filter_map(address).filter(|address| !own(*address)) {
        let server = SocketAddr::new(address, PORT);
        if servers.len() < SERVERS_MAX && !servers.contains(&server) {
            servers.push(server);
        }
    }
    servers
}

fn address(line: &str) -> Option<IpAddr> {
    let mut words = line.split_ascii_whitespace();
    let keyword = words.next()?;
    if keyword == "nameserver" { words.next()?.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Vec<String> {
        let own = |address: IpAddr| address == IpAddr::from([172, 17, 0, 1]);
        servers(text, own).iter().map(|server| server.ip().to_string()).collect()
    }

    #[test]
    fn servers_are_asked_in_the_order_of_the_file() {
        let text =
            "# by hand\nsearch example.com\nnameserver 192.0.2.1\n nameserver\t192.0.2.2 # second\noptions edns0\n";

        assert_eq!(parsed(text), ["192.0.2.1", "192.0.2.2"]);
    }

    #[test]
    fn we_do_not_ask_ourselves_nor_anybody_twice_nor_more_than_three() {
        let text = "nameserver 172.17.0.1\nnameserver 1.1.1.1\nnameserver 1.1.1.1\nnameserver ::1\nnameserver 2.2.2.2\nnameserver 3.3.3.3";

        assert_eq!(parsed(text), ["1.1.1.1", "::1", "2.2.2.2"]);
    }

    #[test]
    fn lines_that_name_no_server_are_ignored() {
        assert!(parsed("nameserver\nnameserver x\nnameservers 1.1.1.1\n;nameserver 1.1.1.1\n\u{0}").is_empty());
    }
}
