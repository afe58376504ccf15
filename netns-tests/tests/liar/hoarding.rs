//! Taking more room than is due: memory, disk, queues, time.

use std::sync::Arc;

use anyhow::Result;
use weave_mesh::card::Subnet;
use weave_mesh::identity::PeerKey;
use weave_mesh::letter::Letter;
use weave_mesh::name::MacAddr;
use weave_mesh::store::{Content, Endpoint, EndpointId, Part, Record, Set, Tag, Version};
use weave_mesh::wire::{Ask, Goodbye, Message, Offer};
use weave_netns_tests::member::{Liar, Member, edge_to};
use weave_netns_tests::probe::eventually;
use weave_netns_tests::scene::SETTLED;

use super::{Lie, Stage};

pub(crate) const LIES: &[Lie] = &[
    ("sixty invented owners of 4 MB each", invented_owners),
    ("sixty thousand offers of nothing", offers_of_nothing),
    ("a thousand equal asks, read or not", equal_asks),
    ("sets whose last part never comes", endless_parts),
    ("its own set, 4 MB and new each time", own_set),
    ("goodbyes of ever higher lives", goodbyes),
    ("letters to everybody and nobody", letters),
    ("the victim's address at the end of time", end_of_time),
];

/// More invented owners than there is room for behind a neighbour: eight.
const LOOKED_AT: usize = 10;

/// So many records of about 3.4 KB; `mark` tells those of one version from another's.
pub(crate) fn records(count: u64, mark: u64) -> impl Iterator<Item = Record> {
    (0..count).map(move |id| {
        let names = (0..16).map(|name| format!("{name}-{mark}-{}", "x".repeat(190))).collect();
        endpoint(id, Vec::new(), names, 1)
    })
}

fn endpoint(id: u64, addresses: Vec<Subnet>, names: Vec<String>, attached: u64) -> Record {
    let [.., a, b] = id.to_be_bytes();
    let (mac, container) = (MacAddr([6, 0x66, 0, 0, a, b]), "c".repeat(64));
    Record::new(Content::Endpoint(EndpointId(id), Endpoint { mac, addresses, container, names, attached }))
}

/// Waits until the daemon has taken all that it asked for, or has had enough.
fn wait_idle(member: &Member) -> Result<()> {
    eventually(2 * SETTLED, "the daemon has taken what it wants", || Ok(member.is_idle() || member.is_over()))?;
    Ok(())
}

fn invented_owners(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let mut owners = Vec::new();
    for number in 100..160 {
        let set = Liar::new(number).set(1, records(1_200, 0).chain([edge_to(member.liar.key())]))?;
        owners.push(set.owner());
        member.offer(&[set])?;
    }
    wait_idle(&member)?;
    // Now they are its neighbours, as it says itself. Who was refused is asked for again.
    member.publish(1, owners.iter().copied().map(edge_to))?;
    let asks_for = |owner: Tag, heard: &Message| match heard {
        Message::Asks(asks) => asks.iter().any(|ask| ask.owner == owner),
        _ => false,
    };
    eventually(2 * SETTLED, "the daemon has looked at more of them again than it has room for", || {
        let is_twice = |owner: &PeerKey| member.count(|heard| asks_for(Tag::from(owner), heard)) >= 2;
        Ok(member.is_over() || owners.iter().filter(|owner| is_twice(owner)).count() >= LOOKED_AT)
    })?;
    wait_idle(&member)
}

fn offers_of_nothing(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let version = Version { incarnation: u64::MAX, counter: 1 };
    for round in 0..60_u64 {
        let offer = |owner: u64| Offer { owner: Tag((round << 32 | owner).to_le_bytes()), version };
        member.say(&Message::Offers((0..1_024).map(offer).collect()))?;
    }
    Ok(())
}

fn equal_asks(stage: &Stage) -> Result<()> {
    let big = stage.member(67)?;
    big.publish(1, records(1_200, 0))?;
    eventually(2 * SETTLED, "the daemon has the set", || {
        let (_, metrics) = stage.scene.weaves[0].http("GET", "/metrics")?;
        Ok(metrics.contains("weave_endpoints{state=\"remote\"} 1201\n"))
    })?;
    let member = stage.member(66)?;
    let owner = Tag::from(&big.liar.key());
    let asks = Message::Asks(vec![Ask { owner, base: None, card: None }; 1_024]);
    member.say(&asks)?;
    member.wait_for(SETTLED, "the set, once", |heard| matches!(heard, Message::Part(_)))?;

    // And by one who never reads what it asked for.
    let deaf = stage.member(69)?;
    deaf.stop_reading();
    deaf.say(&asks)
}

fn endless_parts(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    for number in 100..120 {
        let set = Liar::new(number).set(1, records(1_200, 1))?;
        member.say(&Message::Offers(vec![offer(&set)]))?;
        let parts = Part::split(&set, weave_mesh::store::CardRecord::Include);
        for part in parts.into_iter().skip(1) {
            member.say(&Message::Part(Arc::new(part)))?;
        }
    }
    Ok(())
}

pub(crate) fn offer(set: &Set) -> Offer {
    Offer { owner: Tag::from(&set.owner()), version: set.version() }
}

fn own_set(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    for counter in 1..6 {
        member.publish(counter, records(1_200, counter))?;
        wait_idle(&member)?;
    }
    Ok(())
}

fn goodbyes(stage: &Stage) -> Result<()> {
    let member = stage.member(68)?;
    member.publish(1, [])?;
    for life in 1..2_000 {
        let goodbye = Goodbye::sign(&member.liar.identity, member.liar.card.mesh, life);
        if member.say(&Message::Goodbye(goodbye)).is_err() {
            break;
        }
    }
    member.wait_end(SETTLED)
}

fn letters(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let Liar { identity, card, .. } = &member.liar;
    for number in 0..400_u32 {
        let to = if number % 2 == 0 { member.daemon.key } else { Liar::new(200).key() };
        member.say(&Message::Letter(Letter::sign(identity, card.mesh, to, vec![7; 40_000])))?;
    }
    Ok(())
}

fn end_of_time(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let address = Subnet { address: stage.scene.address(1).into(), prefix_len: 12 };
    member.publish(7, [endpoint(1, vec![address], Vec::new(), u64::MAX)])?;
    wait_idle(&member)?;
    member.say(&Message::Probe)
}
