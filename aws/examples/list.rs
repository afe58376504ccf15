//! Who is in the group of this instance, once: `list`, with AWS's own variables.

use std::collections::BTreeSet;
use std::io::Write;

use weave_aws::{Cloud, Settings};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut cloud = Cloud::new(Settings::of_environment()?);
    let listing = cloud.list(&BTreeSet::new()).await?;
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "{} in {:?}: {:?} desired, complete: {}",
        listing.own, listing.scope, listing.desired, listing.complete
    )?;
    for instance in &listing.instances {
        let lifecycle = instance.lifecycle.as_ref().map(ToString::to_string).unwrap_or_default();
        let address = instance.address.map(|address| address.to_string()).unwrap_or_default();
        writeln!(out, "{} {address} {} {lifecycle} launched {}", instance.id, instance.state, instance.launched)?;
    }
    listing.problems.iter().try_for_each(|problem| writeln!(out, "problem: {problem}"))?;
    Ok(())
}
