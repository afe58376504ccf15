//! Every kind of message at once, as fast as TCP takes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use weave_mesh::identity::{Hash, PeerKey};
use weave_mesh::ipam::{Certificate, Reason, Right, RingNews, RingState, Transfer, Version as Owned};
use weave_mesh::letter::Letter;
use weave_mesh::store::{CardRecord, Delta, Part, Tag, Version};
use weave_mesh::wire::{Ask, Buckets, COMPARED_BUCKETS, Goodbye, Message, Offer, Summary, Versions};
use weave_netns_tests::member::{Liar, Member};

use super::Stage;
use super::hoarding::{offer, records};
use super::theft::{RANGE, ring_of};

/// How many messages were told.
pub(crate) fn flood(stage: &Stage, time: Duration) -> Result<usize> {
    let (begin, mut told) = (Instant::now(), 0);
    while begin.elapsed() < time {
        let member = stage.member(66)?;
        let kinds = kinds(&member)?;
        while begin.elapsed() < time && kinds.iter().try_for_each(|kind| member.say(kind)).is_ok() {
            told += kinds.len();
        }
    }
    Ok(told)
}

fn kinds(member: &Member) -> Result<Vec<Message>> {
    let mut kinds = about_sets(member)?;
    kinds.extend(about_addresses(member, ring_of(member)?)?);
    Ok(kinds)
}

fn about_sets(member: &Member) -> Result<Vec<Message>> {
    let Liar { identity, card, .. } = &member.liar;
    let owner = Tag::from(&member.daemon.key);
    let offers: Vec<Offer> =
        (0..512).map(|life| Offer { owner, version: Version { incarnation: life, counter: 9 } }).collect();
    let invented = Liar::new(101);
    let (one, next) = (invented.set(1, records(20, 3))?, invented.set(2, records(5, 4))?);
    let mut kinds = vec![
        Message::Probe,
        Message::Offers(offers.clone()),
        Message::Asks(vec![Ask { owner, base: None, card: None }; 512]),
        Message::Summary(Summary([1; 16])),
        Message::Buckets(Buckets(vec![[2; 8]; COMPARED_BUCKETS])),
        Message::Versions(Versions { buckets: u64::MAX, offers }),
        Message::Letter(Letter::sign(identity, card.mesh, member.daemon.key, vec![0; 20_000])),
        Message::Goodbye(Goodbye::sign(&Liar::new(102).identity, card.mesh, 1)),
        Message::Offers(vec![offer(&one)]),
    ];
    let parts = Part::split(&one, CardRecord::Include).into_iter();
    kinds.extend(parts.map(|part| Message::Part(Arc::new(part))));
    kinds.push(Message::Delta(Arc::new(Delta::between(&one, &next))));
    Ok(kinds)
}

/// Ring and deaths, each time as many as one message has room for.
fn about_addresses(member: &Member, ring: Hash) -> Result<Vec<Message>> {
    let Liar { identity, card, .. } = &member.liar;
    let own = identity.key();
    let rights = [Right::TakeOver { from: member.daemon.key, id: 1 }, Right::Grant { from: own }];
    let transfer = |number: u32| {
        let version = Owned { epoch: number / 2, count: number };
        Arc::new(Transfer::sign(&ring, RANGE, version, rights[number as usize % 2], own, identity))
    };
    let accuse =
        |dead: PeerKey| Certificate::sign(identity, card.mesh, dead, Reason::Operator { successor: None }, None);
    let dead = (100..131).map(|number| Liar::new(number).key()).chain([member.daemon.key]);
    let of_ring = RingNews { ring: Some(ring), ..RingNews::default() };
    Ok(vec![
        Message::RingState(RingState { ring: Some(ring), state: [9; 32] }),
        Message::RingNews(RingNews { transfers: (0..128).map(transfer).collect(), ..of_ring.clone() }),
        Message::RingNews(RingNews { certificates: dead.map(accuse).collect(), ..of_ring.clone() }),
        Message::RingNews(RingNews { compare: Some([9; 32]), ..of_ring }),
    ])
}
