//! Random rotations by Hadamard matrices: `Q = diag(±1) · H / √n`, applied in `n log n`.
//!
//! `H` is the Kronecker product of Sylvester's matrix of a power of two and one of Paley's, whose order is `q + 1` for a
//! prime `q ≡ 3 (mod 4)` or `2(q + 1)` for a prime `q ≡ 1 (mod 4)`: 12, 20, 28, 36, 44, 60, … Every number of channels
//! that language models have is such a product.
//!
//! Source: R. E. A. C. Paley, On orthogonal matrices, 1933.

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Rotation {
    signs: Vec<f32>,
    /// The factor that is no power of two, `[order, order]`; `[1]` where there is none.
    base: Vec<f32>,
    order: usize,
}

/// The largest order of Paley's matrices that is tried.
const LARGEST: usize = 256;

impl Rotation {
    /// A rotation of `n` channels, the same for the same seed; `None` where no Hadamard matrix of that order is known here.
    pub fn new(n: usize, seed: u64) -> Option<Rotation> {
        let odd = n.checked_shr(n.trailing_zeros()).filter(|odd| *odd > 0)?;
        let orders = (0..=n.trailing_zeros()).map(|k| odd << k).take_while(|order| *order <= LARGEST);
        let (order, base) = orders.filter_map(|order| Some((order, paley(order)?))).next()?;
        let signs =
            (0..n as u64).map(|i| if split_mix(seed.wrapping_add(i)) >> 63 == 0 { 1.0 } else { -1.0 }).collect();
        Some(Rotation { signs, base, order })
    }

    /// How many channels it turns.
    pub fn len(&self) -> usize {
        self.signs.len()
    }

    /// Turns channels in place: channel `i` is the numbers `x[i·width..][..width]`, as many rotations as there is `x`.
    pub fn apply(&self, x: &mut [f32], width: usize) {
        x.chunks_exact_mut(self.len() * width).for_each(|x| self.one(x, width));
    }

    fn one(&self, x: &mut [f32], width: usize) {
        let norm = 1.0 / (self.len() as f32).sqrt();
        let signed = x.chunks_exact_mut(width).zip(&self.signs);
        signed.for_each(|(x, sign)| x.iter_mut().for_each(|x| *x *= sign * norm));
        let unit = self.order * width;
        let mut half = unit;
        while half < x.len() {
            for pair in x.chunks_exact_mut(2 * half) {
                let (a, b) = pair.split_at_mut(half);
                a.iter_mut().zip(b).for_each(|(a, b)| (*a, *b) = (*a + *b, *a - *b));
            }
            half *= 2;
        }
        if self.order > 1 {
            x.chunks_exact_mut(unit).for_each(|x| self.turn(x, width));
        }
    }

    /// The product with the factor that is no power of two.
    fn turn(&self, x: &mut [f32], width: usize) {
        let from = x.to_vec();
        x.fill(0.0);
        for (from, signs) in from.chunks_exact(width).zip(self.base.chunks_exact(self.order)) {
            for (to, sign) in x.chunks_exact_mut(width).zip(signs) {
                to.iter_mut().zip(from).for_each(|(to, from)| *to += sign * from);
            }
        }
    }
}

/// A Hadamard matrix of this order, if it is 1 or Paley's.
fn paley(order: usize) -> Option<Vec<f32>> {
    if order == 1 {
        return Some(vec![1.0]);
    }
    let q = order.checked_sub(1).filter(|q| q % 4 == 3 && is_prime(*q));
    let half = (order / 2).checked_sub(1).filter(|q| order.is_multiple_of(2) && q % 4 == 1 && is_prime(*q));
    q.map(first).or_else(|| half.map(second))
}

/// `χ(a − b)` over the field of `q`, bordered by ones (row and column 0): 0 in the corner and where `a = b`.
fn bordered(q: usize, column: f32) -> impl Fn(usize, usize) -> f32 {
    let mut square = vec![false; q];
    (1..q).for_each(|i| square[i * i % q] = true);
    move |i, j| match (i, j) {
        (0, 0) => 0.0,
        (0, _) => 1.0,
        (_, 0) => column,
        (i, j) if i == j => 0.0,
        (i, j) if square[(i + q - j) % q] => 1.0,
        _ => -1.0,
    }
}

/// `I + S`, `S` skew.
fn first(q: usize) -> Vec<f32> {
    let (n, s) = (q + 1, bordered(q, -1.0));
    (0..n * n).map(|k| s(k / n, k % n) + if k / n == k % n { 1.0 } else { 0.0 }).collect()
}

/// Each number of a symmetric `S` becomes a block of four, zeros another one.
fn second(q: usize) -> Vec<f32> {
    let (n, s) = (2 * (q + 1), bordered(q, 1.0));
    let block = |i: usize, j: usize| match s(i / 2, j / 2) {
        0.0 => [[1.0, -1.0], [-1.0, -1.0]][i % 2][j % 2],
        x => x * [[1.0, 1.0], [1.0, -1.0]][i % 2][j % 2],
    };
    (0..n * n).map(|k| block(k / n, k % n)).collect()
}

fn is_prime(n: usize) -> bool {
    n > 1 && (2..).take_while(|d| d * d <= n).all(|d| !n.is_multiple_of(d))
}

/// SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
fn split_mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotations_are_orthogonal_dense_and_the_same_along_both_axes() {
        for n in [1, 2, 12, 20, 24, 28, 36, 64, 96, 576, 1536] {
            let rotation = Rotation::new(n, 7).unwrap_or_else(|| panic!("no rotation of {n}"));
            let mut q = vec![0f32; n * n];
            (0..n).for_each(|i| q[i * n + i] = 1.0);
            rotation.apply(&mut q, 1);
            let size = 1.0 / (n as f32).sqrt();
            assert!(q.iter().all(|x| (x.abs() - size).abs() < 1e-5), "{n}: all numbers of a Hadamard matrix are alike");
            // Qᵀ·Q, by turning the columns of Q: Qᵀc is what turning does to a column c.
            let mut product = q.clone();
            rotation.apply(&mut product, n);
            for i in 0..n {
                let row = &product[i * n..][..n];
                let turned = row.iter().enumerate().all(|(j, x)| (x - f32::from(u8::from(i == j))).abs() < 1e-4);
                assert!(turned, "{n}: row {i} of QᵀQ is none of the identity");
            }
        }
    }

    #[test]
    fn orders_without_a_known_matrix_are_refused_and_seeds_matter() {
        assert!([0, 3, 6, 172 / 2, 11].into_iter().all(|n| Rotation::new(n, 0).is_none()));
        let signs = |seed| Rotation::new(64, seed).unwrap().signs;
        assert_eq!(signs(1), signs(1));
        assert_ne!(signs(1), signs(100));
    }
}
