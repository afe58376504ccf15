//! Which upstream servers are heard, so that nobody waits for one that is silent.
//!
//! ```text
//!   heard ── asked 300 ms ago and nothing heard since ──► silent: asked after the others, and once a second beside them
//!     ▲──────────────── any reply, however late ─────────────┘
//! ```
//!
//! A server that answers others meanwhile is slow with one question, not silent.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Transport;

/// How long a silent server is left alone.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// What is known of the servers in use; of others nothing is kept.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    servers: BTreeMap<(Transport, SocketAddr), Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    last: Option<Instant>,
    /// When it was asked last, while it is silent.
    silent: Option<Instant>,
}

/// Whom to ask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// At once, beside the first of the others: silent servers, whether they are back.
    pub(super) beside: Vec<SocketAddr>,
    /// One after the other.
    pub(super) turns: Vec<SocketAddr>,
}

impl Hearing {
    /// Those who answer come first, otherwise `servers` keep their order.
    pub(super) fn order(&mut self, transport: Transport, servers: &[SocketAddr], now: Instant) -> Order {
        let is_silent = |server: &&SocketAddr| self.silent_since(transport, server).is_some();
        let (silent, heard): (Vec<_>, Vec<_>) = servers.iter().partition(is_silent);
        if heard.is_empty() {
            return Order { beside: Vec::new(), turns: servers.to_vec() };
        }
        let is_due = |server: &SocketAddr| {
            self.silent_since(transport, server).is_some_and(|asked| now >= asked + RETRY_INTERVAL)
        };
        let (beside, last): (Vec<SocketAddr>, Vec<SocketAddr>) = silent.into_iter().partition(is_due);
        for server in &beside {
            self.servers.entry((transport, *server)).or_default().silent = Some(now);
        }
        Order { beside, turns: heard.into_iter().chain(last).collect() }
    }

    fn silent_since(&self, transport: Transport, server: &SocketAddr) -> Option<Instant> {
        self.servers.get(&(transport, *server))?.silent
    }

    pub(super) fn note_heard(&mut self, transport: Transport, server: SocketAddr, now: Instant) {
        self.servers.insert((transport, server), Heard { last: Some(now), silent: None });
    }

    /// A question that `server` was asked at `asked` has waited too long.
    pub(super) fn note_patience_over(&mut self, transport: Transport, server: SocketAddr, asked: Instant) {
        let heard = self.servers.entry((transport, server)).or_default();
        if heard.last.is_none_or(|last| last < asked) {
            heard.silent.get_or_insert(asked);
        }
    }

    /// Other servers are in use.
    pub(super) fn clear(&mut self) {
        self.servers.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UDP: Transport = Transport::Udp;

    fn servers() -> [SocketAddr; 2] {
        ["192.0.2.1:53".parse().unwrap(), "192.0.2.2:53".parse().unwrap()]
    }

    fn turns(hearing: &mut Hearing, now: Instant) -> Vec<SocketAddr> {
        hearing.order(UDP, &servers(), now).turns
    }

    #[test]
    fn a_silent_server_is_asked_last_and_once_a_second_beside_the_others() {
        let (mut hearing, start, [first, second]) = (Hearing::default(), Instant::now(), servers());
        assert_eq!(turns(&mut hearing, start), [first, second]);

        hearing.note_patience_over(UDP, first, start);

        assert_eq!(turns(&mut hearing, start), [second, first]);
        let later = start + RETRY_INTERVAL;
        let retried = Order { beside: vec![first], turns: vec![second] };
        assert_eq!(hearing.order(UDP, &servers(), later), retried);
        assert_eq!(turns(&mut hearing, later), [second, first], "not twice in a second");
        hearing.note_heard(UDP, first, later);
        assert_eq!(turns(&mut hearing, later), [first, second]);
    }

    #[test]
    fn a_server_that_answers_others_is_only_slow() {
        let (mut hearing, start, [first, second]) = (Hearing::default(), Instant::now(), servers());
        hearing.note_heard(UDP, first, start + Duration::from_millis(100));

        hearing.note_patience_over(UDP, first, start);

        assert_eq!(turns(&mut hearing, start), [first, second]);
    }

    #[test]
    fn a_server_that_is_silent_over_tcp_is_heard_over_udp() {
        let (mut hearing, start, [first, second]) = (Hearing::default(), Instant::now(), servers());

        hearing.note_patience_over(Transport::Tcp, first, start);

        assert_eq!(turns(&mut hearing, start), [first, second]);
        assert_eq!(hearing.order(Transport::Tcp, &servers(), start).turns, [second, first]);
    }

    #[test]
    fn where_all_are_silent_all_are_asked_in_their_order() {
        let (mut hearing, start, [first, second]) = (Hearing::default(), Instant::now(), servers());
        for server in [second, first] {
            hearing.note_patience_over(UDP, server, start);
        }

        assert_eq!(turns(&mut hearing, start + RETRY_INTERVAL), [first, second]);
    }
}
