//! What a container is called: by a label, else by its name in the request; then matched and replaced.

use std::collections::BTreeMap;

use regex::Regex;

/// The label by which the ECS agent tells what its task definition calls a container.
pub const ECS_NAME_LABEL: &str = "com.amazonaws.ecs.container-name";
/// What the ECS agent calls containers of its own.
const ECS_INTERNAL: &str = "~internal~ecs";
/// One of them stands for a container of the task, whose name follows.
pub const ECS_PAUSE: &str = "~internal~ecs~pause-";

/// An expression that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("`{expression}` is no regular expression: {reason}")]
pub struct NameRuleError {
    expression: String,
    reason: regex::Error,
}

/// How a container's host name is made.
#[derive(Clone, Debug, Default)]
pub struct NameRule {
    label: Option<String>,
    replaced: Option<(Regex, String)>,
}

impl NameRule {
    /// From the value of the label if one is given and the container has it; every match of `expression` is replaced, with
    /// `$1` for what its first group matched.
    ///
    /// # Errors
    /// When the expression is none.
    pub fn new(label: Option<String>, expression: &str, replacement: &str) -> Result<Self, NameRuleError> {
        let pattern =
            Regex::new(expression).map_err(|reason| NameRuleError { expression: expression.to_owned(), reason })?;
        Ok(Self { label, replaced: Some((pattern, replacement.to_owned())) })
    }

    /// The host name, without a domain; nothing when there is no name that could be one.
    pub(super) fn name(&self, labels: &BTreeMap<String, String>, name: Option<&str>) -> Option<String> {
        let labelled = self.label.as_ref().and_then(|label| labels.get(label)).or_else(|| labels.get(ECS_NAME_LABEL));
        let name = match labelled {
            Some(name) if name.starts_with(ECS_INTERNAL) => name.strip_prefix(ECS_PAUSE)?,
            Some(name) => name,
            None => name?,
        };
        let name = match &self.replaced {
            Some((pattern, replacement)) => pattern.replace_all(name, replacement).into_owned(),
            None => name.to_owned(),
        };
        is_hostname(&name).then_some(name)
    }
}

/// What Docker takes for the name of a container: nothing that could end a line or a word of `/etc/hosts`.
fn is_hostname(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

/// Whether the ECS agent made the container for itself.
pub(super) fn is_internal_to_ecs(labels: &BTreeMap<String, String>) -> bool {
    labels.get(ECS_NAME_LABEL).is_some_and(|name| name.starts_with(ECS_INTERNAL))
}

/// A host's names as `/etc/hosts` has them: the full one, then the part before the first dot.
pub(super) fn names_of(hostname: &str, domain: &str) -> Vec<String> {
    let full = if domain.is_empty() { hostname.to_owned() } else { format!("{hostname}.{domain}") };
    let full = full.trim_matches('.');
    if !is_hostname(full) {
        return Vec::new();
    }
    match full.split_once('.') {
        Some((short, _)) => vec![full.to_owned(), short.to_owned()],
        None => vec![full.to_owned()],
    }
}
