//! What `nft` shows of our tables, taken apart as they were put together: its words are not ours, and differ from release to
//! release, so only what it shows at one time can be compared with what it shows at another.

use std::collections::{BTreeMap, BTreeSet};

use super::{ASKERS, chain_names};
use crate::plan::LinkName;

/// Without blank lines, counters, and who asked how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// All but the chains of the devices that are known.
    pub common: String,
    pub chains: BTreeMap<LinkName, String>,
}

impl Listing {
    /// Takes apart what `nft -s list table` shows.
    pub fn of(text: &str, devices: &BTreeSet<LinkName>) -> Self {
        let heading = |chain: String| format!("\tchain {chain} {{");
        let owners: BTreeMap<String, &LinkName> =
            devices.iter().flat_map(|device| chain_names(device).map(|chain| (heading(chain), device))).collect();
        let (mut listing, mut owner) = (Self::default(), None);
        for line in without_askers(text) {
            owner = owner.or_else(|| owners.get(line).copied());
            let part = match owner {
                Some(device) => listing.chains.entry(device.clone()).or_default(),
                None => &mut listing.common,
            };
            part.push_str(line);
            part.push('\n');
            owner = owner.filter(|_| line != BLOCK_END);
        }
        listing
    }
}

/// Ends a chain or a set.
const BLOCK_END: &str = "\t}";

fn without_askers(text: &str) -> impl Iterator<Item = &str> {
    let heading = format!("\tset {ASKERS} {{");
    let mut is_inside = false;
    text.lines().filter(|line| !line.is_empty()).filter(move |line| {
        is_inside |= *line == heading;
        let is_kept = !is_inside;
        is_inside &= *line != BLOCK_END;
        is_kept
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "table netdev weave-rs-weave {\n\tset askers {\n\t\telements = { \"a\" . \"b\" }\n\t}\n\n\
                        \tchain query {\n\t}\n\n\tchain p1 {\n\t\ta\n\t}\n\n\tchain p1-out {\n\t\tb\n\t}\n\n\
                        \tchain p2 {\n\t\tc\n\t}\n}\n";

    fn devices(names: &[&str]) -> BTreeSet<LinkName> {
        names.iter().map(|name| name.parse().expect("name")).collect()
    }

    #[test]
    fn what_is_of_one_device_is_told_from_the_rest_and_who_asked_how_often_is_left_out() {
        let listing = Listing::of(TEXT, &devices(&["p1"]));

        assert_eq!(
            listing.common,
            "table netdev weave-rs-weave {\n\tchain query {\n\t}\n\tchain p2 {\n\t\tc\n\t}\n}\n"
        );
        let chains = "\tchain p1 {\n\t\ta\n\t}\n\tchain p1-out {\n\t\tb\n\t}\n";
        assert_eq!(listing.chains.into_values().collect::<Vec<_>>(), [chains]);
    }

    #[test]
    fn what_devices_have_in_common_is_the_same_whichever_there_are() {
        let without = TEXT.replace("\tchain p2 {\n\t\tc\n\t}\n", "");
        let known = devices(&["p1", "p2"]);

        assert_eq!(Listing::of(TEXT, &known).common, Listing::of(&without, &known).common);
    }
}
