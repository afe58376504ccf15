//! Order statistics: a shared machine has outliers, so nothing here is a mean.

/// The value below which `share` (0 to 1) of all values lie; zero of none.
pub(crate) fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().saturating_sub(1);
    sorted.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

pub(crate) fn median(values: &[f64]) -> f64 {
    percentile(values, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_median_ignores_an_outlier() {
        assert_eq!(median(&[3.0, 1000.0, 1.0]), 3.0);
        assert_eq!(median(&[]), 0.0);
    }

    #[test]
    fn a_percentile_counts_from_below() {
        let values: Vec<f64> = (0..=100).map(f64::from).collect();

        assert_eq!((percentile(&values, 0.5), percentile(&values, 0.99)), (50.0, 99.0));
    }
}
