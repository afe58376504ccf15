use super::*;
use crate::batch::OUTBOX_BYTES_MAX;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn filled(pushed: &[(u16, usize)]) -> Outbox {
    let mut out = Outbox::new();
    for (at, &(port, len)) in pushed.iter().enumerate() {
        out.datagram(address(port), SendMode::Segmented, len).unwrap().fill(at as u8);
    }
    out
}

fn trains(pushed: &[(u16, usize)]) -> Vec<(u16, Vec<usize>)> {
    let out = filled(pushed);
    out.trains().map(|train| (train.destination.port(), train.datagrams().map(<[u8]>::len).collect())).collect()
}

#[test]
fn a_train_is_one_destination_and_one_size_with_a_shorter_tail() {
    assert_eq!(trains(&[(1, 100), (1, 100), (1, 40), (1, 40)]), [(1, vec![100, 100, 40]), (1, vec![40])]);
    assert_eq!(trains(&[(1, 40), (1, 100)]), [(1, vec![40]), (1, vec![100])]);
}

#[test]
fn destinations_that_alternate_get_long_trains_in_their_own_order() {
    let out = filled(&[(1, 40), (2, 50), (1, 40), (1, 40), (2, 50), (1, 30), (2, 60)]);

    let marks = |train: Train<'_>| train.datagrams().map(|datagram| (datagram.len(), datagram[0])).collect();
    let trains: Vec<(u16, Vec<_>)> = out.trains().map(|train| (train.destination.port(), marks(train))).collect();
    let expected = [(1, vec![(40, 0), (40, 2), (40, 3), (30, 5)]), (2, vec![(50, 1), (50, 4)]), (2, vec![(60, 6)])];
    assert_eq!(trains, expected);
    assert_eq!(out.trains().map(|train| train.pieces().count()).collect::<Vec<_>>(), [3, 2, 1]);
}

#[test]
fn a_datagram_overtakes_no_other_of_its_destination() {
    let mut out = Outbox::new();
    for (mark, mode) in [SendMode::Segmented, SendMode::Plain, SendMode::Segmented].into_iter().enumerate() {
        out.datagram(address(1), mode, 10).unwrap().fill(mark as u8);
    }

    assert_eq!(out.trains().flat_map(|train| train.datagrams()).map(|bytes| bytes[0]).collect::<Vec<_>>(), [0, 1, 2]);
}

#[test]
fn a_closed_train_takes_no_more_and_one_may_be_sent_plainly_after_all() {
    let mut out = filled(&[(1, 10), (1, 10)]);
    out.close_trains();
    out.datagram(address(1), SendMode::Segmented, 10).unwrap().fill(2);

    out.send_plainly(0);

    let trains: Vec<_> = out.trains().map(|train| (train.mode, train.bytes)).collect();
    assert_eq!(trains, [(SendMode::Plain, 20), (SendMode::Segmented, 10)]);
}

#[test]
fn a_train_keeps_the_limits_of_one_segmented_send() {
    let small = trains(&[(1, 1); TRAIN_DATAGRAMS_MAX + 1]);
    assert_eq!(small.iter().map(|(_, lens)| lens.len()).collect::<Vec<_>>(), [TRAIN_DATAGRAMS_MAX, 1]);

    let large = trains(&[(1, 9_000); 8]);
    assert_eq!(large.iter().map(|(_, lens)| lens.len()).collect::<Vec<_>>(), [7, 1]);
}

#[test]
fn a_full_outbox_refuses_and_keeps_what_it_has() {
    let mut out = Outbox::new();
    let datagram = |out: &mut Outbox, len| out.datagram(address(1), SendMode::Plain, len).map(|_| ());

    datagram(&mut out, OUTBOX_BYTES_MAX).unwrap();

    assert_eq!(datagram(&mut out, 1), Err(OutboxFull));
    assert_eq!(out.trains().count(), 1);
    out.clear();
    assert!(datagram(&mut out, 1).is_ok());
}
