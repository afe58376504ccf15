//! What must hold, beside what was measured.

use std::fmt::Write;

/// One line.
#[derive(Debug)]
pub(crate) struct Limit {
    what: String,
    bound: Bound,
    unit: &'static str,
    measured: Option<f64>,
}

/// On which side of a number the measured one has to be.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Limit {
    /// A figure without a value was not measured in this run.
    pub(crate) fn new(what: impl Into<String>, bound: Bound, unit: &'static str, measured: Option<f64>) -> Self {
        Self { what: what.into(), bound, unit, measured: measured.filter(|value| value.is_finite()) }
    }

    fn verdict(&self) -> &'static str {
        match (self.measured, self.bound) {
            (None, _) => "not measured",
            (Some(value), Bound::AtLeast(least)) if value >= least => "held",
            (Some(value), Bound::AtMost(most)) if value <= most => "held",
            _ => "**missed**",
        }
    }
}

/// The table; nothing without limits.
pub(crate) fn table(limits: &[Limit]) -> String {
    if limits.is_empty() {
        return String::new();
    }
    let mut text = String::from("\n| must hold | limit | measured | |\n|---|---|---|---|\n");
    for limit in limits {
        let (sign, bound) = match limit.bound {
            Bound::AtLeast(least) => (">=", least),
            Bound::AtMost(most) => ("<=", most),
        };
        let measured = limit.measured.map_or_else(|| "-".to_owned(), significant);
        let (what, unit) = (&limit.what, limit.unit);
        let _ = writeln!(text, "| {what} | {sign} {bound} {unit} | {measured} | {} |", limit.verdict());
    }
    text
}

/// Three digits that matter.
pub(crate) fn significant(value: f64) -> String {
    let decimals = match value.abs() {
        100.0.. => 0,
        10.0.. => 1,
        1.0.. => 2,
        _ => 3,
    };
    format!("{value:.decimals$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_says_whether_it_held() {
        let limits = [
            Limit::new("rate", Bound::AtLeast(2.0), "Gbit/s", Some(2.0)),
            Limit::new("time", Bound::AtMost(5.0), "ms", Some(5.1)),
            Limit::new("ratio", Bound::AtLeast(1.0), "", Some(f64::NAN)),
        ];

        let text = table(&limits);

        assert!(text.contains("| rate | >= 2 Gbit/s | 2.00 | held |"), "{text}");
        assert!(text.contains("| time | <= 5 ms | 5.10 | **missed** |"), "{text}");
        assert!(text.contains("| - | not measured |"), "{text}");
    }
}
