//! What the answers say, decoded: bytes in, values out.

pub(crate) mod autoscaling;
pub(crate) mod ec2;
pub(crate) mod fault;
pub(crate) mod ssm;

/// A part of an answer in several.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// What to ask the next part with, if there is one.
    pub(crate) next: Option<String>,
}

/// Whether there is a next page: AWS leaves the token out of the last one, or empty.
fn token(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}
