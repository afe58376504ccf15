//! The fuzz targets on the stable toolchain: valid samples, random bytes, and random mutations of both.

#[path = "../fuzz/targets.rs"]
mod targets;

#[path = "../../mesh/fuzz/mutation.rs"]
mod mutation;

use rand_chacha::ChaCha20Rng;
use rand_core::SeedableRng;
use targets::Host;
use weave_datapath::heartbeat::{HEARTBEAT_BYTES, Heartbeat, Kind};
use weave_datapath::offload::vnet::{Checksum, Gso, Header, Segmentation};
use weave_datapath::sleeve::canary::Stretch;
use weave_datapath::sleeve::canary::question::{Fate, Question, Report};
use weave_datapath::sleeve::handshake::Asked;
use weave_datapath::sleeve::packet::{DataHeader, Index, Payload, encode_cookie};
use weave_datapath::sleeve::relay::{Envelope, RelayId};
use weave_mesh::name::{MacAddr, MeshId};

/// Mutated inputs for each target; those with arithmetic on the curve take fewer.
const MUTATIONS: usize = 20_000;
const MUTATIONS_OF_HANDSHAKES: usize = 200;
/// Longer than any datagram of ours.
const BYTES_MAX: usize = 10_000;
const SEED: u64 = 7;

fn heartbeat() -> Vec<u8> {
    let mut frame = vec![0; HEARTBEAT_BYTES];
    let (destination, source) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
    let mesh = MeshId::of("weave");
    Heartbeat { destination, source, kind: Kind::Probe, mesh, receiver: Index(0), nonce: 1 }
        .encode(&[1; 32], &mut frame);
    frame
}

fn envelope(packet: &[u8]) -> Vec<u8> {
    let envelope = Envelope { hops_left: 8, source: RelayId([1; 7]), destination: RelayId([2; 7]) };
    [&envelope.encode()[..], packet].concat()
}

fn frame(source: u8, destination: u8) -> Vec<u8> {
    [&[2, 0, 0, 0, 1, destination, 2, 0, 0, 0, 1, source, 0x08, 0x00, 0x45][..], &[0; 40]].concat()
}

/// A TCP frame with 40 octets of payload.
fn tcp(source: u8, destination: u8) -> Vec<u8> {
    let mut frame = frame(source, destination);
    frame.truncate(14);
    frame.extend([0x45, 0, 0, 80, 0, 7, 0x40, 0, 64, 6, 0x25, 0x9d, 10, 32, 0, 1, 10, 32, 0, 2]);
    frame.extend([0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0x14, 0x7e, 0, 0]);
    frame.extend([1; 40]);
    frame
}

/// The header of the TAP in front of a super-frame: TCP over IPv4, in segments of 16 octets.
fn super_frame() -> Vec<u8> {
    let checksum = Checksum::Needed { start: 34, offset: 16 };
    let segmentation = Some(Segmentation { kind: Gso::Tcp4, header_bytes: 54, size: 16 });
    [&Header { checksum, segmentation }.encode()[..], &tcp(1, 2)].concat()
}

/// Valid inputs for a target, to mutate.
fn samples(target: &str) -> Vec<Vec<u8>> {
    let (asking, asked) = (Host::new(1), Host::new(2));
    let (_, initiation) = asking.initiation(&asked);
    let noise = initiation[8..initiation.len() - 32].to_vec();
    let data = DataHeader { payload: Payload::Frame, receiver: Index(0), counter: 1 }.encode().to_vec();
    match target {
        "envelope" => vec![envelope(&initiation)],
        "heartbeat" => vec![heartbeat()],
        "offload" => vec![super_frame()],
        "ethernet" => vec![frame(1, 2)],
        "initiation" => vec![Host::new(2).initiation(&Host::new(1)).1[8..].to_vec()],
        "response" => {
            let asked_by = Asked::read(asked.hands(), &noise, &mut ChaCha20Rng::seed_from_u64(SEED)).expect("genuine");
            vec![asked_by.answer(asked.hands(), &[0; 32]).expect("a common cipher").0]
        }
        "member" => {
            let stretches = vec![Stretch { first: 0, count: 8, has_equal_tail: false }; 3];
            let question = Question { id: 1, stretches }.encode();
            let report = Report { id: 1, fates: vec![Fate { arrived: 0xff, late: 1 }; 3] }.encode();
            let probes = [vec![0; 8], vec![0; 8], vec![0; 600], vec![0; 10]];
            let kinds = [&[frame(2, 1), envelope(&initiation)][..], &probes, &[question, report, tcp(2, 1)]].concat();
            kinds.iter().enumerate().map(|(kind, payload)| [&[kind as u8][..], payload].concat()).collect()
        }
        _ => vec![initiation, data, encode_cookie(Index(7), &[1; 24], &[2; 32]).to_vec(), heartbeat(), frame(1, 2)],
    }
}

#[test]
fn no_input_makes_a_decoder_panic() {
    for (name, _) in targets::TARGETS {
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        let seeds = [samples(name), vec![Vec::new()]].concat();
        let is_slow = matches!(name, "initiation" | "response");
        let count = if is_slow { MUTATIONS_OF_HANDSHAKES } else { MUTATIONS };
        mutation::run_all(&seeds, count, BYTES_MAX, &mut rng, |bytes| targets::run(name, bytes));
    }
}
