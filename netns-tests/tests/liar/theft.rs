//! Lies about who owns which addresses: everybody owns what it did, and gives of it.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use weave_mesh::identity::{Hash, PeerKey};
use weave_mesh::ipam::{Estate, Range, Right, RingNews, Succession, Transfer, Version};
use weave_mesh::name::PeerName;
use weave_mesh::wire::Message;
use weave_netns_tests::member::{Liar, Member};
use weave_netns_tests::scene::SETTLED;

use super::death::assert_gives;
use super::identity::other_key;
use super::{Lie, Stage};

pub(crate) const LIES: &[Lie] = &[
    ("the dead left it all to the liar", inherited),
    ("the dead left it to the liar, as fifteen strangers approve", approved_by_strangers),
    ("all of it was granted to the liar", granted),
    ("all of it was reserved for the liar", bound),
];

/// Numbers that a thief would try: the next, the last, and what lies between.
const VERSIONS: [Version; 6] = [
    Version { epoch: 0, count: 1 },
    Version { epoch: 0, count: u32::MAX },
    Version { epoch: 1, count: 0 },
    Version { epoch: 2, count: 0 },
    Version { epoch: 1_000, count: 1 },
    Version { epoch: u32::MAX, count: u32::MAX },
];

/// What launch gives addresses from by itself: 10.32.0.0/12.
pub(crate) const RANGE: Range = Range { first: 0x0a20_0000, last: 0x0a2f_ffff };

/// A liar, its connection, and the ring that the honest have.
struct Thief {
    member: Member,
    ring: Hash,
    owners: [PeerKey; 2],
}

/// The ring that the daemon has.
pub(crate) fn ring_of(member: &Member) -> Result<Hash> {
    let ring = |message: &Message| match message {
        Message::RingState(state) => state.ring,
        _ => None,
    };
    member.wait_for(SETTLED, "the ring", |message| ring(message).is_some())?;
    member.heard(ring).context("it is forgotten")
}

impl Thief {
    fn new(stage: &Stage) -> Result<Self> {
        assert_gives(stage)?;
        let member = stage.member(66)?;
        member.publish(1, [])?;
        let ring = ring_of(&member)?;
        let owners = [member.daemon.key, other_key(stage)?];
        Ok(Self { member, ring, owners })
    }

    /// Tells transfers of everything to itself, by each of these rights, and what is to justify them.
    fn tell(&self, rights: &[Right], succession: Option<Succession>) -> Result<()> {
        let liar = &self.member.liar.identity;
        let sign = |right: &Right| {
            VERSIONS.map(|version| Arc::new(Transfer::sign(&self.ring, RANGE, version, *right, liar.key(), liar)))
        };
        let transfers = rights.iter().flat_map(sign).collect();
        let (ring, succession) = (Some(self.ring), succession.map(Box::new));
        let news = RingNews { ring, transfers, succession, ..RingNews::default() };
        self.member.say(&Message::RingNews(news))
    }

    fn by_each(&self, right: impl Fn(PeerKey) -> Right) -> Vec<Right> {
        let thief = self.member.liar.key();
        self.owners.into_iter().chain([thief]).map(right).collect()
    }

    fn approvals(&self, dead: PeerKey, by: impl IntoIterator<Item = Liar>) -> Succession {
        let estate = Estate { dead, heir: self.member.liar.key(), id: 1 };
        let approve = |by: Liar| (by.key(), estate.approve(&self.ring, u64::MAX, &by.identity));
        Succession { estate, approvals: by.into_iter().map(approve).collect() }
    }
}

/// Who owns how much, as both hosts show it, and no complaint about the honest.
fn owners(stage: &Stage) -> Result<Vec<String>> {
    let mut owners = Vec::new();
    for weave in &stage.scene.weaves {
        let table = weave.run(&["status", "ipam"])?;
        let mut lines: Vec<&str> = table.lines().filter_map(|line| Some(line.split_once(" IPs ")?.0)).collect();
        ensure!(!table.contains("gave away"), "somebody honest is blamed: {table}");
        lines.sort_unstable();
        owners.push(lines.join("\n"));
    }
    Ok(owners)
}

fn steal(stage: &Stage, lie: impl Fn(&Thief) -> Result<()>) -> Result<()> {
    let thief = Thief::new(stage)?;
    let before = owners(stage)?;
    lie(&thief)?;
    assert_gives(stage)?;
    let after = owners(stage)?;
    ensure!(before == after, "owners were {before:#?} and are {after:#?}");
    Ok(())
}

fn inherited(stage: &Stage) -> Result<()> {
    steal(stage, |thief| thief.tell(&thief.by_each(|from| Right::TakeOver { from, id: 1 }), None))
}

fn approved_by_strangers(stage: &Stage) -> Result<()> {
    steal(stage, |thief| {
        for dead in thief.owners {
            let strangers = (100..115).chain([66]).map(Liar::new);
            thief.tell(&[Right::TakeOver { from: dead, id: 1 }], Some(thief.approvals(dead, strangers)))?;
        }
        Ok(())
    })
}

fn granted(stage: &Stage) -> Result<()> {
    steal(stage, |thief| thief.tell(&[Right::Grant { from: thief.member.liar.key() }], None))
}

fn bound(stage: &Stage) -> Result<()> {
    steal(stage, |thief| {
        let names = [thief.member.liar.card.name, thief.member.daemon.name, PeerName([0, 0, 0, 0, 0, 1])];
        thief.tell(&names.map(|name| Right::Bind { name }), None)
    })
}
