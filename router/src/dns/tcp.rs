//! Questions over TCP: many on one connection, answered as they are known and not in their order (RFC 7766).

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use super::Transport;
use super::answer::Verdict;
use super::asker::Asker;
use super::budget::Share;
use super::forward::framed;
use super::service::{Shared, rng};
use super::wire::Asked;

/// Questions of one connection that wait for their answers; further ones are not read.
const QUESTIONS_MAX: usize = 64;
/// A connection on which nothing is asked, or whose answers are not read, is closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `listener` until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, source)) = accepted else {
                    // Out of descriptors: others give some back.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                // Whoever has its part of all connections already is hung up on.
                if let Some(share) = shared.asker(source.ip()).and_then(|asker| shared.connections.take(asker)) {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        converse(stream, source, &shared).await;
                        drop(share);
                    });
                }
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, source: SocketAddr, shared: &Arc<Shared>) {
    let _ = stream.set_nodelay(true);
    let (mut questions, writer) = stream.into_split();
    let (replies, waiting) = mpsc::channel(QUESTIONS_MAX);
    let writing = tokio::spawn(write(writer, waiting));
    let permits = Arc::new(Semaphore::new(QUESTIONS_MAX));
    let mut rng = rng();
    while let Ok(Ok(length)) = tokio::time::timeout(IDLE_TIMEOUT, questions.read_u16()).await {
        let mut query = vec![0; length.into()];
        let is_whole = tokio::time::timeout(IDLE_TIMEOUT, questions.read_exact(&mut query)).await;
        let permit = Arc::clone(&permits).acquire_owned().await;
        let (Ok(Ok(_)), Ok(permit), Some(asker)) = (is_whole, permit, shared.asker(source.ip())) else { break };
        match answer(&query, asker, shared, &mut rng) {
            Answer::Reply(reply) => {
                if replies.send(reply).await.is_err() {
                    break;
                }
            }
            Answer::Forward(share) => {
                let (shared, replies) = (Arc::clone(shared), replies.clone());
                tokio::spawn(async move {
                    let reply = shared.upstream.resolve(Transport::Tcp, &query, usize::from(u16::MAX), share).await;
                    if let Some(reply) = reply {
                        let _ = replies.send(reply).await;
                    }
                    drop(permit);
                });
            }
            Answer::Nothing => break,
        }
    }
    drop(replies);
    let _ = writing.await;
}

/// What becomes of a question.
enum Answer {
    Reply(Vec<u8>),
    /// Others have it.
    Forward(Share),
    /// There is to be none.
    Nothing,
}

fn answer(query: &[u8], asker: Asker, shared: &Shared, rng: &mut ChaCha8Rng) -> Answer {
    let names = Arc::clone(&shared.published().names);
    let mut reply = Vec::new();
    match shared.responder.respond(&names, query, Transport::Tcp, rng, &mut reply) {
        Verdict::Answered => Answer::Reply(reply),
        Verdict::Forward { .. } => match (shared.questions.take(asker), Asked::parse(query)) {
            (Some(share), _) => Answer::Forward(share),
            (None, Some(asked)) => Answer::Reply(asked.failure()),
            (None, None) => Answer::Nothing,
        },
        Verdict::Dropped => Answer::Nothing,
    }
}

async fn write(mut writer: OwnedWriteHalf, mut replies: mpsc::Receiver<Vec<u8>>) {
    while let Some(reply) = replies.recv().await {
        match tokio::time::timeout(IDLE_TIMEOUT, writer.write_all(&framed(&reply))).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return,
        }
    }
}
