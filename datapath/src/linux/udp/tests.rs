//! Sockets on the loopback interface.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;
use crate::batch::{Outbox, Refusal, SendMode, TRAIN_DATAGRAMS_MAX};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn address_of(socket: &UdpSocket) -> SocketAddr {
    socket.socket.local_addr().unwrap().as_socket().unwrap()
}

/// What to send: destination, mode and payload of each datagram.
fn outbox(datagrams: &[(SocketAddr, SendMode, &[u8])]) -> Outbox {
    let mut out = Outbox::new();
    for (destination, mode, bytes) in datagrams {
        out.datagram(*destination, *mode, bytes.len()).unwrap().copy_from_slice(bytes);
    }
    out
}

fn send(socket: &UdpSocket, out: &Outbox) -> (SendOutcome, Vec<(SocketAddr, Refusal)>) {
    let mut refused = Vec::new();
    let outcome = Sender::default().send(socket, out.trains(), |to, refusal| refused.push((to, refusal)));
    (outcome, refused)
}

/// Everything that waits, as messages of the kernel, each cut into its datagrams.
fn received(socket: &UdpSocket, slot_bytes: usize) -> Vec<(SocketAddr, Vec<Vec<u8>>)> {
    let mut memory = vec![vec![0; slot_bytes]; MAX_BATCH];
    let mut receiver = Receiver::default();
    let mut all = Vec::new();
    while receiver.receive(socket, memory.iter_mut().map(Vec::as_mut_slice)).unwrap() > 0 {
        all.extend(receiver.arrivals().zip(&memory).map(|(arrival, slot)| {
            let datagrams = slot[..arrival.length].chunks(arrival.segment_bytes.max(1));
            (arrival.source, datagrams.map(<[u8]>::to_vec).collect())
        }));
    }
    all
}

fn datagrams(messages: Vec<(SocketAddr, Vec<Vec<u8>>)>) -> Vec<Vec<u8>> {
    messages.into_iter().flat_map(|(_, datagrams)| datagrams).collect()
}

fn pair() -> (UdpSocket, UdpSocket, SocketAddr) {
    let [from, to] = [(); 2].map(|()| UdpSocket::bind(Some(LOOPBACK), 0).unwrap());
    let destination = address_of(&to);
    (from, to, destination)
}

#[test]
fn a_train_leaves_and_arrives_as_one_message() {
    let (from, to, destination) = pair();
    let payloads: Vec<_> = (0..TRAIN_DATAGRAMS_MAX).map(|number| vec![number as u8; 900]).collect();
    let out = outbox(&payloads.iter().map(|it| (destination, SendMode::Segmented, &it[..])).collect::<Vec<_>>());

    let (outcome, refused) = send(&from, &out);

    assert_eq!(outcome, SendOutcome { sent: payloads.len() as u64, ..SendOutcome::default() });
    assert_eq!(refused, []);
    assert_eq!(received(&to, 65_536), [(address_of(&from), payloads)]);
}

#[test]
fn trains_to_destinations_that_alternate_arrive_whole() {
    let (from, one, to_one) = pair();
    let (_, other, to_other) = pair();
    let payload = |number: usize| vec![number as u8; if number < 30 { 500 } else { 60 }];
    let payloads: Vec<_> = (0..32).map(payload).collect();
    let to = |number: usize| if number.is_multiple_of(2) { to_one } else { to_other };
    let all: Vec<_> =
        payloads.iter().enumerate().map(|(number, it)| (to(number), SendMode::Segmented, &it[..])).collect();

    let (outcome, _) = send(&from, &outbox(&all));

    assert_eq!(outcome.sent, 32);
    let expected = |first: usize| (first..32).step_by(2).map(payload).collect::<Vec<_>>();
    assert_eq!(received(&one, 65_536), [(address_of(&from), expected(0))]);
    assert_eq!(received(&other, 65_536), [(address_of(&from), expected(1))]);
}

#[test]
fn more_messages_than_a_call_takes_all_arrive_in_order() {
    let (from, to, destination) = pair();
    let payloads: Vec<_> = (0..MAX_BATCH + 3).map(|number| vec![number as u8; number + 1]).collect();
    let all: Vec<_> = payloads.iter().map(|it| (destination, SendMode::Plain, &it[..])).collect();

    let (outcome, _) = send(&from, &outbox(&all));

    assert_eq!(outcome, SendOutcome { sent: payloads.len() as u64, ..SendOutcome::default() });
    assert_eq!(datagrams(received(&to, 200)), payloads);
}

#[test]
fn a_segmented_send_that_is_refused_goes_at_once_one_by_one_and_is_told() {
    let (from, to, destination) = pair();
    // The kernel segments nothing that goes without a checksum.
    set_option(&from.socket, libc::SOL_SOCKET, libc::SO_NO_CHECK, 1).unwrap();
    let payloads: Vec<_> = (0..40).map(|number| vec![number as u8; 700]).collect();
    let all: Vec<_> = payloads.iter().map(|it| (destination, SendMode::Segmented, &it[..])).collect();

    let (outcome, refused) = send(&from, &outbox(&all));

    assert_eq!(outcome, SendOutcome { sent: 40, unsegmented: 1, ..SendOutcome::default() });
    assert_eq!(refused, [(destination, Refusal::TooLong)]);
    assert_eq!(datagrams(received(&to, 65_536)), payloads);
}

#[test]
fn a_dual_stack_socket_shows_ipv4_sources_as_ipv4() {
    let dual = UdpSocket::bind(None, 0).unwrap();
    let port = address_of(&dual).port();
    let v4 = UdpSocket::bind(Some(LOOPBACK), 0).unwrap();

    let (outcome, _) = send(&v4, &outbox(&[(SocketAddr::new(LOOPBACK, port), SendMode::Plain, b"hello")]));
    let arrived = received(&dual, 64);

    assert_eq!(outcome.sent, 1);
    assert_eq!(arrived, [(address_of(&v4), vec![b"hello".to_vec()])]);
    let (back, _) =
        send(&dual, &outbox(&[(arrived[0].0, SendMode::Segmented, b"ba"), (arrived[0].0, SendMode::Segmented, b"ck")]));
    assert_eq!(back.sent, 2);
    assert_eq!(datagrams(received(&v4, 64)).concat(), b"back");
}

#[test]
fn a_datagram_that_cannot_go_is_counted_and_holds_up_no_other() {
    let (from, to, destination) = pair();
    let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 9);
    let too_long = vec![0; 70_000];

    let all = [
        (v6, SendMode::Plain, &b"a"[..]),
        (destination, SendMode::Plain, &too_long),
        (destination, SendMode::Plain, b"c"),
    ];
    let (outcome, refused) = send(&from, &outbox(&all));

    assert_eq!(outcome, SendOutcome { sent: 1, unreachable: 1, too_long: 1, ..SendOutcome::default() });
    assert_eq!(refused, []);
    assert_eq!(datagrams(received(&to, 64)), [b"c"]);
}

#[test]
fn a_datagram_longer_than_its_slot_comes_out_empty() {
    let (from, to, destination) = pair();

    send(&from, &outbox(&[(destination, SendMode::Plain, &[1; 65]), (destination, SendMode::Plain, &[2; 64])]));

    let arrived = received(&to, 64).into_iter().map(|(_, datagrams)| datagrams).collect::<Vec<_>>();
    assert_eq!(arrived, [vec![], vec![vec![2; 64]]]);
}

#[test]
fn a_taken_port_is_named_in_the_error() {
    let first = UdpSocket::bind(Some(LOOPBACK), 0).unwrap();
    let port = address_of(&first).port();

    let error = UdpSocket::bind(Some(LOOPBACK), port).unwrap_err().to_string();

    assert!(error.contains(&format!("UDP port {port} is in use")), "{error}");
}

#[test]
fn an_address_of_another_host_is_refused() {
    let error = UdpSocket::bind(Some("192.0.2.77".parse().unwrap()), 0).unwrap_err().to_string();

    assert_eq!(error, "192.0.2.77 is no address of this host; correct --host");
}
