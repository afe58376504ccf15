//! All rounds of one contender.

use std::fmt::Write;
use std::time::Duration;

use anyhow::Result;

use crate::contender::Contender;
use crate::datagrams::{Route, Shape, Trial, highest};
use crate::ground::SERVER;
use crate::statistics::{median, percentile};
use crate::{ping, sampling};

/// Numbers of streams.
pub(super) const STREAMS: [u32; 3] = [1, 4, 16];
/// Bytes of a small datagram.
pub(super) const SMALL_BYTES: usize = 64;
/// The share of small datagrams that may be lost.
pub(super) const SMALL_LOSS: f64 = 0.01;
/// The same of full ones: "without loss", but for one in ten thousand, which any wait for a processor costs.
pub(super) const FULL_LOSS: f64 = 1e-4;
/// IPv4 and UDP.
const HEADER_BYTES: u32 = 28;

#[derive(Debug)]
pub(super) struct Results {
    pub(super) key: &'static str,
    pub(super) name: &'static str,
    pub(super) mtu: u32,
    /// Gbit/s by number of streams.
    pub(super) tcp: [Vec<f64>; 3],
    /// Gbit/s of payload in datagrams that fill the MTU, each a message of its own, and cut by the kernel.
    pub(super) plain: Vec<f64>,
    pub(super) segmented: Vec<f64>,
    /// Small datagrams a second.
    pub(super) small: Vec<f64>,
    /// Milliseconds of round trips, at rest and at half load.
    pub(super) idle: Vec<f64>,
    pub(super) loaded: Vec<f64>,
    /// Seconds of all daemons' processor time for each gigabyte, with one stream; none without daemons.
    pub(super) cpu_per_gigabyte: Vec<f64>,
    pub(super) resident_kib: u64,
}

impl Results {
    pub(super) fn of(contender: &Contender) -> Self {
        Self {
            key: contender.way.key,
            name: contender.way.name,
            mtu: contender.mtu,
            tcp: Default::default(),
            plain: Vec::new(),
            segmented: Vec::new(),
            small: Vec::new(),
            idle: Vec::new(),
            loaded: Vec::new(),
            cpu_per_gigabyte: Vec::new(),
            resident_kib: 0,
        }
    }

    /// One round.
    pub(super) fn add(&mut self, contender: &Contender, seconds: u32, raw: &mut String) -> Result<()> {
        let one = self.add_streams(contender, seconds, raw)?;
        self.add_datagrams(contender, raw)?;
        self.add_round_trips(contender, one / 2.0, raw)
    }

    /// The rate of a single stream in Gbit/s.
    fn add_streams(&mut self, contender: &Contender, seconds: u32, raw: &mut String) -> Result<f64> {
        for (index, streams) in STREAMS.into_iter().enumerate() {
            let before = contender.processor_time()?;
            let measure = || contender.server().measure(contender.client(), streams, seconds);
            let (flow, resident_kib) = sampling::highest(&contender.pids()?, measure)?;
            let cpu = (contender.processor_time()? - before).as_secs_f64();
            writeln!(raw, "{}", flow.raw)?;
            if resident_kib > 0 {
                writeln!(raw, "daemons: {cpu:.2} s of processor time, at most {resident_kib} KiB resident")?;
            }
            if streams == 1 && resident_kib > 0 {
                self.cpu_per_gigabyte.push(cpu / (flow.gigabits * f64::from(seconds) / 8.0));
            }
            self.resident_kib = self.resident_kib.max(resident_kib);
            self.tcp[index].push(flow.gigabits);
        }
        raw.push_str(&contender.paths()?);
        Ok(*self.tcp[0].last().unwrap_or(&0.0))
    }

    fn add_datagrams(&mut self, contender: &Contender, raw: &mut String) -> Result<()> {
        let full = (self.mtu - HEADER_BYTES) as usize;
        let route = Route { from: contender.client(), to: contender.far().namespace(), address: SERVER };
        let mut carried = |what: &str, shape: Shape| {
            let trial = highest(route, shape)?;
            let said = trial.map_or_else(|| "lost too much at any rate".to_owned(), |trial| describe(&trial, shape));
            writeln!(raw, "{what}: {said}")?;
            anyhow::Ok(trial.map_or(0.0, |trial| trial.rate()))
        };
        let gigabits = |rate: f64| rate * full as f64 * 8.0 / 1e9;
        let shape = |payload, segmented, loss| Shape { payload, segmented, loss };
        self.plain.push(gigabits(carried("full datagrams", shape(full, false, FULL_LOSS))?));
        self.segmented.push(gigabits(carried("full datagrams, UDP_SEGMENT", shape(full, true, FULL_LOSS))?));
        self.small.push(carried("small datagrams", shape(SMALL_BYTES, false, SMALL_LOSS))?);
        Ok(())
    }

    fn add_round_trips(&mut self, contender: &Contender, load: f64, raw: &mut String) -> Result<()> {
        let idle = ping::round_trips(contender.client(), SERVER)?;
        let loaded = contender
            .server()
            .beside(contender.client(), load, LOAD_TIME, || ping::round_trips(contender.client(), SERVER))?;
        for (what, times) in [("idle", &idle), ("at half load", &loaded)] {
            let (p50, p99) = (median(times), percentile(times, 0.99));
            writeln!(raw, "ping {what}: p50 {p50:.3} ms, p99 {p99:.3} ms")?;
        }
        self.idle.extend(idle);
        self.loaded.extend(loaded);
        Ok(())
    }
}

/// How long the load is to last: longer than the round trips take.
const LOAD_TIME: Duration = Duration::from_secs(2);

fn describe(trial: &Trial, shape: Shape) -> String {
    let (Trial { sent, received, .. }, payload) = (trial, shape.payload);
    format!("{:.0}/s of {payload} bytes, {received} of {sent}, loss {:.3} %", trial.rate(), trial.loss() * 100.0)
}
