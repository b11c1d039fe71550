//! A bf16 weight in the order in which every path reads it.
//!
//! Outputs are taken in panels of 32. Within a panel, pairs of consecutive inputs are the rows, and a row holds that pair for
//! every output of the panel: 32 outputs × 2 bf16 = two AVX-512 registers, or one row each of two AMX tiles. Outputs are
//! padded with zeros to a whole panel, inputs to a whole AMX tile (32).

use half::bf16;

use crate::micro::COLS;
use crate::parallel::map_tasks;

/// Inputs are padded to a multiple of this.
const DEPTH: usize = 32;

/// One pair of inputs for every output of a panel.
#[derive(Clone, Copy, Debug, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(128))]
pub(crate) struct PairRow(pub(crate) [u32; COLS]);

/// A weight `[outputs, inputs]` packed for [`super::linear_bf16`].
#[derive(Clone, Debug)]
pub struct PackedBf16 {
    outputs: usize,
    inputs: usize,
    rows: Vec<PairRow>,
}

impl PackedBf16 {
    /// Packs a row-major weight `[outputs, inputs]`.
    ///
    /// # Panics
    /// When the length does not agree.
    pub fn pack(w: &[bf16], outputs: usize, inputs: usize) -> Self {
        assert_eq!(w.len(), outputs * inputs, "weight length");
        let depth = inputs.next_multiple_of(DEPTH) / 2;
        let mut rows = vec![PairRow([0; COLS]); outputs.div_ceil(COLS) * depth];
        let panels = rows.chunks_mut(depth.max(1)).zip(w.chunks((COLS * inputs).max(1))).collect();
        map_tasks(panels, |(panel, w): (&mut [PairRow], &[bf16])| pack_panel(w, inputs, panel));
        PackedBf16 { outputs, inputs, rows }
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
        size_of_val(self.rows.as_slice())
    }

    /// Pairs of inputs per panel, padding included.
    pub(crate) fn depth(&self) -> usize {
        self.inputs.next_multiple_of(DEPTH) / 2
    }

    /// `depth` rows from row `from` of the panel that begins with output `output`.
    pub(crate) fn rows(&self, output: usize, from: usize, depth: usize) -> &[PairRow] {
        &self.rows[output / COLS * self.depth() + from..][..depth]
    }
}

/// Sixteen rows of a panel at a time, so that both sides stay in the cache.
fn pack_panel(w: &[bf16], inputs: usize, panel: &mut [PairRow]) {
    const SQUARE: usize = 16;
    for (i, rows) in panel.chunks_mut(SQUARE).enumerate() {
        for (output, from) in w.chunks_exact(inputs).enumerate() {
            let from = &from[(2 * i * SQUARE).min(inputs)..];
            for (row, pair) in rows.iter_mut().zip(from.chunks(2)) {
                let second = pair.get(1).map_or(0, |x| x.to_bits());
                row.0[output] = u32::from(pair[0].to_bits()) | u32::from(second) << 16;
            }
        }
    }
}
