//! What a container is called: by a label, else by its engine; then matched and replaced.

use std::collections::BTreeMap;

use regex::Regex;

/// The label by which the ECS agent tells what its task definition calls a container.
const ECS_NAME_LABEL: &str = "com.amazonaws.ecs.container-name";
/// What the ECS agent calls containers of its own.
const ECS_INTERNAL: &str = "~internal~ecs";
/// One of them stands for a container of the task, whose name follows.
const ECS_PAUSE: &str = "~internal~ecs~pause-";

/// An expression that cannot be used.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{expression}` is no regular expression: {reason}")]
pub struct NameRuleError {
    expression: String,
    reason: regex::Error,
}

/// How a container's name on the network is made.
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

    /// The name, without a domain; nothing when there is none that could be a host's.
    pub(crate) fn name(&self, labels: &BTreeMap<String, String>, name: Option<&str>) -> Option<String> {
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
pub(crate) fn is_hostname(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_.-".contains(letter))
}

/// Whether the ECS agent made the container for itself.
pub(super) fn is_internal_to_ecs(labels: &BTreeMap<String, String>) -> bool {
    labels.get(ECS_NAME_LABEL).is_some_and(|name| name.starts_with(ECS_INTERNAL))
}

/// A host name with its domain, if it was given one: apart from it, or behind a dot.
pub fn with_domain(hostname: &str, domain: &str) -> Option<String> {
    match domain {
        "" => hostname.contains('.').then(|| hostname.to_owned()),
        domain => Some(format!("{hostname}.{domain}")),
    }
}
