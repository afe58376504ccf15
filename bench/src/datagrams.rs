//! UDP from one container to another: how many datagrams a second get through.
//!
//! ```text
//!   flood: as fast as the sender can ──► what arrived ──► trials at paced rates, halving the gap between the highest
//!                                                         rate that lost too little to mind and the lowest that lost more
//! ```
//!
//! iperf3 makes a system call per datagram, which alone is more than the fastest ways take. Here a call hands over a batch,
//! and, when segmented, each of its messages is cut by the kernel (`UDP_SEGMENT`, Linux 4.18) as QUIC stacks have it done.
//! A trial's rate is what arrived, divided by the time until the last of it: what a queue held back is not counted as
//! carried in time.

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{RcvBufForce, UdpGroSegment, UdpGsoSegment};
use weave_netns_tests::topology::Namespace;

use self::batch::{Receiver, Sender};
use crate::process::thread_time;

mod batch;

/// What is sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Bytes of one datagram.
    pub(crate) payload: usize,
    /// Whether the kernel cuts datagrams out of larger sends, and joins them again for the receiver.
    pub(crate) segmented: bool,
    /// The share of datagrams that may be lost.
    pub(crate) loss: f64,
}

/// Where from and where to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Route<'a> {
    pub(crate) from: &'a Namespace,
    pub(crate) to: &'a Namespace,
    pub(crate) address: Ipv4Addr,
}

/// What became of one trial.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trial {
    pub(crate) sent: u64,
    pub(crate) received: u64,
    /// Spent sending.
    sending: Duration,
    /// From the first sent to the last received.
    elapsed: Duration,
    /// Processor time of the two threads, what the kernel did on them included.
    pub(crate) sender_time: Duration,
    pub(crate) receiver_time: Duration,
}

const TRIAL: Duration = Duration::from_millis(250);
const TRIALS: usize = 6;
/// How long nothing may arrive until a trial is over.
const SILENCE: Duration = Duration::from_millis(50);
/// Between two batches of a paced trial.
const TICK: Duration = Duration::from_micros(500);
/// A sender that was kept from its processor for longer than this does not catch up all of it.
const CATCH_UP: Duration = Duration::from_millis(2);
/// Of the receiver, so that a wait for its processor loses nothing.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

impl Trial {
    /// Datagrams a second that arrived.
    pub(crate) fn rate(&self) -> f64 {
        self.received as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    fn offered(&self) -> f64 {
        self.sent as f64 / self.sending.as_secs_f64().max(1e-9)
    }

    pub(crate) fn loss(&self) -> f64 {
        1.0 - self.received as f64 / self.sent.max(1) as f64
    }
}

/// The trial with the highest rate among those that lost little enough; `None` when each lost more.
pub(crate) fn highest(route: Route<'_>, shape: Shape) -> Result<Option<Trial>> {
    let flood = trial(route, shape, None, TRIAL)?;
    if flood.loss() <= shape.loss {
        return Ok(Some(flood));
    }
    let mut search = Search { low: None, high: flood.offered() };
    let mut best: Option<Trial> = None;
    let mut rate = flood.rate();
    for _ in 0..TRIALS {
        let trial = trial(route, shape, Some(rate), TRIAL)?;
        let held = trial.loss() <= shape.loss;
        if held && best.is_none_or(|best| best.rate() < trial.rate()) {
            best = Some(trial);
        }
        rate = search.next(rate, held);
    }
    Ok(best)
}

/// Closes in on a rate.
#[derive(Debug)]
struct Search {
    low: Option<f64>,
    high: f64,
}

impl Search {
    /// What to try after `rate`, which was carried or not. Floods tell little, so steps up are small.
    fn next(&mut self, rate: f64, held: bool) -> f64 {
        if held {
            self.low = Some(self.low.map_or(rate, |low| low.max(rate)));
        } else {
            self.high = self.high.min(rate);
        }
        match self.low {
            Some(low) => (low * self.high).sqrt().min(low * 1.4),
            None => self.high * 0.7,
        }
    }
}

/// Sends for some time, at a rate or as fast as it goes.
pub(crate) fn trial(route: Route<'_>, shape: Shape, rate: Option<f64>, time: Duration) -> Result<Trial> {
    let receiver = route.to.enter(|| Ok(UdpSocket::bind((route.address, 0))?))?;
    let sender = route.from.enter(|| dial(receiver.local_addr()?))?;
    prepare(&sender, &receiver, shape)?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let receiving = scope.spawn(|| receive(&receiver, shape, &over).map(|arrived| (arrived, thread_time())));
        let (begin, before) = (Instant::now(), thread_time());
        let sent = send(&sender, shape, rate, time);
        let (sending, sender_time) = (begin.elapsed(), thread_time() - before);
        over.store(true, Ordering::Release);
        let joined = receiving.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let ((received, last), receiver_time) = joined?;
        let elapsed = last.map_or(sending, |last| last.duration_since(begin).max(sending));
        Ok(Trial { sent: sent?, received, sending, elapsed, sender_time, receiver_time })
    })
}

/// A socket in the calling thread's namespace that sends to an address.
pub(crate) fn dial(address: SocketAddr) -> Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.connect(address)?;
    Ok(socket)
}

/// Readies both ends for a shape.
pub(crate) fn prepare(sender: &UdpSocket, receiver: &UdpSocket, shape: Shape) -> Result<()> {
    setsockopt(receiver, RcvBufForce, &RECEIVE_BUFFER_BYTES)?;
    setsockopt(receiver, UdpGroSegment, &shape.segmented)?;
    receiver.set_read_timeout(Some(SILENCE))?;
    if shape.segmented {
        setsockopt(sender, UdpGsoSegment, &i32::try_from(shape.payload)?).context("no UDP_SEGMENT")?;
    }
    Ok(())
}

/// How many datagrams were handed over.
pub(crate) fn send(socket: &UdpSocket, shape: Shape, rate: Option<f64>, time: Duration) -> Result<u64> {
    let mut sender = Sender::new(socket, shape);
    let begin = Instant::now();
    // Moves forward when time was lost that is not to be caught up.
    let mut origin = begin;
    let mut counted = 0;
    while begin.elapsed() < time {
        let Some(rate) = rate else {
            sender.send(usize::MAX)?;
            continue;
        };
        let behind = origin.elapsed().as_secs_f64() * rate - counted as f64;
        // What leaves at once must have room to gather.
        let slack = CATCH_UP.as_secs_f64().max(2.0 * sender.least() as f64 / rate);
        let excess = behind / rate - slack;
        if excess > 0.0 {
            origin += Duration::from_secs_f64(excess);
        }
        match sender.send(behind.max(0.0) as usize)? {
            0 => thread::sleep(TICK),
            sent => counted += sent,
        }
    }
    Ok(sender.sent())
}

/// How many arrived until nothing more did, and when the last one did.
pub(crate) fn receive(socket: &UdpSocket, shape: Shape, over: &AtomicBool) -> Result<(u64, Option<Instant>)> {
    let mut receiver = Receiver::new(socket, shape);
    let (mut received, mut last) = (0, None);
    loop {
        let is_over = over.load(Ordering::Acquire);
        match receiver.receive()? {
            0 if is_over => return Ok((received, last)),
            0 => {}
            count => {
                received += count;
                last = Some(Instant::now());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use weave_netns_tests::topology::Topology;

    use super::*;

    #[test]
    fn a_search_closes_in_on_what_a_path_carries() {
        let mut search = Search { low: None, high: 1e6 };
        let mut rate = 4e5;

        for _ in 0..12 {
            rate = search.next(rate, rate <= 1e5);
        }

        assert!((9e4..1.1e5).contains(&rate), "{rate}");
    }

    #[test]
    fn a_paced_trial_stays_below_its_rate_and_counts_all_that_arrives() -> Result<()> {
        let net = Topology::new()?;
        let (a, b) = net.cable()?;
        let route = Route { from: a.namespace(), to: b.namespace(), address: b.address() };

        for segmented in [false, true] {
            let shape = Shape { payload: 1000, segmented, loss: 0.0 };
            let trial = trial(route, shape, Some(20_000.0), Duration::from_millis(200))?;

            assert_eq!(trial.received, trial.sent, "{shape:?}");
            assert!((1..=4_100).contains(&trial.sent), "{trial:?}");
        }
        Ok(())
    }
}
