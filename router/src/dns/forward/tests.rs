//! Upstream servers that answer, fail, lie or say nothing.

use super::*;
use crate::dns::wire::tests::{query, reply_to};

const TIMEOUT: Duration = Duration::from_millis(200);
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

async fn resolve(upstream: &Upstream, asked: &[u8]) -> Vec<u8> {
    upstream.resolve(Transport::Udp, asked, LIMIT).await.unwrap()
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

    let reply = upstream(&[address]).resolve(Transport::Tcp, &asked, usize::from(u16::MAX)).await;

    assert_eq!(reply.unwrap(), reply_to(&asked, 60));
}
