use std::net::UdpSocket;
use std::process::Command;
use std::sync::mpsc;
use std::time::Duration;

use super::*;
use crate::probe::eventually;
use crate::topology::{Host, Topology};

const DEADLINE: Duration = Duration::from_secs(5);
const PORT: u16 = 7_000;
const DATAGRAM: usize = 1_000;

/// A socket on a host, connected to the other.
fn socket(host: &Host, peer: &Host) -> Result<UdpSocket> {
    let (own, other) = (host.address(), peer.address());
    host.namespace().enter(|| {
        let socket = UdpSocket::bind((own, PORT))?;
        socket.connect((other, PORT))?;
        socket.set_nonblocking(true)?;
        Ok(socket)
    })
}

/// Sends eight numbered datagrams, in one segmented call or one by one.
fn send(socket: &UdpSocket, segmented: bool) -> Result<()> {
    let datagrams: Vec<Vec<u8>> = (0..8).map(|number| vec![number; DATAGRAM]).collect();
    nix::sys::socket::setsockopt(
        socket,
        nix::sys::socket::sockopt::UdpGsoSegment,
        &if segmented { DATAGRAM as i32 } else { 0 },
    )?;
    if segmented {
        socket.send(&datagrams.concat())?;
    } else {
        for datagram in &datagrams {
            socket.send(datagram)?;
        }
    }
    Ok(())
}

/// The numbers of what has arrived, after `expected` of them or a while.
fn received(socket: &UdpSocket, expected: usize) -> Vec<u8> {
    let (mut numbers, mut buffer) = (Vec::new(), [0; 2_000]);
    let _ = eventually(if expected == 0 { Duration::from_millis(200) } else { DEADLINE }, "datagrams arrive", || {
        while let Ok(length) = socket.recv(&mut buffer) {
            assert_eq!(length, DATAGRAM);
            numbers.push(buffer[0]);
        }
        Ok(expected > 0 && numbers.len() >= expected)
    });
    numbers
}

/// What arrives of a plain and of a segmented send under these faults.
fn carried(faults: Faults, plain: usize, segmented: usize) -> Result<[Vec<u8>; 2]> {
    let net = Topology::new()?;
    let (a, b, wire) = net.bad_wire(7)?;
    let (from, to) = (socket(&a, &b)?, socket(&b, &a)?);
    eventually(DEADLINE, "the wire carries", || {
        Ok(a.namespace().run(&format!("ping -c1 -W1 {}", b.address())).is_ok())
    })?;
    wire.set_all_faults(faults);

    send(&from, false)?;
    let plain = received(&to, plain);
    let before = wire.counts(Heading::There).segmented;
    send(&from, true)?;
    let segmented = received(&to, segmented);

    assert_eq!(wire.counts(Heading::There).segmented - before, 1, "the kernel segmented before the device");
    Ok([plain, segmented])
}

const ALL: [u8; 8] = [0, 1, 2, 3, 4, 5, 6, 7];

#[test]
fn a_good_wire_carries_both_kinds() -> Result<()> {
    assert_eq!(carried(Faults::default(), 8, 8)?, [ALL.to_vec(), ALL.to_vec()]);
    Ok(())
}

#[test]
fn faults_of_segmented_sends_spare_plain_ones() -> Result<()> {
    let lost: &[u8] = &[];
    for (fault, arrives) in [
        (Segmented::Dropped(100.0), lost),
        (Segmented::WrongChecksum, lost),
        (Segmented::EqualTailLost, &ALL[..7]),
        (Segmented::Reversed, &[7, 6, 5, 4, 3, 2, 1, 0]),
    ] {
        let [plain, segmented] = carried(Faults::segmented(fault), 8, arrives.len())?;
        assert_eq!((plain, &segmented[..]), (ALL.to_vec(), arrives), "{fault:?}");
    }
    Ok(())
}

#[test]
fn a_wire_that_doubles_everything_delivers_it_twice() -> Result<()> {
    let [plain, segmented] = carried(Faults { duplicate_percent: 100.0, ..Faults::default() }, 16, 16)?;

    assert_eq!((plain.len(), segmented.len()), (16, 16));
    Ok(())
}

#[test]
fn a_bottleneck_with_a_short_queue_loses_what_does_not_fit() -> Result<()> {
    let bottleneck = Some(Bottleneck { rate: 10_000, queue: 3_000 });
    let [plain, _] = carried(Faults { bottleneck, ..Faults::default() }, 3, 0)?;

    assert_eq!(plain, ALL[..3]);
    Ok(())
}

#[test]
fn a_wire_ends_while_a_program_that_started_beside_it_runs_on() -> Result<()> {
    let net = Topology::new()?;
    let (_a, _b, wire) = net.bad_wire(1)?;
    let mut program = Command::new("sleep").arg("60").spawn()?;
    let (done, ended) = mpsc::channel();

    std::thread::spawn(move || {
        drop(wire);
        done.send(())
    });
    let ended = ended.recv_timeout(DEADLINE);

    program.kill()?;
    program.wait()?;
    assert_eq!(ended, Ok(()), "the wire's thread waits for the program");
    Ok(())
}
