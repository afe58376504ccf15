//! Upstream servers that answer, fail, lie or say nothing.

use super::*;
use crate::dns::asker::{Asker, Segment};
use crate::dns::budget::Budget;
use crate::dns::wire::tests::{query, reply_to};

const TIMEOUT: Duration = Duration::from_secs(2);
const LIMIT: usize = 512;

/// A server that answers each query as `behaviour` says, for as long as the test runs; and how often it was asked.
async fn server(behaviour: fn(&[u8]) -> Vec<Vec<u8>>) -> (SocketAddr, watch::Receiver<usize>) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let (asked, count) = watch::channel(0);
    tokio::spawn(async move {
        let mut buffer = [0; 4_096];
        while let Ok((length, source)) = socket.recv_from(&mut buffer).await {
            asked.send_modify(|count| *count += 1);
            for reply in behaviour(&buffer[..length]) {
                socket.send_to(&reply, source).await.unwrap();
            }
        }
    });
    (address, count)
}

fn good(query: &[u8]) -> Vec<Vec<u8>> {
    vec![reply_to(query, 60)]
}

fn failing(query: &[u8]) -> Vec<Vec<u8>> {
    vec![Asked::parse(query).unwrap().failure()]
}

/// Forged replies first: a wrong id, another question, no reply at all.
fn forged(asked: &[u8]) -> Vec<Vec<u8>> {
    let mut wrong_id = reply_to(asked, 1);
    wrong_id[0] ^= 1;
    let mut other = reply_to(&query(0, "example.org"), 1);
    other[..2].copy_from_slice(&asked[..2]);
    vec![wrong_id, other, asked.to_vec(), Vec::new(), reply_to(asked, 60)]
}

fn upstream(servers: &[SocketAddr]) -> Upstream {
    let (_, servers) = watch::channel(Arc::from(servers));
    Upstream::new(servers, TIMEOUT)
}

fn share() -> Share {
    Budget::new(1).take(Asker { source: [127, 0, 0, 1].into(), segment: Segment::Host }).unwrap()
}

async fn resolve(upstream: &Upstream, asked: &[u8]) -> Vec<u8> {
    upstream.resolve(Transport::Udp, asked, LIMIT, share()).await.unwrap()
}

#[tokio::test]
async fn a_reply_comes_back_as_it_is_under_the_askers_id() {
    let (address, _) = server(good).await;
    let asked = query(7, "example.com");

    assert_eq!(resolve(&upstream(&[address]), &asked).await, reply_to(&asked, 60));
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_is_silent_fails_or_is_not_there() {
    let (silent, _) = server(|_| Vec::new()).await;
    let (failing, _) = server(failing).await;
    let (good, _) = server(good).await;
    let absent = "127.0.0.1:1".parse().unwrap();
    let asked = query(7, "example.com");

    for first in [silent, failing, absent] {
        assert_eq!(resolve(&upstream(&[first, good]), &asked).await, reply_to(&asked, 60));
    }
}

#[tokio::test]
async fn a_silent_server_is_waited_for_once_and_asked_again_beside_the_others() {
    let (silent, asked_silent) = server(|_| Vec::new()).await;
    let (good, _) = server(good).await;
    let upstream = upstream(&[silent, good]);

    let begin = Instant::now();
    resolve(&upstream, &query(1, "one.example.com")).await;
    let first = begin.elapsed();
    assert!(first >= PATIENCE && first < TIMEOUT, "{first:?}");

    let begin = Instant::now();
    for number in 0..10 {
        resolve(&upstream, &query(1, &format!("n{number}.example.com"))).await;
    }
    let ten = begin.elapsed();
    assert!(ten < PATIENCE, "{ten:?} for ten questions once one of the servers is known to be silent");
    assert_eq!(*asked_silent.borrow(), 1);
    // Time passes by asking: it is asked again, and nobody waits for that.
    let mut number = 10;
    while *asked_silent.borrow() == 1 {
        number += 1;
        let begin = Instant::now();
        resolve(&upstream, &query(1, &format!("n{number}.example.com"))).await;
        assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    }
}

#[tokio::test]
async fn a_server_that_is_slow_once_is_the_first_again_as_soon_as_it_is_heard() {
    let (replies, mut held) = tokio::sync::mpsc::unbounded_channel();
    let socket = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let slow = socket.local_addr().unwrap();
    let listening = Arc::clone(&socket);
    tokio::spawn(async move {
        let mut buffer = [0; 4_096];
        while let Ok((length, source)) = listening.recv_from(&mut buffer).await {
            replies.send((reply_to(&buffer[..length], 60), source)).unwrap();
        }
    });
    let (good, count) = server(good).await;
    let upstream = upstream(&[slow, good]);
    resolve(&upstream, &query(1, "one.example.com")).await;
    assert_eq!(*count.borrow(), 1);

    let (late, source) = held.recv().await.unwrap();
    socket.send_to(&late, source).await.unwrap();
    let order = || lock(&upstream.hearing).order(Transport::Udp, &[slow, good], Instant::now()).turns;
    while order() != [slow, good] {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_share_is_held_until_the_last_server_is_given_up() {
    let (silent, _) = server(|_| Vec::new()).await;
    let (good, _) = server(good).await;
    let budget = Budget::new(1);
    let asker = Asker { source: [127, 0, 0, 1].into(), segment: Segment::Host };
    let upstream = upstream(&[silent, good]);

    let share = budget.take(asker).unwrap();
    upstream.resolve(Transport::Udp, &query(1, "example.com"), LIMIT, share).await.unwrap();

    let begin = Instant::now();
    while budget.take(asker).is_none() {
        tokio::task::yield_now().await;
    }
    assert!(begin.elapsed() >= TIMEOUT - 2 * PATIENCE, "{:?}", begin.elapsed());
}

#[tokio::test]
async fn a_cut_reply_is_handed_on_as_it_is_and_not_kept() {
    let cut = |asked: &[u8]| {
        let mut reply = reply_to(asked, 60);
        reply[2] |= 0x02;
        vec![reply]
    };
    let (address, count) = server(cut).await;
    let upstream = upstream(&[address]);
    let asked = query(7, "example.com");

    for _ in 0..2 {
        let reply = resolve(&upstream, &asked).await;
        assert!(Asked::parse(&reply).unwrap().is_truncated());
        assert_eq!(reply, cut(&asked)[0], "what there was room for is there");
    }
    assert_eq!(*count.borrow(), 2);
}

#[tokio::test]
async fn over_tcp_the_next_server_is_asked_when_one_refuses_connections() {
    let refused = "127.0.0.1:1".parse().unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut asked).await.unwrap();
        stream.write_all(&framed(&reply_to(&asked, 60))).await.unwrap();
    });
    let asked = query(7, "example.com");

    let reply = upstream(&[refused, address]).resolve(Transport::Tcp, &asked, usize::from(u16::MAX), share()).await;

    assert_eq!(reply.unwrap(), reply_to(&asked, 60));
}

#[tokio::test]
async fn when_nobody_answers_that_is_said() {
    let (silent, _) = server(|_| Vec::new()).await;
    let asked = query(7, "example.com");

    for servers in [&[][..], &[silent]] {
        let reply = resolve(&upstream(servers), &asked).await;
        let (reply, asked) = (Asked::parse(&reply).unwrap(), Asked::parse(&asked).unwrap());
        assert!(reply.answers(&asked));
        assert_eq!(reply.code(), wire::SERVER_FAILURE);
    }
}

#[tokio::test]
async fn replies_to_other_questions_are_not_believed() {
    let (address, _) = server(forged).await;
    let asked = query(7, "example.com");

    assert_eq!(resolve(&upstream(&[address]), &asked).await, reply_to(&asked, 60));
}

#[tokio::test]
async fn an_answer_is_asked_for_once_while_it_lives() {
    let (address, count) = server(good).await;
    let upstream = upstream(&[address]);

    for id in 0..3 {
        let asked = query(id, "example.com");
        assert!(Asked::parse(&resolve(&upstream, &asked).await).unwrap().answers(&Asked::parse(&asked).unwrap()));
    }

    assert_eq!(*count.borrow(), 1);
    upstream.forget();
    resolve(&upstream, &query(9, "example.com")).await;
    assert_eq!(*count.borrow(), 2);
}

#[tokio::test]
async fn a_reply_that_is_too_long_for_its_asker_is_cut() {
    let (address, _) = server(|asked| vec![[reply_to(asked, 60), vec![0; 600]].concat()]).await;
    let asked = query(7, "example.com");

    let reply = resolve(&upstream(&[address]), &asked).await;

    assert!(reply.len() <= LIMIT && Asked::parse(&reply).unwrap().is_truncated());
}

#[tokio::test]
async fn what_came_over_tcp_is_asked_over_tcp() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = vec![0; stream.read_u16().await.unwrap().into()];
        stream.read_exact(&mut asked).await.unwrap();
        stream.write_all(&framed(&reply_to(&asked, 60))).await.unwrap();
    });
    let asked = query(7, "example.com");

    let reply = upstream(&[address]).resolve(Transport::Tcp, &asked, usize::from(u16::MAX), share()).await;

    assert_eq!(reply.unwrap(), reply_to(&asked, 60));
}
