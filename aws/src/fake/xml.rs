//! XML, written: leaves and what is around them.

/// A leaf.
pub(super) fn leaf(name: &str, text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    format!("<{name}>{text}</{name}>")
}

/// Elements of one name, each around a part.
pub(super) fn each(name: &str, parts: impl IntoIterator<Item = String>) -> String {
    parts.into_iter().map(|part| within(name, &part)).collect()
}

/// An element around others.
pub(super) fn within(name: &str, inner: &str) -> String {
    format!("<{name}>{inner}</{name}>")
}
