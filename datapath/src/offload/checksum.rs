//! The internet checksum (RFC 1071): sums of 16-bit words in ones' complement.

/// Adds `bytes`, the first of which is the upper half of a word, to an unfolded sum.
pub fn add(sum: u64, bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<4>();
    let sum = words.iter().fold(sum, |sum, word| sum + u64::from(u32::from_be_bytes(*word)));
    let mut last = [0; 4];
    last[..rest.len()].copy_from_slice(rest);
    sum + u64::from(u32::from_be_bytes(last))
}

/// The sum as one word, not complemented.
pub const fn fold(mut sum: u64) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// What a sum becomes when one of its words changes (RFC 1624).
pub const fn replace(sum: u16, old: u16, new: u16) -> u16 {
    fold(sum as u64 + !old as u64 + new as u64)
}

/// The value of a header's or segment's checksum field, which is zero or holds a partial sum while `bytes` are summed.
pub fn finish(bytes: &[u8]) -> u16 {
    !fold(add(0, bytes))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As RFC 1071 says it, word by word.
    fn plain(bytes: &[u8]) -> u16 {
        let word = |pair: &[u8]| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0));
        let mut sum: u32 = bytes.chunks(2).map(word).sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    proptest! {
        #[test]
        fn the_sum_is_that_of_all_words(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert_eq!(fold(add(0, &bytes)), plain(&bytes));
        }

        #[test]
        fn a_replaced_word_changes_the_sum_as_summing_again_would(mut words: [u8; 8], new: u16) {
            let before = plain(&words);
            let old = u16::from_be_bytes([words[2], words[3]]);
            words[2..4].copy_from_slice(&new.to_be_bytes());
            // Zero has two forms in ones' complement.
            prop_assert_eq!(replace(before, old, new) % 0xffff, plain(&words) % 0xffff);
        }
    }
}
