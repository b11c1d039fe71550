//! A bf16 weight in the order in which every path reads it.
//!
//! Outputs are taken in panels of [`PANEL`]. Within a panel, pairs of consecutive inputs are the rows, and each row holds
//! that pair for every output of the panel: 32 outputs × 2 bf16 = two AVX-512 registers, or the rows of two AMX tiles.
//! Outputs are padded with zeros to a whole panel, inputs to a whole AMX tile (32).

use half::bf16;

/// Outputs of a panel.
pub(crate) const PANEL: usize = 32;
/// Inputs are padded to a multiple of this.
pub(crate) const DEPTH: usize = 32;

/// A weight `[outputs, inputs]` packed for [`super::linear_bf16`].
#[derive(Clone, Debug)]
pub struct PackedBf16 {
    outputs: usize,
    inputs: usize,
    pairs: Vec<[u32; PANEL]>,
}

impl PackedBf16 {
    /// Packs a row-major weight `[outputs, inputs]`.
    ///
    /// # Panics
    /// When the length does not agree.
    pub fn pack(w: &[bf16], outputs: usize, inputs: usize) -> Self {
        assert_eq!(w.len(), outputs * inputs, "weight length");
        let depth = inputs.next_multiple_of(DEPTH) / 2;
        let mut pairs = vec![[0u32; PANEL]; outputs.div_ceil(PANEL) * depth];
        for (output, row) in w.chunks_exact(inputs.max(1)).enumerate() {
            let panel = &mut pairs[output / PANEL * depth..][..depth];
            for (to, pair) in panel.iter_mut().zip(row.chunks(2)) {
                let high = pair.get(1).map_or(0, |x| x.to_bits());
                to[output % PANEL] = u32::from(pair[0].to_bits()) | u32::from(high) << 16;
            }
        }
        PackedBf16 { outputs, inputs, pairs }
    }

    /// Outputs: rows of the weight.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// Inputs: columns of the weight.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        size_of_val(self.pairs.as_slice())
    }

    /// Pairs of inputs per panel, padding included.
    pub(crate) fn depth(&self) -> usize {
        self.inputs.next_multiple_of(DEPTH) / 2
    }

    /// The rows of panel `panel`.
    pub(crate) fn panel(&self, panel: usize) -> &[[u32; PANEL]] {
        &self.pairs[panel * self.depth()..(panel + 1) * self.depth()]
    }
}
