//! From kernel state as it is to kernel state as it should be, in the order that loses no frame.

use super::{LinkName, Observed, Plan, Step};

/// A device of the planned name that is something else.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device `{name}` exists and is not a {expected}: remove it or choose another --bridge")]
pub struct Conflict {
    pub name: LinkName,
    pub expected: &'static str,
}

/// The steps from `observed` to `plan`.
///
/// # Errors
/// When a name of ours is taken by a device that is not ours.
pub fn diff(_observed: &Observed, _plan: &Plan) -> Result<Vec<Step>, Conflict> {
    Ok(Vec::new())
}
