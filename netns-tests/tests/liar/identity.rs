//! Lies about who somebody is.

use anyhow::Result;
use weave_mesh::identity::PeerKey;
use weave_mesh::store::{Tag, Version};
use weave_mesh::wire::{Message, Offer, Refusal, Versions};
use weave_netns_tests::scene::SETTLED;

use super::{Lie, Stage};

pub(crate) const LIES: &[Lie] = &[
    ("offers of the daemon's own set from a later life", offers_of_own),
    ("offers of the other daemon's set", offers_of_another),
    ("versions of everybody's sets", versions_of_all),
    ("a refusal: the daemon's key is in use twice", duplicate_identity),
];

fn later(incarnation: u64) -> Version {
    Version { incarnation: incarnation + 1_000, counter: 1 }
}

fn offers_of_own(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let owner = Tag::from(&member.daemon.key);
    for life in 0..20 {
        let offer = Offer { owner, version: later(member.daemon.incarnation + life * 2_000) };
        member.say(&Message::Offers(vec![offer; 1_024]))?;
    }
    member.wait_for(
        SETTLED,
        "the daemon asks for the set",
        |heard| matches!(heard, Message::Asks(asks) if asks.iter().any(|ask| ask.owner == owner)),
    )
}

fn offers_of_another(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let owner = Tag::from(&other_key(stage)?);
    member.say(&Message::Offers(vec![Offer { owner, version: later(u64::MAX - 1_000) }]))?;
    member.wait_for(
        SETTLED,
        "the daemon asks for the set",
        |heard| matches!(heard, Message::Asks(asks) if asks.iter().any(|ask| ask.owner == owner)),
    )
}

fn versions_of_all(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let owners = [Tag::from(&member.daemon.key), Tag::from(&other_key(stage)?)];
    let offers = owners.map(|owner| Offer { owner, version: later(member.daemon.incarnation) });
    member.say(&Message::Versions(Versions { buckets: u64::MAX, offers: offers.to_vec() }))
}

fn duplicate_identity(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    member.say(&Message::Refusal(Refusal::DuplicateIdentity { key: member.daemon.key }))?;
    member.wait_end(SETTLED)
}

fn other_key(stage: &Stage) -> Result<PeerKey> {
    let mut key = PeerKey([0; 32]);
    for (octet, digits) in key.0.iter_mut().zip(stage.keys[1].as_bytes().chunks(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(digits)?, 16)?;
    }
    Ok(key)
}
