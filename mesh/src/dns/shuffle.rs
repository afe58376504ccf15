//! A uniform order of answers: Fisher and Yates, with unbiased draws (Lemire 2019, <https://arxiv.org/abs/1805.10941>).

use rand_core::RngCore;

/// Puts a uniformly drawn sample of `items`, in uniform order, into its first `count` places.
pub fn shuffle_front<T>(items: &mut [T], count: usize, rng: &mut impl RngCore) {
    for place in 0..count.min(items.len().saturating_sub(1)) {
        let rest = u32::try_from(items.len() - place).unwrap_or(u32::MAX);
        items.swap(place, place + below(rest, rng) as usize);
    }
}

/// A uniform number below `limit`, which is not zero.
fn below(limit: u32, rng: &mut impl RngCore) -> u32 {
    loop {
        let product = u64::from(rng.next_u32()) * u64::from(limit);
        // The low half decides whether this draw belongs to the part that would make small numbers more likely.
        if product as u32 >= limit.wrapping_neg() % limit {
            return (product >> 32) as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_core::SeedableRng;

    use super::*;

    const REPLIES: u32 = 10_000;
    /// The 99.9th percentile of chi-squared with 23 degrees of freedom.
    const CRITICAL: f64 = 49.73;

    #[test]
    fn all_orders_of_four_addresses_are_equally_likely() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut counts = std::collections::BTreeMap::<[u8; 4], u32>::new();

        for _ in 0..REPLIES {
            let mut order = [0, 1, 2, 3];
            shuffle_front(&mut order, 4, &mut rng);
            *counts.entry(order).or_default() += 1;
        }

        let expected = f64::from(REPLIES) / 24.0;
        let deviation: f64 = counts.values().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        assert_eq!(counts.len(), 24);
        assert!(deviation < CRITICAL, "chi-squared {deviation}");
    }

    #[test]
    fn each_of_sixty_addresses_is_as_likely_to_be_among_the_fourteen_that_fit() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut counts = [0_u32; 60];

        for _ in 0..REPLIES {
            let mut order: [usize; 60] = std::array::from_fn(|index| index);
            shuffle_front(&mut order, 14, &mut rng);
            order[..14].iter().for_each(|index| counts[*index] += 1);
        }

        // Draws without replacement vary less than chi-squared has it, by (60 - 14) / 59. The 99.9th percentile of 59.
        let expected = f64::from(REPLIES) * 14.0 / 60.0;
        let deviation: f64 = counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum();
        assert!(deviation / (46.0 / 59.0) < 98.3, "chi-squared {deviation}");
    }

    #[test]
    fn few_or_no_items_are_no_problem() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        shuffle_front::<u8>(&mut [], 5, &mut rng);
        let mut one = [1];
        shuffle_front(&mut one, 5, &mut rng);

        assert_eq!(one, [1]);
    }
}
