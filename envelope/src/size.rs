//! The shared set of sizes.
//!
//! The length of a report is fixed by its task, so a sealed message of natural length names the task to the relay
//! and to everyone on the network path. Both ends therefore pad: whatever the task, a sealed message has one of
//! these sizes.

/// Sizes a sealed message may have: powers of two from 512 bytes to 16 MiB.
pub const SIZE_BUCKETS: [usize; 16] = {
    let mut sizes = [SMALLEST; 16];
    let mut n = 1;
    while n < sizes.len() {
        sizes[n] = SMALLEST << n;
        n += 1;
    }
    sizes
};

/// The largest sealed message: the last of [`SIZE_BUCKETS`].
pub const MAX_ENCAPSULATED: usize = SMALLEST << 15;

const SMALLEST: usize = 512;

/// The smallest shared size that holds `length` bytes; `None` when no size does.
pub fn padded_length(length: usize) -> Option<usize> {
    SIZE_BUCKETS.into_iter().find(|&size| size >= length)
}

/// Whether `length` is one of the shared sizes.
pub fn is_padded_length(length: usize) -> bool {
    SIZE_BUCKETS.contains(&length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_double_from_512_bytes_to_16_mebibytes() {
        assert_eq!(SIZE_BUCKETS[0], 512);
        assert_eq!(SIZE_BUCKETS[15], 16 << 20);
        assert_eq!(MAX_ENCAPSULATED, SIZE_BUCKETS[15]);
        assert!(SIZE_BUCKETS.windows(2).all(|pair| pair[1] == pair[0] * 2));
    }

    #[test]
    fn a_length_is_padded_to_the_next_size_up() {
        assert_eq!(padded_length(0), Some(512));
        assert_eq!(padded_length(512), Some(512));
        assert_eq!(padded_length(513), Some(1024));
        assert_eq!(padded_length(16 << 20), Some(16 << 20));
        assert_eq!(padded_length((16 << 20) + 1), None);
    }
}
