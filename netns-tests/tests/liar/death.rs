//! Lies about who is dead: addresses are given as before, on both hosts.

use anyhow::Result;
use weave_mesh::identity::PeerKey;
use weave_mesh::ipam::{Certificate, Reason, RingNews};
use weave_mesh::wire::Message;
use weave_netns_tests::member::{Liar, Member};

use super::identity::other_key;
use super::{Lie, Stage};

pub(crate) const LIES: &[Lie] = &[
    ("everybody is dead", everybody),
    ("everybody is dead, as fifteen strangers have it", by_strangers),
    ("the other's successor is the liar", succeeded),
];

/// What `by` says of the daemon, whose card is known, and of the other, as an operator would.
fn certificates(member: &Member, by: &Liar, other: PeerKey) -> Vec<Certificate> {
    let mesh = member.liar.card.mesh;
    let known = Some((member.daemon.incarnation, member.daemon_card.clone()));
    let accused = [(member.daemon.key, known), (other, None)];
    let reason = Reason::Operator { successor: None };
    accused.map(|(dead, newest)| Certificate::sign(&by.identity, mesh, dead, reason.clone(), newest)).into()
}

fn tell(member: &Member, certificates: Vec<Certificate>) -> Result<()> {
    let news = RingNews { certificates, ..RingNews::default() };
    member.say(&Message::RingNews(news))
}

pub(crate) fn assert_gives(stage: &Stage) -> Result<()> {
    for (weave, host) in stage.scene.weaves.iter().zip(&stage.scene.hosts) {
        let container = host.container()?;
        weave.run(&["attach", "--wait", "10", &container.target()])?;
        weave.run(&["detach", &container.target()])?;
    }
    Ok(())
}

fn everybody(stage: &Stage) -> Result<()> {
    assert_gives(stage)?;
    let member = stage.member(66)?;
    member.publish(1, [])?;
    tell(&member, certificates(&member, &member.liar, other_key(stage)?))?;
    assert_gives(stage)
}

fn by_strangers(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    let other = other_key(stage)?;
    tell(&member, (100..115).flat_map(|number| certificates(&member, &Liar::new(number), other)).collect())?;
    assert_gives(stage)
}

fn succeeded(stage: &Stage) -> Result<()> {
    let member = stage.member(66)?;
    member.publish(2, [])?;
    let Liar { identity, card, .. } = &member.liar;
    let reason = Reason::Outlived { successor: identity.key() };
    tell(&member, vec![Certificate::sign(identity, card.mesh, other_key(stage)?, reason, None)])?;
    assert_gives(stage)
}
