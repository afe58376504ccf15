//! Names: how many questions a second the DNS server answers, at what cost, and how soon another host knows a name.
//!
//! ```text
//!   host 1: daemon ── 127.0.0.1:5300 ◄── dnsperf          10, 1,000 and 10,000 names of the same daemon
//!   host 2: daemon ── 127.0.0.1:5300 ◄── one question after the other, until a name that host 1 registers is there
//! ```

use std::fmt::Write;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use weave_netns_tests::scene::Scene;
use weave_netns_tests::weave::Launch;

use self::perf::Load;
use crate::control::Session;
use crate::limits::Bound::{AtLeast, AtMost};
use crate::limits::{self, Limit};
use crate::process::memory_kib;
use crate::progress;
use crate::statistics::{median, percentile};

mod perf;

const COUNTS: [usize; 3] = [10, 1_000, 10_000];
const SERVER: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5300);
/// Of names registered on one host and asked for on another.
const CROSSINGS: usize = 20;
const CROSSING_TIMEOUT: Duration = Duration::from_secs(5);

/// The section of the report.
pub(crate) fn measure() -> Result<String> {
    let launch = Launch::new().argument("--dns-listen-address").argument(&SERVER.to_string());
    let scene = Scene::new(2, &launch)?;
    scene.wait_known()?;
    let crossings = cross(&scene)?;
    let pid = scene.weaves[0].pid().context("the daemon ended")?;
    let (mut loads, mut registrations, mut resident, mut registered) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for count in COUNTS {
        progress(&format!("registering {count} names"));
        let begin = Instant::now();
        register(&scene, registered..count)?;
        registrations.push(begin.elapsed().as_secs_f64() * 1e3 / (count - registered) as f64);
        registered = count;
        progress(&format!("asking for {count} names"));
        loads.push(perf::load(
            scene.hosts[0].namespace(),
            pid,
            SERVER,
            &scene.hosts[0].directory().join("names"),
            count,
        )?);
        resident.push(memory_kib(pid, "VmRSS")?);
    }
    let grown = resident.last().zip(resident.first()).map_or(0, |(last, first)| last.saturating_sub(*first));
    let mebibytes = grown as f64 / 1024.0;
    render(&loads, &registrations, &crossings, mebibytes)
}

fn render(loads: &[Load], registrations: &[f64], crossings: &[f64], mebibytes: f64) -> Result<String> {
    let mut text = format!(
        "\n## Names\n\n`{}` on the daemon's host, names of the daemon's own; CPU of the daemon. At half load: `-Q` with half \
         the rate just measured.\n\n\
         | names | ms a registration | queries per second | CPU us/query | at half load p50 ms | p99 ms |\n|---|---|---|---|---|---|\n",
        perf::command(SERVER, "NAMES")
    );
    for (Load { names, per_second, cpu_micros, half }, registration) in loads.iter().zip(registrations) {
        let (p50, p99) = (median(half), percentile(half, 0.99));
        writeln!(text, "| {names} | {registration:.1} | {per_second:.0} | {cpu_micros:.1} | {p50:.3} | {p99:.3} |")?;
    }
    let (p50, most) = (median(crossings), percentile(crossings, 1.0));
    writeln!(
        text,
        "\nFrom registration on one host to the answer on another, {CROSSINGS} times: median {p50:.1} ms, at most {most:.1} \
         ms. The daemon grew by {mebibytes:.1} MiB from {} names to {}.",
        COUNTS[0],
        COUNTS[COUNTS.len() - 1]
    )?;
    Ok(text + &limits::table(&held(loads, most, mebibytes)))
}

fn held(loads: &[Load], crossing: f64, mebibytes: f64) -> Vec<Limit> {
    let of = |names: &usize| loads.iter().find(move |load| load.names == *names);
    let flat = of(&COUNTS[2]).zip(of(&COUNTS[0])).map(|(many, few)| many.per_second / few.per_second);
    let mut limits = Vec::new();
    for load in loads {
        let names = load.names;
        limits.push(Limit::new(format!("{names} names"), AtLeast(45_000.0), "queries/s", Some(load.per_second)));
        limits.push(Limit::new(format!("{names} names, CPU"), AtMost(25.0), "us/query", Some(load.cpu_micros)));
        let p99 = percentile(&load.half, 0.99);
        limits.push(Limit::new(format!("{names} names, p99 at half load"), AtMost(2.0), "ms", Some(p99)));
    }
    limits.push(Limit::new("rate with 10,000 names of that with 10", AtLeast(0.9), "", flat));
    limits.push(Limit::new("answered on another host, at most", AtMost(100.0), "ms", Some(crossing)));
    limits.push(Limit::new("10,000 names", AtMost(20.0), "MiB", Some(mebibytes)));
    limits
}

/// Names with these numbers, each with an address of its own, on the first host.
fn register(scene: &Scene, numbers: std::ops::Range<usize>) -> Result<()> {
    let mut session = Session::open(&scene.weaves[0])?;
    for number in numbers {
        let address = Ipv4Addr::from_bits(Ipv4Addr::new(10, 40, 0, 0).to_bits() + u32::try_from(number)?);
        session.ask("PUT", &format!("/name/weave:extern/{address}?fqdn={}", perf::name(number)))?;
    }
    Ok(())
}

/// Milliseconds from the answer to a registration on the first host until the second answers a question for it.
fn cross(scene: &Scene) -> Result<Vec<f64>> {
    progress("registering names on one host, asking another");
    let mut session = Session::open(&scene.weaves[0])?;
    let socket = scene.hosts[1].namespace().enter(|| Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?))?;
    socket.connect(SERVER)?;
    socket.set_read_timeout(Some(Duration::from_secs(1)))?;
    let crossing = |number| {
        let begin = Instant::now();
        session.ask("PUT", &format!("/name/weave:extern/10.41.0.{number}?fqdn=crossing{number}.weave.local"))?;
        while !is_answered(&socket, &format!("crossing{number}.weave.local"))? {
            ensure!(begin.elapsed() < CROSSING_TIMEOUT, "not answered on another host in {CROSSING_TIMEOUT:?}");
        }
        Ok(begin.elapsed().as_secs_f64() * 1e3)
    };
    (1..=CROSSINGS).map(crossing).collect()
}

/// Whether a question for the name's address gets one.
fn is_answered(socket: &UdpSocket, name: &str) -> Result<bool> {
    socket.send(&question(name))?;
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer)?;
    ensure!(length >= 12, "an answer of {length} bytes");
    let (code, answers) = (answer[3] & 0x0f, u16::from_be_bytes([answer[6], answer[7]]));
    Ok(code == 0 && answers > 0)
}

/// RFC 1035, section 4.1: header, and one question of type A and class IN.
fn question(name: &str) -> Vec<u8> {
    let mut octets = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        octets.push(label.len() as u8);
        octets.extend_from_slice(label.as_bytes());
    }
    octets.extend_from_slice(&[0, 0, 1, 0, 1]);
    octets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_has_a_label_for_each_part_of_the_name() {
        assert_eq!(question("a.bc")[12..], [1, b'a', 2, b'b', b'c', 0, 0, 1, 0, 1]);
    }
}
