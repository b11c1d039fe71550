//! GPTQ and AWQ: integer matrices kept transposed, columns of the weight as rows of three tensors.
//!
//! For a weight of `out × in`, `b` bits, `g` groups of columns:
//!
//! | | GPTQ | AWQ (`gemm`), 4 bits |
//! |---|---|---|
//! | `qweight` | i32 `[in·b/32, out]`, codes packed along `in` | i32 `[in, out/8]`, codes packed along `out` |
//! | `qzeros` | i32 `[g, out·b/32]`, packed along `out` | i32 `[g, out/8]` |
//! | `scales` | f16 `[g, out]` | f16 `[g, out]` |
//!
//! GPTQ packs densely, least significant bits first, codes of 3 bits across words. In a word of AWQ, bits `4i …` hold
//! the code of output `0, 2, 4, 6, 1, 3, 5, 7` (the `i`-th of these). AWQ stores zero points as they are, GPTQ's second
//! version too; its first stores one less.
//!
//! Sources: Frantar et al., arXiv 2210.17323, and AutoGPTQ's `qlinear_cuda.py`; Lin et al., arXiv 2306.00978, and
//! AutoAWQ's `gemm.py`.

use super::{Bits, Integers, ScaleType, bits};
use crate::{Dtype, PartSpec};

/// A layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transposed {
    /// See the module.
    Gptq {
        /// Of a code.
        bits: Bits,
        /// How zero points are stored.
        zeros: ZeroPoints,
    },
    /// See the module.
    Awq,
}

/// How GPTQ stores zero points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZeroPoints {
    /// One less than they are: `gptq`.
    LessOne,
    /// As they are: `gptq_v2`.
    Plain,
}

/// Why bytes are not of the layout, or integers do not fit it.
#[derive(Debug, thiserror::Error, PartialEq)]
#[allow(missing_docs)]
pub enum TransposedError {
    #[error("a matrix of {rows} × {cols} with groups of {width} does not fill whole words of 32 bits, or groups")]
    Shape { rows: usize, cols: usize, width: usize },
    #[error("`{part}` has {got} bytes, expected {expected}")]
    Length { part: &'static str, expected: usize, got: usize },
    #[error(
        "the zero point of output {row}, group {group} is 0, which this version of GPTQ stores as −1 and loaders \
         read back as {wrong}; use gptq_v2"
    )]
    ZeroPoint { row: usize, group: usize, wrong: u32 },
    #[error("column {column} is in group {group}, of {groups} groups")]
    Group { column: usize, group: i64, groups: usize },
    #[error("the codes of a matrix in {bits} bits go to {top}")]
    Code { bits: u32, top: i16 },
}

/// Codes and what they are worth, group by group.
struct Opened {
    codes: Vec<u8>,
    /// `[rows, groups]`.
    zero: Vec<i16>,
    /// `[rows, groups]`.
    scale: Vec<f32>,
}

const AWQ_ORDER: [usize; 8] = [0, 2, 4, 6, 1, 3, 5, 7];

/// Codes of GPTQ that fill whole words in every width.
const STEP: usize = 32;

impl Transposed {
    /// Bits of a code.
    pub const fn bits(self) -> u32 {
        match self {
            Transposed::Gptq { bits, .. } => bits.get(),
            Transposed::Awq => 4,
        }
    }

    /// `qweight`, `qzeros` and `scales` of a matrix in `groups` groups of columns.
    pub fn parts(
        self,
        rows: usize,
        cols: usize,
        groups: usize,
        scale: ScaleType,
    ) -> Result<[PartSpec; 3], TransposedError> {
        let words = |n: usize| n.checked_mul(self.bits() as usize).filter(|b| b.is_multiple_of(32)).map(|b| b / 32);
        let packed = match self {
            Transposed::Gptq { .. } => words(cols).map(|n| [n, rows]),
            Transposed::Awq => words(rows).map(|n| [cols, n]),
        };
        let shape = || TransposedError::Shape { rows, cols, width: cols.checked_div(groups).unwrap_or_default() };
        let (packed, across) = packed.zip(words(rows)).filter(|_| groups > 0).ok_or_else(shape)?;
        let part = |suffix, dtype, shape: [usize; 2]| PartSpec { suffix, dtype, shape: shape.to_vec() };
        Ok([
            part("qweight", Dtype::I32, packed),
            part("qzeros", Dtype::I32, [groups, across]),
            part("scales", scale.dtype(), [groups, rows]),
        ])
    }

    /// Reads the three tensors of a matrix whose columns lie in runs of `width` to a group.
    pub fn read(
        self,
        [rows, cols, width]: [usize; 3],
        scale: ScaleType,
        tensors: [&[u8]; 3],
    ) -> Result<Integers, TransposedError> {
        if width == 0 || !cols.is_multiple_of(width) {
            return Err(TransposedError::Shape { rows, cols, width });
        }
        let Opened { codes, zero, scale } = self.open([rows, cols, cols / width], scale, tensors)?;
        Ok(Integers { rows, cols, width, codes, zero, scale })
    }

    /// Reads the zero points of `qzeros`, `[rows, groups]`.
    pub fn read_zeros(self, rows: usize, groups: usize, qzeros: &[u8]) -> Result<Vec<i16>, TransposedError> {
        let expected = rows.saturating_mul(self.bits() as usize).div_ceil(32).saturating_mul(groups).saturating_mul(4);
        if qzeros.len() != expected {
            return Err(TransposedError::Length { part: "qzeros", expected, got: qzeros.len() });
        }
        let mut stored = vec![0; rows * groups];
        self.read_across(qzeros, groups, &mut stored);
        self.zeros(&stored, groups)
    }

    /// Reads the numbers of a matrix whose columns are in any groups: `group` says which, column by column.
    pub fn read_scattered(
        self,
        [rows, cols, groups]: [usize; 3],
        group: &[i32],
        scale: ScaleType,
        tensors: [&[u8]; 3],
    ) -> Result<Vec<f32>, TransposedError> {
        let bad = |g: &i32| usize::try_from(*g).map_or(true, |g| g >= groups);
        if let Some(column) = group.iter().position(bad) {
            return Err(TransposedError::Group { column, group: group[column].into(), groups });
        }
        if group.len() != cols {
            return Err(TransposedError::Length { part: "g_idx", expected: cols * 4, got: group.len() * 4 });
        }
        let open = self.open([rows, cols, groups], scale, tensors)?;
        let mut out = Vec::with_capacity(open.codes.len());
        for (row, codes) in open.codes.chunks_exact(cols.max(1)).enumerate() {
            for (code, group) in codes.iter().zip(group) {
                let at = row * groups + *group as usize;
                out.push(f32::from(i16::from(*code) - open.zero[at]) * open.scale[at]);
            }
        }
        Ok(out)
    }

    /// The three tensors of integers whose codes and zero points are of this width.
    pub fn write(self, integers: &Integers, scale: ScaleType) -> Result<[Vec<u8>; 3], TransposedError> {
        let Integers { rows, cols, width, .. } = *integers;
        let groups = cols / width.max(1);
        let specs = self.parts(rows, cols, groups, scale)?;
        let top = (1i16 << self.bits()) - 1;
        let out = |v: i16| !(0..=top).contains(&v);
        if integers.zero.iter().any(|z| out(*z)) || integers.codes.iter().any(|c| out(i16::from(*c))) {
            return Err(TransposedError::Code { bits: self.bits(), top });
        }
        let mut tensors = specs.map(|spec| vec![0; spec.bytes()]);
        let [qweight, qzeros, scales] = &mut tensors;
        match self {
            Transposed::Gptq { bits, .. } => write_down(bits, cols, &integers.codes, qweight),
            Transposed::Awq => {
                (0..cols).for_each(|c| self.write_across(&integers.codes, cols, c, row_of(qweight, c, cols)))
            }
        }
        let stored = self.stored(&integers.zero, groups)?;
        let values: Vec<f32> =
            (0..groups).flat_map(|g| integers.scale.iter().skip(g).step_by(groups)).copied().collect();
        (0..groups).for_each(|g| self.write_across(&stored, groups, g, row_of(qzeros, g, groups)));
        crate::block::plain::encode(scale.dtype(), &values, scales);
        Ok(tensors)
    }

    /// Zero points as they are stored.
    fn stored(self, zero: &[i16], groups: usize) -> Result<Vec<u8>, TransposedError> {
        let less = i16::from(matches!(self, Transposed::Gptq { zeros: ZeroPoints::LessOne, .. }));
        let one = |(at, zero): (usize, &i16)| u8::try_from(zero - less).map_err(|_| self.zero_point(at, groups));
        zero.iter().enumerate().map(one).collect()
    }

    fn zero_point(self, at: usize, groups: usize) -> TransposedError {
        TransposedError::ZeroPoint { row: at / groups.max(1), group: at % groups.max(1), wrong: 1 << self.bits() }
    }

    fn open(
        self,
        [rows, cols, groups]: [usize; 3],
        scale: ScaleType,
        tensors: [&[u8]; 3],
    ) -> Result<Opened, TransposedError> {
        let specs = self.parts(rows, cols, groups, scale)?;
        for (spec, bytes) in specs.iter().zip(tensors) {
            if spec.bytes() != bytes.len() {
                let (expected, got) = (spec.bytes(), bytes.len());
                return Err(TransposedError::Length { part: spec.suffix, expected, got });
            }
        }
        let [qweight, qzeros, scales] = tensors;
        let mut codes = vec![0; rows * cols];
        match self {
            Transposed::Gptq { bits, .. } => read_down(bits, cols, qweight, &mut codes),
            Transposed::Awq => self.read_across(qweight, cols, &mut codes),
        }
        let mut values = vec![0.0; rows * groups];
        crate::block::plain::decode(scale.dtype(), scales, &mut values);
        let scale = (0..rows).flat_map(|r| values.iter().skip(r).step_by(rows)).copied().collect();
        let zero = self.read_zeros(rows, groups, qzeros)?;
        Ok(Opened { codes, zero, scale })
    }

    /// Zero points from what is stored. In the first version of GPTQ the largest code stands for −1 + 1 or for one more
    /// than a code can be: writers that met a zero point of 0 wrote over its neighbours, and loaders do not agree.
    fn zeros(self, stored: &[u8], groups: usize) -> Result<Vec<i16>, TransposedError> {
        let Transposed::Gptq { bits, zeros: ZeroPoints::LessOne } = self else {
            return Ok(stored.iter().map(|z| i16::from(*z)).collect());
        };
        let top = ((1u16 << bits.get()) - 1) as u8;
        match stored.iter().position(|z| *z == top) {
            Some(at) => Err(self.zero_point(at, groups)),
            None => Ok(stored.iter().map(|z| i16::from(*z) + 1).collect()),
        }
    }

    /// Packs column `column` of a `[n, across]` matrix along its rows.
    fn write_across(self, matrix: &[u8], across: usize, column: usize, out: &mut [u8]) {
        let mut codes: Vec<u8> = matrix.iter().skip(column).step_by(across).copied().collect();
        if self == Transposed::Awq {
            codes.as_chunks_mut::<8>().0.iter_mut().for_each(|c| *c = AWQ_ORDER.map(|at| c[at]));
        }
        bits::pack(self.bits(), &codes, out);
    }

    /// Undoes [`Transposed::write_across`] for every column.
    fn read_across(self, bytes: &[u8], across: usize, matrix: &mut [u8]) {
        let mut codes = vec![0; matrix.len() / across.max(1)];
        let stride = (bytes.len() / across.max(1)).max(1);
        for (column, bytes) in bytes.chunks_exact(stride).enumerate() {
            bits::unpack(self.bits(), bytes, &mut codes);
            if self == Transposed::Awq {
                for eight in codes.as_chunks_mut::<8>().0 {
                    let packed = *eight;
                    AWQ_ORDER.iter().zip(packed).for_each(|(at, code)| eight[*at] = code);
                }
            }
            matrix.iter_mut().skip(column).step_by(across).zip(&codes).for_each(|(m, c)| *m = *c);
        }
    }
}

fn row_of(bytes: &mut [u8], row: usize, rows: usize) -> &mut [u8] {
    let stride = bytes.len() / rows.max(1);
    &mut bytes[row * stride..][..stride]
}

/// Packs the rows of a matrix of codes along them, and lays the words down the columns.
fn write_down(bits: Bits, cols: usize, codes: &[u8], out: &mut [u8]) {
    let rows = codes.len() / cols.max(1);
    let words = out.as_chunks_mut::<4>().0;
    let mut packed = [0; STEP];
    for (row, codes) in codes.chunks_exact(cols.max(1)).enumerate() {
        for (step, codes) in codes.chunks(STEP).enumerate() {
            let bytes = &mut packed[..codes.len() * bits.get() as usize / 8];
            bits::pack(bits.get(), codes, bytes);
            let first = step * bits.get() as usize;
            let down = words.iter_mut().skip(first * rows + row).step_by(rows);
            down.zip(bytes.as_chunks::<4>().0).for_each(|(w, b)| *w = *b);
        }
    }
}

/// Undoes [`write_down`].
fn read_down(bits: Bits, cols: usize, bytes: &[u8], codes: &mut [u8]) {
    let rows = codes.len() / cols.max(1);
    let words = bytes.as_chunks::<4>().0;
    let mut packed = [0; STEP];
    for (row, codes) in codes.chunks_exact_mut(cols.max(1)).enumerate() {
        for (step, codes) in codes.chunks_mut(STEP).enumerate() {
            let bytes = &mut packed[..codes.len() * bits.get() as usize / 8];
            let first = step * bits.get() as usize;
            let down = words.iter().skip(first * rows + row).step_by(rows);
            bytes.as_chunks_mut::<4>().0.iter_mut().zip(down).for_each(|(b, w)| *b = *w);
            bits::unpack(bits.get(), bytes, codes);
        }
    }
}
