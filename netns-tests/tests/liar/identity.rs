//! Lies about who somebody is.

use std::sync::Arc;

use anyhow::{Result, ensure};
use weave_mesh::identity::{PeerKey, Signature};
use weave_mesh::store::{CardRecord, Delta, Part, Tag, Version};
use weave_mesh::wire::{Contact, Goodbye, Message, Offer, Refusal, Testimony, Versions};
use weave_netns_tests::member::Liar;
use weave_netns_tests::scene::SETTLED;

use super::{Lie, Stage};

pub(crate) const LIES: &[Lie] = &[
    ("offers of the daemon's own set from a later life", offers_of_own),
    ("offers of the other daemon's set", offers_of_another),
    ("versions of everybody's sets", versions_of_all),
    ("a refusal: the daemon's key is in use twice", duplicate_identity),
    ("a refusal with a card that proves nothing", outlived_by_another),
    ("a refusal with the daemon's own present card", outlived_by_itself),
    ("a refusal: its name is taken", name_collision),
    ("a referral to nowhere in the other's name", referral),
    ("a goodbye in the other's name", goodbye_of_another),
    ("a set in the other's name", set_of_another),
    ("a change of the other's set", change_of_another),
    ("the other's name", name_of_another),
    ("the daemon's own card in a handshake", card_of_the_daemon),
    ("bytes that are no message", garbage),
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

fn outlived_by_another(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let mut liar = member.liar.clone();
    liar.card.incarnation = u64::MAX;
    let proof = Testimony::Card(liar.signed_card()?);
    member.say(&Message::Refusal(Refusal::Outlived { proof }))?;
    member.wait_end(SETTLED)
}

fn outlived_by_itself(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let proof = Testimony::Card(member.daemon_card.clone());
    member.say(&Message::Refusal(Refusal::Outlived { proof }))?;
    member.wait_end(SETTLED)
}

fn name_collision(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let (name, newcomer, holder) = (member.daemon.name, member.daemon.key, member.liar.key());
    member.say(&Message::Refusal(Refusal::NameCollision { name, holder, newcomer }))?;
    member.wait_end(SETTLED)
}

fn referral(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let contact = Contact { key: other_key(stage)?, addresses: vec![([192, 168, 48, 251], 6783).into()] };
    member.say(&Message::Refusal(Refusal::Referral { contacts: vec![contact; 12] }))?;
    member.wait_end(SETTLED)
}

fn goodbye_of_another(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let liar = &member.liar;
    let goodbye = Goodbye::sign(&liar.identity, liar.card.mesh, u64::MAX);
    for owner in [member.daemon.key, other_key(stage)?] {
        // The signed bytes begin with the owner.
        let mut bytes = Message::Goodbye(goodbye).encode();
        bytes[1..33].copy_from_slice(&owner.0);
        member.say_bytes(&bytes)?;
    }
    Ok(())
}

fn set_of_another(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let owner = other_key(stage)?;
    let mut part = Part::split(&member.liar.set(1, [])?, CardRecord::Include).remove(0);
    (part.owner, part.version) = (owner, later(u64::MAX - 1_000));
    member.say(&Message::Offers(vec![Offer { owner: Tag::from(&owner), version: part.version }]))?;
    member.say(&Message::Part(Arc::new(part)))?;
    member.wait_end(SETTLED)
}

fn change_of_another(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let own = member.liar.set(1, [])?;
    for owner in [member.daemon.key, other_key(stage)?] {
        let mut delta = Delta::between(&own, &member.liar.set(2, [])?);
        (delta.owner, delta.signature) = (Tag::from(&owner), Signature([1; 64]));
        member.say(&Message::Delta(Arc::new(delta)))?;
    }
    Ok(())
}

fn name_of_another(stage: &Stage) -> Result<()> {
    let known = stage.member(66)?;
    let mut liar = Liar::new(70);
    liar.card.name = known.daemon.name;
    let member = liar.dial(stage.place.namespace(), stage.scene.hosts[0].address())?;
    member.wait_for(SETTLED, "it is refused", |heard| matches!(heard, Message::Refusal(Refusal::NameCollision { .. })))
}

fn card_of_the_daemon(stage: &Stage) -> Result<()> {
    let known = stage.member(66)?;
    let mut liar = Liar::new(71);
    liar.card = known.daemon.clone();
    let dialled = liar.dial(stage.place.namespace(), stage.scene.hosts[0].address());
    ensure!(dialled.is_err(), "the daemon took its own card from somebody else");
    Ok(())
}

fn garbage(stage: &Stage) -> Result<()> {
    for bytes in [vec![0xff; 60_000], vec![8], Vec::new()] {
        let member = stage.member(66)?;
        member.say_bytes(&bytes)?;
        member.wait_end(SETTLED)?;
    }
    Ok(())
}

pub(crate) fn other_key(stage: &Stage) -> Result<PeerKey> {
    let mut key = PeerKey([0; 32]);
    for (octet, digits) in key.0.iter_mut().zip(stage.keys[1].as_bytes().chunks(2)) {
        *octet = u8::from_str_radix(std::str::from_utf8(digits)?, 16)?;
    }
    Ok(key)
}
