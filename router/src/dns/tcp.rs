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
use super::forward::framed;
use super::service::{Shared, rng};

/// Connections that are open at once; a further one is closed.
const CONNECTIONS_MAX: usize = 256;
/// Questions of one connection that wait for their answers; further ones are not read.
const QUESTIONS_MAX: usize = 64;
/// A connection on which nothing is asked, or whose answers are not read, is closed after this.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves `listener` until it is dropped.
pub(super) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((stream, source)) = accepted else {
                    // Out of descriptors: others give some back.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                };
                if let Ok(permit) = Arc::clone(&permits).try_acquire_owned()
                    && shared.may_ask(source.ip())
                {
                    let shared = Arc::clone(&shared);
                    connections.spawn(async move {
                        converse(stream, source, &shared).await;
                        drop(permit);
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
        let (Ok(Ok(_)), Ok(permit), true) = (is_whole, permit, shared.may_ask(source.ip())) else { break };
        match answer(&query, shared, &mut rng) {
            Some(Some(reply)) => {
                if replies.send(reply).await.is_err() {
                    break;
                }
            }
            Some(None) => {
                let (shared, replies) = (Arc::clone(shared), replies.clone());
                tokio::spawn(async move {
                    let reply = shared.upstream.resolve(Transport::Tcp, &query, usize::from(u16::MAX)).await;
                    if let Some(reply) = reply {
                        let _ = replies.send(reply).await;
                    }
                    drop(permit);
                });
            }
            None => break,
        }
    }
    drop(replies);
    let _ = writing.await;
}

/// The reply; `Some(None)` when others have it, `None` when there is to be none.
fn answer(query: &[u8], shared: &Shared, rng: &mut ChaCha8Rng) -> Option<Option<Vec<u8>>> {
    let names = Arc::clone(&shared.published().names);
    let mut reply = Vec::new();
    match shared.responder.respond(&names, query, Transport::Tcp, rng, &mut reply) {
        Verdict::Answered => Some(Some(reply)),
        Verdict::Forward { .. } => Some(None),
        Verdict::Dropped => None,
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
