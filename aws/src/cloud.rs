//! The cloud as the rest of us sees it: who is in the group of this instance.
//!
//! ```text
//!   own tags ─┬─ weave:peerGroupName ─→ instances with this value ─→ their Auto Scaling groups ─┐
//!             └─ none ─→ own Auto Scaling group ─→ its instances ─→ the group ──────────────────┴→ Listing
//! ```
//!
//! The role of the instance must allow `ec2:DescribeInstances`. With `autoscaling:DescribeAutoScalingGroups` a listing has
//! desired capacity and lifecycle states, too; `autoscaling:DescribeAutoScalingInstances` finds the group of an instance
//! that EC2 shows without a tag of it; `ssm:GetParameter` is for a secret kept there.

use std::collections::BTreeSet;

use crate::answers::ec2::PEER_GROUP_TAG;
use crate::client::Client;
use crate::credentials::Secret;
use crate::identity::{Identity, InstanceId};
use crate::imds::Presence;
use crate::listing::merge::{desired, groups_of, merge, plain, scope_of};
use crate::listing::{Listing, Scope};
use crate::problem::{Call, Kind, Problem};
use crate::settings::Settings;

/// AWS, as the instance that we run on may ask it.
#[derive(Debug)]
pub struct Cloud {
    client: Client,
    /// What the last listing showed to be the scope.
    scope: Option<Scope>,
}

impl Cloud {
    pub fn new(settings: Settings) -> Self {
        Self { client: Client::new(settings), scope: None }
    }

    /// Whether this is an instance at all. Takes two seconds at most.
    pub async fn probe(&self) -> Presence {
        self.client.imds.probe().await
    }

    /// Which instance this is; asked once, then known.
    ///
    /// # Errors
    /// When IMDS does not tell.
    pub async fn identity(&mut self) -> Result<Identity, Problem> {
        self.client.identity().await
    }

    /// The value of a parameter of Systems Manager, decrypted: where a secret is kept.
    ///
    /// # Errors
    /// When there is none or the role may not read it.
    pub async fn parameter(&mut self, name: &str) -> Result<Secret, Problem> {
        self.client.parameter(name).await
    }

    /// Who is in the group of this instance now: those with its tag `weave:peerGroupName`, else those of its Auto Scaling
    /// group. A listing with problems is of use as far as it goes. `also` are looked for by their ids if the listing lacks
    /// them.
    ///
    /// # Errors
    /// When nobody can be listed at all, or this instance is in no group.
    pub async fn list(&mut self, also: &BTreeSet<InstanceId>) -> Result<Listing, Problem> {
        let own = self.client.identity().await?.instance;
        let scope = match self.scope.take() {
            Some(scope) => scope,
            None => self.find_scope(&own).await?,
        };
        let described = self.client.instances(&scope).await;
        if described.items.is_empty()
            && let Some(problem) = described.problem
        {
            return Err(problem);
        }
        // If its tags have changed, the next listing is of another scope.
        self.scope = described.items.iter().find(|it| it.id == own).and_then(scope_of);
        let groups = self.client.groups(groups_of(&scope, &described.items)).await;
        let listed: BTreeSet<&InstanceId> = described.items.iter().map(|it| &it.id).collect();
        let lacking: Vec<InstanceId> = also.iter().filter(|id| !listed.contains(id)).cloned().collect();
        let others = self.client.named(&lacking).await;
        let is_whole =
            described.problem.is_none() && others.problem.is_none() && groups.problem.as_ref().is_none_or(is_denied);
        let desired = desired(&groups.items).filter(|_| groups.problem.is_none());
        let mut problems: Vec<Problem> =
            described.problem.into_iter().chain(groups.problem).chain(others.problem).collect();
        let is_in_it = described.items.iter().any(|it| it.id == own);
        problems.extend((!is_in_it).then(|| unknown(&own)));
        let instances = merge(&scope, described.items, groups.items);
        let others = others.items.into_iter().map(plain).collect();
        Ok(Listing { own, scope, desired, instances, others, complete: is_whole && is_in_it, problems })
    }

    async fn find_scope(&mut self, own: &InstanceId) -> Result<Scope, Problem> {
        let described = self.client.instance(own).await?.ok_or_else(|| unknown(own))?;
        if let Some(scope) = scope_of(&described) {
            return Ok(scope);
        }
        let call = Call::DescribeAutoScalingInstances;
        let what = format!("{own} has no tag {PEER_GROUP_TAG} and is in no Auto Scaling group");
        let group = self.client.group_of(own).await?;
        group.map(Scope::Group).ok_or_else(|| Problem::new(call, Kind::Failed, what))
    }
}

/// A listing without what Auto Scaling tells rests on EC2 alone.
fn is_denied(problem: &Problem) -> bool {
    problem.kind == Kind::Denied
}

fn unknown(own: &InstanceId) -> Problem {
    let what = format!("{own} is not in the answer; are the credentials of its account?");
    Problem::new(Call::DescribeInstances, Kind::Failed, what)
}
