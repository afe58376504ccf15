//! Sockets on the loopback interface.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::*;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn address_of(socket: &UdpSocket) -> SocketAddr {
    socket.socket.local_addr().unwrap().as_socket().unwrap()
}

fn received(socket: &UdpSocket, slot_bytes: usize) -> (usize, Vec<(SocketAddr, Vec<u8>)>) {
    let mut memory = vec![vec![0; slot_bytes]; MAX_BATCH];
    let mut receiver = Receiver::default();
    let count = receiver.receive(socket, memory.iter_mut().map(Vec::as_mut_slice)).unwrap();
    let bytes = |(datagram, slot): (Datagram, &Vec<u8>)| (datagram.source, slot[..datagram.length].to_vec());
    (count, receiver.datagrams().zip(&memory).map(bytes).collect())
}

#[test]
fn more_datagrams_than_a_batch_all_arrive_in_order() {
    let [from, to] = [(); 2].map(|()| UdpSocket::bind(Some(LOOPBACK), 0).unwrap());
    let destination = address_of(&to);
    let payloads: Vec<_> = (0..MAX_BATCH + 3).map(|number| vec![number as u8; number + 1]).collect();

    let outcome = Sender::default().send(&from, payloads.iter().map(|payload| (destination, payload.as_slice())));
    let (_, mut arrived) = received(&to, 200);
    arrived.extend(received(&to, 200).1);

    assert_eq!(outcome, SendOutcome { sent: payloads.len() as u64, ..SendOutcome::default() });
    let source = address_of(&from);
    assert_eq!(arrived, payloads.into_iter().map(|payload| (source, payload)).collect::<Vec<_>>());
}

#[test]
fn a_dual_stack_socket_shows_ipv4_sources_as_ipv4() {
    let dual = UdpSocket::bind(None, 0).unwrap();
    let port = address_of(&dual).port();
    let v4 = UdpSocket::bind(Some(LOOPBACK), 0).unwrap();

    let outcome = Sender::default().send(&v4, [(SocketAddr::new(LOOPBACK, port), &b"hello"[..])].into_iter());
    let (_, arrived) = received(&dual, 64);

    assert_eq!(outcome.sent, 1);
    assert_eq!(arrived, [(address_of(&v4), b"hello".to_vec())]);
    let back = Sender::default().send(&dual, [(arrived[0].0, &b"back"[..])].into_iter());
    assert_eq!((back.sent, received(&v4, 64).1[0].1.as_slice()), (1, &b"back"[..]));
}

#[test]
fn a_datagram_that_cannot_go_is_counted_and_holds_up_no_other() {
    let [from, to] = [(); 2].map(|()| UdpSocket::bind(Some(LOOPBACK), 0).unwrap());
    let destination = address_of(&to);
    let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 9);
    let too_long = vec![0; 70_000];

    let datagrams = [(v6, &b"a"[..]), (destination, &too_long), (destination, b"c")];
    let outcome = Sender::default().send(&from, datagrams.into_iter());

    assert_eq!(outcome, SendOutcome { sent: 1, full: 0, unreachable: 1, refused: 1 });
    assert_eq!(received(&to, 64).1, [(address_of(&from), b"c".to_vec())]);
}

#[test]
fn a_datagram_longer_than_its_slot_comes_out_empty() {
    let [from, to] = [(); 2].map(|()| UdpSocket::bind(Some(LOOPBACK), 0).unwrap());
    let destination = address_of(&to);

    Sender::default().send(&from, [(destination, &[1; 65][..]), (destination, &[2; 64][..])].into_iter());

    let (count, arrived) = received(&to, 64);
    assert_eq!(count, 2);
    assert_eq!(arrived.into_iter().map(|(_, bytes)| bytes).collect::<Vec<_>>(), [vec![], vec![2; 64]]);
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
