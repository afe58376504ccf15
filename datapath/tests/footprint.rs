//! What packets cost in memory: nothing per frame, and next to nothing for a million forged handshakes.

#[allow(dead_code, reason = "shared with tests/pair.rs, which uses all of it")]
#[path = "pair/net.rs"]
mod net;

use std::alloc::System;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use net::{A, B, MTU, Net, by_sleeve, container_mac, frame, key, underlay};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use weave_datapath::batch::{DatagramBatch, FrameBatch, Outbox};
use weave_datapath::drops::Drop;
use weave_datapath::offload::checksum;
use weave_datapath::offload::vnet::{Checksum, Gso, Header, Segmentation};
use weave_datapath::sleeve::cookie::ResponderKeys;
use weave_datapath::sleeve::packet::{Index, encode_initiation};
use weave_datapath::tables::{PeerEntry, Standing};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// The counters are the process's, so one test runs at a time.
fn alone() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

fn full_frames(count: usize) -> FrameBatch {
    let text = "x".repeat(MTU.into());
    let bytes = frame(container_mac(A), container_mac(B), &text);
    let mut frames = FrameBatch::new(count, bytes.len());
    while let Some(room) = frames.room() {
        room.copy_from_slice(&bytes);
        frames.push(bytes.len());
    }
    frames
}

fn copy(out: &Outbox, datagrams: &mut DatagramBatch) {
    datagrams.clear();
    for train in out.trains() {
        let room = datagrams.room().expect("a slot for each train");
        let mut filled = 0;
        for piece in train.pieces() {
            room[filled..filled + piece.len()].copy_from_slice(piece);
            filled += piece.len();
        }
        datagrams.push(filled, train.segment_bytes, underlay(A));
    }
}

/// Takes frames from host A to host B.
fn carry(net: &mut Net, frames: &FrameBatch, sent: &mut Outbox, datagrams: &mut DatagramBatch, received: &mut Outbox) {
    sent.clear();
    received.clear();
    net.hosts[A].engine.handle_frames(frames, net.now, sent);
    copy(sent, datagrams);
    net.hosts[B].engine.handle_datagrams(datagrams, net.now, received);
}

#[test]
fn a_frame_costs_no_allocation_at_either_end() {
    let _turn = alone();
    let mut net = by_sleeve(2, 1);
    let frames = full_frames(32);
    let mut datagrams = DatagramBatch::new(4, 70_000);
    let (mut sent, mut received) = (Outbox::new(), Outbox::new());
    let mut round = |net: &mut Net| {
        carry(net, &frames, &mut sent, &mut datagrams, &mut received);
        assert_eq!(received.deliveries(&datagrams).count(), 32);
    };
    round(&mut net);

    let mut allocations = || {
        let region = Region::new(ALLOCATOR);
        for _ in 0..100 {
            round(&mut net);
        }
        let change = region.change();
        change.allocations + change.reallocations
    };

    // The test harness has a thread too, which allocates now and then; a frame that did would do so every time.
    let fewest = (0..20).map(|_| allocations()).min();
    assert_eq!(fewest, Some(0));
}

/// A super-frame of TCP, with the sum of its pseudo-header, and what the TAP says of it.
fn super_frame() -> (Header, Vec<u8>) {
    const PAYLOAD_BYTES: usize = 60_000;
    let network = 20 + 20 + PAYLOAD_BYTES as u16;
    let mut frame = [&container_mac(B).0[..], &container_mac(A).0, &[0x08, 0x00, 0x45, 0]].concat();
    frame.extend(network.to_be_bytes());
    frame.extend([0, 7, 0x40, 0, 64, 6, 0, 0, 10, 32, 0, 1, 10, 32, 0, 2]);
    let sum = checksum::finish(&frame[14..34]);
    frame[24..26].copy_from_slice(&sum.to_be_bytes());
    frame.extend([0x9c, 0x40, 0x14, 0x51, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    frame.resize(frame.len() + PAYLOAD_BYTES, 7);
    let pseudo = checksum::add(u64::from(network) - 20 + 6, &[10, 32, 0, 1, 10, 32, 0, 2]);
    frame[50..52].copy_from_slice(&checksum::fold(pseudo).to_be_bytes());
    let segmentation = Some(Segmentation { kind: Gso::Tcp4, header_bytes: 54, size: MTU - 40 });
    (Header { checksum: Checksum::Needed { start: 34, offset: 16 }, segmentation }, frame)
}

#[test]
fn a_super_frame_costs_no_allocation_at_either_end_and_arrives_as_one() {
    let _turn = alone();
    let mut net = by_sleeve(2, 1);
    let (header, bytes) = super_frame();
    let mut frames = FrameBatch::new(4, bytes.len());
    while let Some(room) = frames.room() {
        room.copy_from_slice(&bytes);
        frames.push_offloaded(header, bytes.len());
    }
    let mut datagrams = DatagramBatch::new(256, 70_000);
    let (mut sent, mut received) = (Outbox::new(), Outbox::new());
    let mut round = |net: &mut Net| {
        carry(net, &frames, &mut sent, &mut datagrams, &mut received);
        received.deliveries(&datagrams).map(|delivery| (delivery.header, delivery.bytes)).eq([(header, bytes.len()); 4])
    };
    assert!(round(&mut net), "not what was sent");

    let mut allocations = || {
        let region = Region::new(ALLOCATOR);
        assert!((0..100).all(|_| round(&mut net)));
        let change = region.change();
        change.allocations + change.reallocations
    };

    assert_eq!((0..20).map(|_| allocations()).min(), Some(0));
}

/// First messages that a member can make, each different and from another address.
fn forge(batch: &mut DatagramBatch, responder: &ResponderKeys, serial: &mut u32) {
    batch.clear();
    while let Some(room) = batch.room() {
        *serial += 1;
        let mut message = encode_initiation(Index(*serial), &serial.to_be_bytes().repeat(30));
        responder.append_macs(&mut message, None);
        room[..message.len()].copy_from_slice(&message);
        let source = SocketAddr::from((serial.to_be_bytes(), 6783));
        batch.push(message.len(), message.len(), source);
    }
}

#[test]
fn a_million_forged_handshakes_leave_no_memory_and_a_real_peer_connects_meanwhile() {
    const FORGED: u32 = 1_000_000;
    const MEMORY_MAX: usize = 1 << 20;
    let _turn = alone();
    let mut net = by_sleeve(2, 1);
    // B knows A, but does not call first.
    let mut members = net.hosts[B].tables.peers.clone();
    members.values_mut().for_each(|peer| peer.standing = Standing::Member);
    net.publish(B, |tables| tables.peers.clear());
    let PeerEntry { noise_key, knock, .. } = net.hosts[A].tables.peers[&key(B)];
    let responder = ResponderKeys::of(&noise_key, &knock);
    let mut batch = DatagramBatch::new(256, 256);
    let (mut out, mut serial) = (Outbox::new(), 0);

    let region = Region::new(ALLOCATOR);
    while serial < FORGED {
        forge(&mut batch, &responder, &mut serial);
        net.hosts[B].engine.handle_datagrams(&mut batch, net.now, &mut out);
        out.clear();
    }
    let change = region.change();
    let kept = change.bytes_allocated.saturating_sub(change.bytes_deallocated);
    assert!(kept <= MEMORY_MAX, "{kept} bytes are kept for {FORGED} forged handshakes");
    assert!(net.hosts[B].dropped(Drop::Overloaded) > u64::from(FORGED) * 9 / 10);

    net.restart(A);
    net.publish(B, |tables| tables.peers = members);
    for _ in 0..1_000 {
        forge(&mut batch, &responder, &mut serial);
        net.hosts[B].engine.handle_datagrams(&mut batch, net.now, &mut out);
        out.clear();
        net.run_for(Duration::from_millis(1));
        if net.hosts[B].via(A, net.now).is_some() {
            break;
        }
    }
    net.say(A, B, "a real peer");
    net.run_for(Duration::from_millis(10));
    assert_eq!(net.hosts[B].texts(), ["a real peer"]);
}
