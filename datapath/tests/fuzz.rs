//! The fuzz targets on the stable toolchain: valid samples, random bytes, and random mutations of both.

#[path = "../fuzz/targets.rs"]
mod targets;

use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use targets::Host;
use weave_datapath::heartbeat::{HEARTBEAT_BYTES, Heartbeat, Kind};
use weave_datapath::sleeve::handshake::Asked;
use weave_datapath::sleeve::packet::{DataHeader, Index, Payload, encode_cookie};
use weave_datapath::sleeve::relay::{Envelope, RelayId};
use weave_mesh::name::{MacAddr, MeshId};

/// Mutated inputs for each target; those with arithmetic on the curve take fewer.
const MUTATIONS: usize = 20_000;
const MUTATIONS_OF_HANDSHAKES: usize = 200;
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

/// Valid inputs for a target, to mutate.
fn samples(target: &str) -> Vec<Vec<u8>> {
    let (asking, asked) = (Host::new(1), Host::new(2));
    let (_, initiation) = asking.initiation(&asked);
    let noise = initiation[8..initiation.len() - 32].to_vec();
    let data = DataHeader { payload: Payload::Frame, receiver: Index(0), counter: 1 }.encode().to_vec();
    match target {
        "envelope" => vec![envelope(&initiation)],
        "heartbeat" => vec![heartbeat()],
        "ethernet" => vec![frame(1, 2)],
        "initiation" => vec![Host::new(2).initiation(&Host::new(1)).1[8..].to_vec()],
        "response" => {
            let asked_by = Asked::read(asked.hands(), &noise, &mut ChaCha20Rng::seed_from_u64(SEED)).expect("genuine");
            vec![asked_by.answer(asked.hands(), &[0; 32]).expect("a common cipher").0]
        }
        "member" => {
            let kinds = [frame(2, 1), envelope(&initiation), vec![0; 8], vec![0; 8]];
            kinds.iter().enumerate().map(|(kind, payload)| [&[kind as u8][..], payload].concat()).collect()
        }
        _ => vec![initiation, data, encode_cookie(Index(7), &[1; 24], &[2; 32]).to_vec(), heartbeat(), frame(1, 2)],
    }
}

/// Flips, cuts, doubles, inserts or replaces something.
fn mutate(bytes: &mut Vec<u8>, rng: &mut ChaCha20Rng) {
    let mut below = |limit: usize| (rng.next_u64() % limit.max(1) as u64) as usize;
    let (at, value) = (below(bytes.len()), below(256) as u8);
    match below(6) {
        _ if bytes.is_empty() => bytes.push(value),
        0 => bytes[at] ^= 1 << (value % 8),
        1 => bytes[at] = value,
        2 => bytes.truncate(at),
        3 => bytes.insert(at, value),
        4 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][below(5)],
        _ => bytes.extend_from_within(at..),
    }
    bytes.truncate(10_000);
}

#[test]
fn no_input_makes_a_decoder_panic() {
    for (name, _) in targets::TARGETS {
        let mut rng = ChaCha20Rng::seed_from_u64(SEED);
        let seeds = [samples(name), vec![Vec::new()]].concat();
        seeds.iter().for_each(|seed| targets::run(name, seed));
        let is_slow = matches!(name, "initiation" | "response");
        for _ in 0..if is_slow { MUTATIONS_OF_HANDSHAKES } else { MUTATIONS } {
            let mut bytes = seeds[(rng.next_u64() % seeds.len() as u64) as usize].clone();
            for _ in 0..=rng.next_u32() % 4 {
                mutate(&mut bytes, &mut rng);
            }
            targets::run(name, &bytes);
        }
    }
}
