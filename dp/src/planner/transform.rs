//! Convolution of two distributions by a fast Fourier transform, with a bound on its rounding error.

/// A complex number.
type Complex = (f64, f64);

/// `a * b` without what rounding left below zero, and a bound on the sum of all rounding errors.
pub(super) fn convolve(a: &[f64], b: &[f64]) -> (Vec<f64>, f64) {
    let length = (a.len() + b.len()).saturating_sub(1);
    let size = length.next_power_of_two();
    let roots = roots(size);
    let spectrum = |values: &[f64]| {
        let mut padded: Vec<Complex> = values.iter().map(|value| (*value, 0.0)).collect();
        padded.resize(size, (0.0, 0.0));
        transform(&mut padded, &roots);
        padded
    };
    // The conjugate of the product transforms to the conjugate of the sum, which is real.
    let mut product: Vec<Complex> = spectrum(a)
        .into_iter()
        .zip(spectrum(b))
        .map(|((a, b), (c, d))| (a * c - b * d, -(a * d + b * c)))
        .collect();
    transform(&mut product, &roots);
    let scale = 1.0 / count(size);
    let sum = product.into_iter().take(length).map(|(real, _)| (real * scale).max(0.0)).collect();
    // Each entry is off by a few units of rounding for each of the layers, relative to the norms of the two.
    let norm = |values: &[f64]| values.iter().map(|value| value * value).sum::<f64>().sqrt();
    let layers = f64::from(size.max(2).ilog2());
    (sum, count(size) * layers * 8.0 * f64::EPSILON * norm(a) * norm(b))
}

/// `exp(-2πi j / size)` for the first half of the circle.
fn roots(size: usize) -> Vec<Complex> {
    (0..size / 2)
        .map(|j| {
            let angle = -std::f64::consts::TAU * count(j) / count(size);
            (angle.cos(), angle.sin())
        })
        .collect()
}

/// The transform in place; the length is a power of two.
fn transform(values: &mut [Complex], roots: &[Complex]) {
    let size = values.len();
    if size < 2 {
        return;
    }
    let bits = size.ilog2();
    for i in 0..size {
        let j = i.reverse_bits() >> (usize::BITS - bits);
        if i < j {
            values.swap(i, j);
        }
    }
    let mut width = 2;
    while width <= size {
        let stride = size / width;
        for block in values.chunks_exact_mut(width) {
            let (low, high) = block.split_at_mut(width / 2);
            for ((low, high), root) in low.iter_mut().zip(high).zip(roots.iter().step_by(stride)) {
                let turned = (high.0 * root.0 - high.1 * root.1, high.0 * root.1 + high.1 * root.0);
                *high = (low.0 - turned.0, low.1 - turned.1);
                *low = (low.0 + turned.0, low.1 + turned.1);
            }
        }
        width *= 2;
    }
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn convolution_is_what_adding_up_every_pair_gives() {
        for (m, n) in [(1, 1), (1, 5), (7, 7), (100, 33), (511, 514)] {
            let values = |count: u32, seed: u32| -> Vec<f64> {
                (0..count).map(|i| f64::from((i * 7919 + seed) % 101) / 5000.0).collect()
            };
            let (a, b) = (values(m, 3), values(n, 5));
            let mut expected = vec![0.0; a.len() + b.len() - 1];
            for (i, x) in a.iter().enumerate() {
                for (j, y) in b.iter().enumerate() {
                    expected[i + j] += x * y;
                }
            }
            let (sum, error) = convolve(&a, &b);
            let off: f64 = sum.iter().zip(&expected).map(|(x, y)| (x - y).abs()).sum();
            assert_eq!(sum.len(), expected.len());
            assert!(off <= error && error < 1e-8, "{m} {n}: {off} {error}");
        }
    }
}
