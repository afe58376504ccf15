//! How far the sleeve is from what this machine could do: each stage alone, and what they add up to.
//!
//! ```text
//!   ends      iperf3 over a bare veth: both TCP stacks                                        processor time of the machine
//!   read      socket ═ UDP_SEGMENT ═► TAP ─► this thread                                              of the reading thread
//!   write     … ─► this thread ─► second TAP ═► socket with UDP_GRO                            the same, without the reading
//!   seal, open                                                                                                     micro.rs
//!   send      UDP_SEGMENT over a veth, to the receiving socket's queue                               of the sending thread
//!   receive   from there, with UDP_GRO                                                              of the receiving thread
//! ```
//!
//! A byte takes all of them once, so what the cores have divided by the sum is the bound; a stage alone has the caches to
//! itself, so it is one that nothing reaches.

use std::fmt::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use weave_datapath::linux::tap::Tap;
use weave_datapath::plan::LinkName;
use weave_datapath::sleeve::seal::Cipher;
use weave_netns_tests::topology::{Host, Topology};

use crate::contender::{Contender, WAYS};
use crate::datagrams::{self, Route, Shape};
use crate::limits::significant;
use crate::micro::{self, work};
use crate::process::{machine_time, thread_time};
use crate::programs::Programs;
use crate::progress;

const SECONDS: u32 = 2;
const TIME: Duration = Duration::from_millis(500);
/// What fills a sleeve datagram on an underlay of 1500.
const PAYLOAD_BYTES: usize = 1_400;
const FRAME_BYTES_MAX: usize = 1 << 16;
const SENDER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const RECEIVER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const RECEIVER_PORT: u16 = 9_000;
/// Of the second TAP device, so that the first one's frames are for it.
const RECEIVER_MAC: &str = "02:00:00:00:09:02";
const IDLE: Timespec = Timespec { tv_sec: 0, tv_nsec: 20_000_000 };

/// A stage and its processor time, seconds for each gigabyte.
type Stage = (&'static str, f64);

/// The section of the report.
pub(crate) fn measure() -> Result<String> {
    progress("measuring each stage of the sleeve alone");
    let cipher = Cipher::of_this_machine()[0];
    let read = pump(false)?;
    let [send, receive] = wire()?;
    let stages = [
        ("both ends, over a bare veth", ends()?),
        ("read from TAP", read),
        ("seal", micro::time(&mut work::seal(cipher, PAYLOAD_BYTES)) / PAYLOAD_BYTES as f64),
        ("send, up to the receiver's queue", send),
        ("receive", receive),
        ("open", micro::time(&mut work::open(cipher, PAYLOAD_BYTES)) / PAYLOAD_BYTES as f64),
        ("write to TAP, up to the container's queue", (pump(true)? - read).max(0.0)),
    ];
    let reached = stream("sleeve")?.0;
    render(cipher, &stages, reached)
}

fn render(cipher: Cipher, stages: &[Stage], reached: f64) -> Result<String> {
    let cores = thread::available_parallelism()?.get();
    let sum: f64 = stages.iter().map(|(_, seconds)| seconds).sum();
    let bound = cores as f64 * 8.0 / sum;
    let mut text = format!(
        "\n## The bound\n\nProcessor time of each stage alone, underlay 1500, {}, {PAYLOAD_BYTES} bytes a segment, \
         super-frames and trains of the largest size; a core by itself would do so many Gbit/s of it.\n\n\
         | stage | CPU s/GB | Gbit/s of a core |\n|---|---|---|\n",
        cipher.name()
    );
    for (stage, seconds) in stages {
        writeln!(text, "| {stage} | {seconds:.3} | {} |", significant(8.0 / seconds))?;
    }
    writeln!(text, "| all | {sum:.3} | {} |", significant(8.0 / sum))?;
    writeln!(
        text,
        "\nWith {cores} cores: at most {} Gbit/s. One TCP stream through the sleeve reached {}: {:.0} % of that.",
        significant(bound),
        significant(reached),
        reached / bound * 100.0
    )?;
    Ok(text)
}

/// Gbit/s of one TCP stream, and the machine's processor time for each gigabyte.
fn stream(key: &str) -> Result<(f64, f64)> {
    let way = WAYS.iter().find(|way| way.key == key).context("no such way")?;
    let contender: Contender = way.set_up(1_500, &Programs::default())?;
    let before = machine_time()?;
    let flow = contender.server().measure(contender.client(), 1, SECONDS)?;
    let busy = (machine_time()? - before).as_secs_f64();
    Ok((flow.gigabits, busy / (flow.gigabits * f64::from(SECONDS) / 8.0)))
}

fn ends() -> Result<f64> {
    Ok(stream("veth")?.1)
}

/// Sending and receiving between two hosts.
fn wire() -> Result<[f64; 2]> {
    let net = Topology::new()?;
    let (a, b) = net.cable()?;
    let route = Route { from: a.namespace(), to: b.namespace(), address: b.address() };
    let shape = Shape { payload: PAYLOAD_BYTES, segmented: true, loss: 1.0 };
    let trial = datagrams::trial(route, shape, None, TIME)?;
    let gigabytes = |datagrams: u64| datagrams as f64 * PAYLOAD_BYTES as f64 / 1e9;
    Ok([
        trial.sender_time.as_secs_f64() / gigabytes(trial.sent),
        trial.receiver_time.as_secs_f64() / gigabytes(trial.received),
    ])
}

/// Reads what a socket sends into a TAP device, and writes it to another one or drops it. Of this thread.
fn pump(writes: bool) -> Result<f64> {
    let net = Topology::new()?;
    let (a, b) = net.cable()?;
    let (from, to) = (tap(&a, SENDER)?, tap(&b, RECEIVER)?);
    a.namespace().run(&format!("ip neigh add {RECEIVER} lladdr {RECEIVER_MAC} dev tap0 nud permanent"))?;
    b.namespace().run(&format!("ip link set tap0 address {RECEIVER_MAC}"))?;
    let receiver = b.namespace().enter(|| Ok(UdpSocket::bind((RECEIVER, RECEIVER_PORT))?))?;
    let sender = a.namespace().enter(|| datagrams::dial((RECEIVER, RECEIVER_PORT).into()))?;
    // Headers of IPv4 and UDP are in the frame's MTU.
    let shape = Shape { payload: PAYLOAD_BYTES, segmented: true, loss: 1.0 };
    datagrams::prepare(&sender, &receiver, shape)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let sent = datagrams::send(&sender, shape, None, TIME);
            over.store(true, Ordering::Release);
            sent
        });
        let receiving = scope.spawn(|| datagrams::receive(&receiver, shape, &over));
        let before = thread_time();
        let bytes = carry(&from, writes.then_some(&to), &over)?;
        let used = (thread_time() - before).as_secs_f64();
        sending.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        receiving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(used / (bytes as f64 / 1e9))
    })
}

/// How many bytes were read until the sender is done.
fn carry(from: &Tap, to: Option<&Tap>, over: &AtomicBool) -> Result<u64> {
    let (mut buffer, mut bytes) = (vec![0; FRAME_BYTES_MAX + 64], 0);
    while !over.load(Ordering::Acquire) {
        poll(&mut [PollFd::new(from, PollFlags::IN)], Some(&IDLE))?;
        while let Some((header, length)) = from.receive(&mut buffer)? {
            bytes += length as u64;
            if let Some(to) = to {
                to.send(header, &buffer[..length])?;
            }
        }
    }
    Ok(bytes)
}

fn tap(host: &Host, address: Ipv4Addr) -> Result<Tap> {
    let name: LinkName = "tap0".parse()?;
    let tap = host.namespace().enter(|| Ok(Tap::open(&name)?))?;
    host.namespace().run(&format!("ip addr add {address}/24 dev tap0"))?;
    host.namespace().run("ip link set tap0 up")?;
    Ok(tap)
}
