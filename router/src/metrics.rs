//! What Prometheus scrapes: one snapshot, in the OpenMetrics text format. Names and units are in `docs/status.md`.
//!
//! Invariant: no label has more values than a limit named here, however many peers there are and whatever they send.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use weave_datapath::drops::Drops;
use weave_datapath::engine::PathCounters;
use weave_datapath::linux::packet::Counters;
use weave_datapath::linux::traffic::Traffic;
use weave_mesh::ipam::Wait;

use self::process::Process;
use crate::status::{Carrier, ConnectionState, DockerPart, EndpointState, Material, Snapshot, Tallies};

mod process;

/// How the answer calls its format.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Peers that have series of their own; what sleeve carries for all others is one sum.
const PEERS_MAX: usize = 256;
/// Instead of a peer's name.
const OTHERS: &str = "others";
const ALL: &str = "all";

type Labels = Vec<(&'static str, String)>;
type Series<T> = Vec<(Labels, T)>;

/// Everything that is shown, as text. `fast_path` is what the kernel's device has carried.
///
/// # Errors
/// Never in practice: text is written to memory.
pub fn render(material: Material, docker: DockerPart, fast_path: Traffic) -> Result<String, fmt::Error> {
    let scrape = Scrape {
        sleeve: sleeve(&material),
        handshakes: material.packets.paths.iter().map(|path| path.counters.handshakes).sum(),
        relayed: material.packets.paths.iter().map(|path| path.counters.relayed).sum(),
        drops: material.packets.drops.clone(),
        counters: material.packets.counters,
        tallies: material.tallies,
        started: material.about.started.0 as f64 / 1e6,
        names: material.view.own.endpoints().map(|(_, endpoint)| endpoint.names.len() * endpoint.addresses.len()).sum(),
        pending: Pending::of(&material),
        snapshot: Snapshot::of(&material, docker),
        process: Process::now(),
        fast_path,
    };
    let mut registry = Registry::default();
    registry.register_collector(Box::new(scrape));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

/// By peer.
fn sleeve(material: &Material) -> Vec<(String, PathCounters)> {
    let mut paths = material.packets.paths.iter();
    let mut known: Vec<_> = paths.by_ref().take(PEERS_MAX).map(|path| (path.name.to_string(), path.counters)).collect();
    let sum = |sum: PathCounters, path: &PathCounters| PathCounters {
        frames_out: sum.frames_out + path.frames_out,
        bytes_out: sum.bytes_out + path.bytes_out,
        frames_in: sum.frames_in + path.frames_in,
        bytes_in: sum.bytes_in + path.bytes_in,
        ..sum
    };
    let rest = paths.map(|path| path.counters).reduce(|total, path| sum(total, &path));
    known.extend(rest.map(|rest| (OTHERS.to_owned(), rest)));
    known
}

/// Questions about addresses that cannot be answered yet.
#[derive(Clone, Copy, Debug, Default)]
struct Pending {
    allocations: usize,
    claims: usize,
}

impl Pending {
    fn of(material: &Material) -> Self {
        let waiting = material.ipam.iter().flat_map(|ipam| &ipam.pending);
        let for_containers = waiting.filter(|pending| pending.container.is_some());
        for_containers.fold(Self::default(), |sum, pending| match pending.wait {
            Wait::Unreachable(_) => Self { claims: sum.claims + 1, ..sum },
            _ => Self { allocations: sum.allocations + 1, ..sum },
        })
    }
}

#[derive(Debug)]
struct Scrape {
    snapshot: Snapshot,
    sleeve: Vec<(String, PathCounters)>,
    fast_path: Traffic,
    handshakes: u64,
    relayed: u64,
    drops: Drops,
    counters: Counters,
    tallies: Tallies,
    pending: Pending,
    /// Pairs of a name and an address that this host publishes.
    names: usize,
    /// Seconds since 1970.
    started: f64,
    process: Process,
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut page = Page(encoder);
        self.mesh(&mut page)?;
        self.data_paths(&mut page)?;
        self.host(&mut page)?;
        self.docker(&mut page)?;
        self.process(&mut page)
    }
}

impl Scrape {
    fn mesh(&self, page: &mut Page<'_>) -> fmt::Result {
        let Snapshot { connections, peers, endpoints, .. } = &self.snapshot;
        let connections = connections.iter().map(|connection| {
            let carrier = connection.carrier.map_or_else(|| "unknown".to_owned(), |carrier| carrier.to_string());
            let encryption = if connection.encrypted { "yes" } else { "" };
            vec![("state", connection.state.to_string()), ("type", carrier), ("encryption", encryption.to_owned())]
        });
        // States without a connection are shown as zero: an alarm can be set on what never was.
        let states = ConnectionState::ALL.map(|state| {
            vec![("state", state.to_string()), ("type", "unknown".to_owned()), ("encryption", String::new())]
        });
        let peers = peers.iter().map(|peer| label("state", if peer.reachable { "reachable" } else { "unreachable" }));
        let reachable = ["reachable", "unreachable"].map(|state| label("state", state));
        let endpoints = endpoints.iter().map(|endpoint| label("state", endpoint.state));
        let endpoint_states = EndpointState::ALL.map(|state| label("state", state));
        page.gauges("weave_connections", "TCP connections and attempts", counted(connections, states))?;
        page.counter("weave_connection_terminations", "TCP connections that ended", self.tallies.terminations)?;
        page.gauges("weave_peers", "Peers of the mesh, this host included", counted(peers, reachable))?;
        page.gauges("weave_endpoints", "Stations of the whole overlay", counted(endpoints, endpoint_states))?;
        self.addresses(page)?;
        page.gauge("weave_dns_entries", "Names of this host's own endpoints, each with each address", self.names)
    }

    /// Nothing where no addresses are given.
    fn addresses(&self, page: &mut Page<'_>) -> fmt::Result {
        let Some(ipam) = &self.snapshot.ipam else { return Ok(()) };
        let used = ipam.owners.iter().filter_map(|owner| owner.active).sum();
        let unreachable = || ipam.owners.iter().filter(|owner| !owner.reachable);
        let lost: u64 = unreachable().map(|owner| owner.addresses).sum();
        let used = vec![(label("state", "local-used"), used)];
        page.gauges("weave_ips", "Addresses of this host's ranges that are in use", used)?;
        page.gauge("weave_max_ips", "Addresses that the mesh has", ipam.size)?;
        page.gauge("weave_ipam_unreachable_count", "Unreachable owners of addresses", unreachable().count())?;
        let share = lost as f64 * 100.0 / ipam.size.max(1) as f64;
        page.gauge("weave_ipam_unreachable_percentage", "Their part of all addresses", share)?;
        page.gauge("weave_ipam_pending_allocates", "Addresses that are waited for", self.pending.allocations)?;
        page.gauge("weave_ipam_pending_claims", "Given addresses whose owner is waited for", self.pending.claims)
    }

    fn data_paths(&self, page: &mut Page<'_>) -> fmt::Result {
        let paths = self.snapshot.paths.iter();
        let carriers = paths.clone().map(|path| label("carrier", path.carrier));
        let sessions = paths.map(|path| label("via", session(path)));
        let by_carrier = Carrier::ALL.map(|carrier| label("carrier", carrier));
        let by_way = ["direct", "relay", "none"].map(|way| label("via", way));
        page.gauges("weave_paths", "Peers by what carries frames to them", counted(carriers, by_carrier))?;
        page.gauges("weave_sessions", "Peers by the way of their sleeve session", counted(sessions, by_way))?;
        let changes = self.tallies.carrier_changes;
        let changes = [(Carrier::Fastdp, changes.to_fastdp), (Carrier::Sleeve, changes.to_sleeve)];
        let changes = changes.map(|(carrier, count)| (label("carrier", carrier), count)).to_vec();
        page.counters("weave_carrier_changes", "Times a path moved to a carrier", changes)?;
        let (frames, bytes) = self.traffic();
        page.counters("weave_frames", "Ethernet frames carried to and from other hosts", frames)?;
        page.counters("weave_frame_bytes", "Octets of these frames", bytes)?;
        page.counter("weave_handshakes", "Sleeve handshakes that made a session", self.handshakes)?;
        page.counter("weave_relayed_packets", "Sealed packets passed on for other hosts", self.relayed)?;
        let drops = self.drops.iter().map(|(why, count)| (label("reason", snake_case(&format!("{why:?}"))), count));
        let refusals = self.counters.refusals().map(|(why, count)| (label("reason", slug(why)), count));
        page.counters("weave_drops", "Frames and datagrams that went no further", drops.chain(refusals).collect())
    }

    /// Frames and octets, by carrier, direction and peer.
    fn traffic(&self) -> (Series<u64>, Series<u64>) {
        let labels = |carrier: Carrier, direction: &str, peer: &str| {
            vec![("carrier", carrier.to_string()), ("direction", direction.to_owned()), ("peer", peer.to_owned())]
        };
        let fast = self.fast_path;
        let fast = [("out", fast.frames_out, fast.bytes_out), ("in", fast.frames_in, fast.bytes_in)]
            .map(|(direction, frames, bytes)| (labels(Carrier::Fastdp, direction, ALL), frames, bytes));
        let sleeve = self.sleeve.iter().flat_map(|(peer, path)| {
            [("out", path.frames_out, path.bytes_out), ("in", path.frames_in, path.bytes_in)]
                .map(|(direction, frames, bytes)| (labels(Carrier::Sleeve, direction, peer), frames, bytes))
        });
        let all = fast.into_iter().chain(sleeve);
        all.map(|(labels, frames, bytes)| ((labels.clone(), frames), (labels, bytes))).unzip()
    }

    fn host(&self, page: &mut Page<'_>) -> fmt::Result {
        let version = vec![(vec![("version", self.snapshot.version.to_owned())], 1_u64)];
        page.gauges("weave_build", "Release of this daemon", version)?;
        page.gauge("weave_ready", "Whether this host carries frames", usize::from(self.snapshot.ready))?;
        page.gauge("weave_warnings", "Conditions that a human should know of", self.snapshot.warnings.len())?;
        page.counter(
            "weave_kernel_repairs",
            "Steps that put back kernel state that others had changed",
            self.tallies.kernel_repairs,
        )
    }

    fn docker(&self, page: &mut Page<'_>) -> fmt::Result {
        let part = &self.snapshot.docker;
        let engine = part.engine.iter().map(|engine| {
            let labels = [("version", &engine.version), ("api", &engine.api_version)];
            (labels.map(|(name, value)| (name, value.clone())).to_vec(), 1_u64)
        });
        page.gauges("weave_docker_engine", "The engine that answers", engine.collect())?;
        page.gauge("weave_docker_waiting_starts", "Containers whose start waits here", part.waiting_starts)?;
        page.counter(
            "weave_docker_failed_starts",
            "Containers that did not get what they asked for",
            part.failed_starts,
        )
    }

    fn process(&self, page: &mut Page<'_>) -> fmt::Result {
        let Process { cpu_seconds, resident_bytes, virtual_bytes, threads, open_fds, max_fds } = self.process;
        page.counter("process_cpu_seconds", "User and system CPU time", cpu_seconds)?;
        page.gauge("process_resident_memory_bytes", "Resident memory", resident_bytes)?;
        page.gauge("process_virtual_memory_bytes", "Virtual memory", virtual_bytes)?;
        page.gauge("process_threads", "Threads", threads)?;
        page.gauge("process_open_fds", "Open file descriptors", open_fds)?;
        page.gauge("process_max_fds", "File descriptors that may be open", max_fds)?;
        page.gauge("process_start_time_seconds", "When the process started, since 1970", self.started)
    }
}

fn session(path: &crate::status::Path) -> &'static str {
    match (path.session_age_seconds, &path.relay) {
        (None, _) => "none",
        (Some(_), Some(_)) => "relay",
        (Some(_), None) => "direct",
    }
}

fn label(name: &'static str, value: impl fmt::Display) -> Labels {
    vec![(name, value.to_string())]
}

/// How often each set of labels occurs, with zero for those that must be shown.
fn counted(found: impl Iterator<Item = Labels>, shown: impl IntoIterator<Item = Labels>) -> Series<u64> {
    let mut counts: BTreeMap<Labels, u64> = shown.into_iter().map(|labels| (labels, 0)).collect();
    for labels in found {
        *counts.entry(labels).or_default() += 1;
    }
    counts.into_iter().collect()
}

/// `NoSuchStation` as `no_such_station`.
fn snake_case(name: &str) -> String {
    let mut text = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_lowercase());
    }
    text
}

/// A sentence as one word.
fn slug(sentence: &str) -> String {
    let words = sentence.split(|letter: char| !letter.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_ascii_lowercase).collect::<Vec<_>>().join("_")
}

/// The page being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn gauges(&mut self, name: &str, help: &str, series: Series<u64>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        series.iter().try_for_each(|(labels, value)| family.encode_family(labels)?.encode_gauge(value))
    }

    fn gauge(
        &mut self,
        name: &str,
        help: &str,
        value: impl prometheus_client::encoding::EncodeGaugeValue,
    ) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// The format puts `_total` behind the name.
    fn counters(&mut self, name: &str, help: &str, series: Series<u64>) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        series.iter().try_for_each(|(labels, value)| {
            family.encode_family(labels)?.encode_counter::<NoLabelSet, _, u64>(value, None)
        })
    }

    fn counter(
        &mut self,
        name: &str,
        help: &str,
        value: impl prometheus_client::encoding::EncodeCounterValue,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }
}

#[cfg(test)]
mod tests;
