//! Round trips of many echo requests, one at a time.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use weave_netns_tests::topology::Namespace;

/// Milliseconds of every answered request.
pub(crate) fn round_trips(from: &Namespace, to: Ipv4Addr) -> Result<Vec<f64>> {
    let output = from.run(&command(to))?;
    let times: Vec<_> = output.lines().filter_map(milliseconds).collect();
    ensure!(times.len() >= SAMPLES * 9 / 10, "only {} of {SAMPLES} echo requests were answered", times.len());
    Ok(times)
}

/// The command line.
pub(crate) fn command(to: Ipv4Addr) -> String {
    format!("ping -n -i 0.002 -c {SAMPLES} {to}")
}

fn milliseconds(line: &str) -> Option<f64> {
    line.split_once("time=")?.1.split_whitespace().next()?.parse().ok()
}

const SAMPLES: usize = 500;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_an_answer_is_read() {
        let line = "64 bytes from 10.32.0.2: icmp_seq=7 ttl=64 time=0.043 ms";

        assert_eq!(milliseconds(line), Some(0.043));
        assert_eq!(milliseconds("--- 10.32.0.2 ping statistics ---"), None);
    }
}
