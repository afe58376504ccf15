//! TCP streams between two namespaces, by iperf3.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use weave_netns_tests::probe::eventually;
use weave_netns_tests::topology::Namespace;

/// A running server; it ends when dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    address: Ipv4Addr,
}

/// What one run of the client measured.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) gigabits: f64,
    /// Lines of iperf3 that sum up sender and receiver.
    pub(crate) raw: String,
}

impl Server {
    pub(crate) fn start(namespace: &Namespace, address: Ipv4Addr) -> Result<Self> {
        let mut command = namespace.command("iperf3");
        let child = command.args(["-s", "-B", &address.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Self { child: child.spawn().context("cannot start iperf3")?, address };
        // A refused connection says that nobody listens yet; one that is made disturbs the server until it is closed.
        eventually(Duration::from_secs(5), "iperf3 listens", || {
            namespace.enter(|| match TcpStream::connect((address, PORT)) {
                Ok(_) => Ok(true),
                Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(false),
                Err(error) => Err(error.into()),
            })
        })?;
        Ok(server)
    }

    /// Streams from `client` to here for some seconds.
    pub(crate) fn measure(&self, client: &Namespace, streams: u32, seconds: u32) -> Result<Flow> {
        let command = command(self.address, streams, seconds);
        let output = client.run(&command)?;
        let sums = output.lines().filter(|line| line.ends_with("sender") || line.ends_with("receiver"));
        let sums: Vec<_> = sums.filter(|line| streams == 1 || line.starts_with("[SUM]")).collect();
        let received = sums.iter().find(|line| line.ends_with("receiver"));
        let megabits = received.and_then(|line| megabits(line)).with_context(|| format!("no result in {output}"))?;
        Ok(Flow { gigabits: megabits / 1e3, raw: sums.join("\n") })
    }

    /// Does `work` beside one stream of some Gbit/s that lasts for `time`.
    pub(crate) fn beside<T>(
        &self,
        client: &Namespace,
        gigabits: f64,
        time: Duration,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let line = format!("{} -b {:.0}M", command(self.address, 1, time.as_secs() as u32), gigabits * 1e3);
        thread::scope(|scope| {
            let stream = scope.spawn(|| client.run(&line));
            let done = work();
            stream.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            done
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The client's command line.
pub(crate) fn command(address: Ipv4Addr, streams: u32, seconds: u32) -> String {
    format!("iperf3 -c {address} -P {streams} -t {seconds} -i 0 -f m")
}

fn megabits(line: &str) -> Option<f64> {
    let words: Vec<_> = line.split_whitespace().collect();
    let unit = words.iter().position(|word| *word == "Mbits/sec")?;
    words.get(unit.checked_sub(1)?)?.parse().ok()
}

const PORT: u16 = 5201;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_of_a_summary_line_is_read() {
        let line = "[SUM]   0.00-5.00   sec  1.23 GBytes  2110 Mbits/sec                  receiver";

        assert_eq!(megabits(line), Some(2110.0));
        assert_eq!(megabits("iperf Done."), None);
    }
}
