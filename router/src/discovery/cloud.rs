//! The machines of a group of AWS, as the roster takes them.

use std::collections::BTreeSet;

use weave_aws::{Cloud, Kind, Settings};
use weave_mesh::roster::{self, Standing};

use super::{List, Trouble};

#[derive(Debug)]
pub(super) struct Machines {
    cloud: Cloud,
}

impl Machines {
    pub(super) fn new(settings: Settings) -> Self {
        Self { cloud: Cloud::new(settings) }
    }

    pub(super) async fn list(&mut self, also: &BTreeSet<String>) -> Result<(List, Option<String>), Trouble> {
        let also = also.iter().filter_map(|id| id.parse().ok()).collect();
        match self.cloud.list(&also).await {
            Ok(listing) => {
                let problems: Vec<String> = listing.problems.iter().map(ToString::to_string).collect();
                let lacking = (!problems.is_empty()).then(|| problems.join("; "));
                Ok((List::Machines(of_aws(&listing)), lacking))
            }
            Err(problem) => Err(Trouble { text: problem.to_string(), is_throttled: problem.kind == Kind::Throttled }),
        }
    }
}

fn of_aws(listing: &weave_aws::Listing) -> roster::Listing {
    let members = listing.instances.iter().map(|it| instance_of_aws(it, Standing::Expected));
    // Who was let go by its group may live on; nobody waits for it.
    let others = listing.others.iter().map(|it| instance_of_aws(it, Standing::Aside));
    roster::Listing {
        own: listing.own.to_string(),
        desired: listing.desired.unwrap_or_default(),
        instances: members.chain(others).collect(),
        is_complete: listing.complete,
    }
}

/// `alive` is what an instance is that runs.
fn instance_of_aws(instance: &weave_aws::Instance, alive: Standing) -> roster::Instance {
    let standing = match (instance.is_gone(), instance.is_expected()) {
        (true, _) => Standing::Gone,
        (false, true) => alive,
        (false, false) => Standing::Aside,
    };
    roster::Instance {
        id: instance.id.to_string(),
        // EC2 does not know yet whom only its group names: it is among the youngest.
        launched: u64::try_from(instance.launched).ok().filter(|launched| *launched > 0).unwrap_or(u64::MAX),
        address: instance.address.map(Into::into),
        standing,
    }
}
