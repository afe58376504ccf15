//! Answers of upstream servers, for as long as they say. A question is another one when it differs in any octet but the
//! id: in case, in its options, in how it came.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use super::Transport;
use super::wire::{self, Asked};

/// How many answers are kept; the oldest one goes first.
const ANSWERS_MAX: usize = 1_024;
/// The longest answer that is kept.
const ANSWER_BYTES_MAX: usize = 4_096;

type Key = (Transport, Vec<u8>);

#[derive(Debug)]
struct Kept {
    reply: Vec<u8>,
    /// Where the times to live are.
    ttls: Vec<usize>,
    since: Instant,
    lifetime: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Cache {
    kept: BTreeMap<Key, Kept>,
    /// Keys as they came, oldest first; every one in `kept` is here.
    order: VecDeque<Key>,
}

impl Cache {
    /// The reply to `query`, if one is kept, as old as it is.
    pub(super) fn get(&self, transport: Transport, query: &[u8], now: Instant) -> Option<Vec<u8>> {
        let (id, rest) = query.split_at_checked(2)?;
        let kept = self.kept.get(&(transport, rest.to_vec()))?;
        let age = now.saturating_duration_since(kept.since);
        if age >= kept.lifetime {
            return None;
        }
        let mut reply = kept.reply.clone();
        wire::grow_older(&mut reply, &kept.ttls, age);
        reply[..2].copy_from_slice(id);
        Some(reply)
    }

    /// Keeps `reply` if it may be kept.
    pub(super) fn put(&mut self, transport: Transport, query: &[u8], reply: &[u8], now: Instant) {
        let lifetime =
            Asked::parse(reply).filter(|_| reply.len() <= ANSWER_BYTES_MAX).and_then(|asked| asked.lifetime());
        let (Some((ttls, lifetime)), Some(rest)) = (lifetime, query.get(2..)) else { return };
        let key = (transport, rest.to_vec());
        let kept = Kept { reply: reply.to_vec(), ttls, since: now, lifetime };
        if self.kept.insert(key.clone(), kept).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > ANSWERS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.kept.remove(&oldest);
        }
    }

    /// Forgets everything: others are asked from now on.
    pub(super) fn clear(&mut self) {
        (self.kept, self.order) = (BTreeMap::new(), VecDeque::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::wire::tests::{query, reply_to};

    fn ttl_of(reply: &[u8]) -> u32 {
        let (places, _) = Asked::parse(reply).unwrap().lifetime().unwrap();
        u32::from_be_bytes(reply[places[0]..places[0] + 4].try_into().unwrap())
    }

    #[test]
    fn a_kept_answer_grows_older_and_bears_the_id_of_who_asks() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let asked = query(1, "example.com");
        cache.put(Transport::Udp, &asked, &reply_to(&asked, 60), start);

        let later = cache.get(Transport::Udp, &query(2, "example.com"), start + Duration::from_secs(20)).unwrap();

        assert_eq!((Asked::parse(&later).unwrap().id(), ttl_of(&later)), (2, 40));
        assert!(cache.get(Transport::Udp, &asked, start + Duration::from_secs(60)).is_none());
        assert!(cache.get(Transport::Tcp, &asked, start).is_none());
        assert!(cache.get(Transport::Udp, &query(1, "Example.com"), start).is_none());
    }

    #[test]
    fn what_may_not_be_kept_is_not() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        let asked = query(1, "example.com");
        let cut = Asked::parse(&reply_to(&asked, 60)).unwrap().cut();
        for reply in [reply_to(&asked, 0), cut, Asked::parse(&asked).unwrap().failure(), b"short".to_vec()] {
            cache.put(Transport::Udp, &asked, &reply, start);
        }

        assert!(cache.get(Transport::Udp, &asked, start).is_none());
    }

    #[test]
    fn the_oldest_answer_makes_room() {
        let (mut cache, start) = (Cache::default(), Instant::now());
        for number in 0..=ANSWERS_MAX {
            let asked = query(1, &format!("n{number}.example.com"));
            cache.put(Transport::Udp, &asked, &reply_to(&asked, 60), start);
        }

        assert_eq!((cache.kept.len(), cache.order.len()), (ANSWERS_MAX, ANSWERS_MAX));
        assert!(cache.get(Transport::Udp, &query(1, "n0.example.com"), start).is_none());
        assert!(cache.get(Transport::Udp, &query(1, "n1.example.com"), start).is_some());
    }
}
