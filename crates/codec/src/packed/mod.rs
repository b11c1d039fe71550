//! Packed formats: codes and their scales in separate tensors, as compressed-tensors lays them out.
//!
//! [`Packed`] lists them. Each is a choice of four things, and the code is written once over them:
//!
//! | format | levels | scales | tile | codes |
//! |---|---|---|---|---|
//! | `pack-quantized` | integers, 2–8 bits | f32, f16, bf16; zero points on request | any | dense bits in int32 words |
//! | `int-quantized` | integers, 8 bits | f32, f16, bf16 | any | signed bytes |
//! | `float-quantized` | E4M3 | f32, f16, bf16 | any | bytes |
//! | `mxfp4-pack-quantized` | E2M1 | E8M0 | 32 in a row | nibbles |
//! | `nvfp4-pack-quantized` | E2M1 | E4M3 under one f32 | 16 in a row | nibbles |
//!
//! Encoding is three steps that a solver may take apart: [`Packed::fit`] finds the scales, which make a [`Grid`]; codes
//! are chosen ([`Grid::nearest`], or anything better); [`Packed::pack`] lays them into parts.
//!
//! Source: the `compressed-tensors` package, 0.20; golden vectors in `golden/compressed-tensors`.

pub mod bits;
pub mod fp8;
mod grid;
mod integers;
mod levels;
mod name;
mod scales;
mod tiles;
mod transposed;

pub use grid::Grid;
pub use integers::{Integers, RepackError};
pub use levels::Levels;
pub use scales::{Granularity, Range, ScaleType, e8m0_to_f32};
pub(crate) use tiles::RowTiles;
pub use transposed::{Transposed, TransposedError, ZeroPoints};

use crate::{CodecError, Dtype, Matrix, Part, PartSpec};
use scales::Rule;
use std::num::NonZeroU32;

/// The packed formats of compressed-tensors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Packed {
    /// `pack-quantized`: integers, packed densely.
    Int {
        /// Bits of a code.
        bits: Bits,
        /// Whether the levels lie symmetrically around zero, or a zero point is stored for every tile.
        symmetric: bool,
        /// What shares a scale.
        per: Granularity,
        /// How scales are stored.
        scale: ScaleType,
    },
    /// `int-quantized`: symmetric integers, one signed byte each.
    Int8 {
        /// What shares a scale.
        per: Granularity,
        /// How scales are stored.
        scale: ScaleType,
    },
    /// `float-quantized`: E4M3.
    Fp8 {
        /// What shares a scale.
        per: Granularity,
        /// How scales are stored.
        scale: ScaleType,
    },
    /// `mxfp4-pack-quantized`: E2M1, a power of two for every 32.
    Mxfp4,
    /// `nvfp4-pack-quantized`: E2M1, an E4M3 scale for every 16, an f32 scale over them.
    Nvfp4,
}

/// The bits of an integer code: 2 to 8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bits(u8);

impl Bits {
    /// `None` unless 2 to 8.
    pub const fn new(bits: u8) -> Option<Self> {
        if bits >= 2 && bits <= 8 { Some(Self(bits)) } else { None }
    }

    /// The number of bits.
    pub const fn get(self) -> u32 {
        self.0 as u32
    }
}

const GROUP_32: Granularity = Granularity::Group(NonZeroU32::new(32).unwrap());
const GROUP_16: Granularity = Granularity::Group(NonZeroU32::new(16).unwrap());

impl Packed {
    /// What compressed-tensors calls the format.
    pub const fn format(self) -> &'static str {
        match self {
            Packed::Int { .. } => "pack-quantized",
            Packed::Int8 { .. } => "int-quantized",
            Packed::Fp8 { .. } => "float-quantized",
            Packed::Mxfp4 => "mxfp4-pack-quantized",
            Packed::Nvfp4 => "nvfp4-pack-quantized",
        }
    }

    /// The numbers that a code stands for.
    pub const fn levels(self) -> Levels {
        match self {
            Packed::Int { bits, .. } => Levels::Integer(bits.get()),
            Packed::Int8 { .. } => Levels::Integer(8),
            Packed::Fp8 { .. } => Levels::E4m3,
            Packed::Mxfp4 | Packed::Nvfp4 => Levels::E2m1,
        }
    }

    /// What shares a scale.
    pub const fn granularity(self) -> Granularity {
        match self {
            Packed::Int { per, .. } | Packed::Int8 { per, .. } | Packed::Fp8 { per, .. } => per,
            Packed::Mxfp4 => GROUP_32,
            Packed::Nvfp4 => GROUP_16,
        }
    }

    /// The same format with its scales stored in the type of the model's weights, where the format leaves that open.
    #[must_use]
    pub fn following(mut self, weights: Dtype) -> Self {
        let follow = match weights {
            Dtype::F32 | Dtype::F64 => ScaleType::F32,
            Dtype::F16 => ScaleType::F16,
            _ => ScaleType::BF16,
        };
        if let Packed::Int { scale, .. } | Packed::Int8 { scale, .. } | Packed::Fp8 { scale, .. } = &mut self {
            *scale = follow;
        }
        self
    }

    /// Whether weights that a server fuses (q, k, v; gate, up) must be encoded with the [`Range`] of all of them.
    pub const fn shares_range(self) -> bool {
        matches!(self, Packed::Nvfp4)
    }

    /// Row ranges that are encoded separately and [joined](Packed::join) must begin at multiples of this; where every
    /// row depends on every other ([`Granularity::Tensor`], [`Packed::Nvfp4`]), they need the range of the whole too.
    pub fn row_multiple(self) -> usize {
        match self {
            Packed::Int { symmetric: false, bits, .. } if self.packs_zero_points() => 32 >> bits.get().trailing_zeros(),
            _ if self.granularity() == Granularity::Block => 128,
            _ => 1,
        }
    }

    /// See [`crate::Encoding::parts`].
    pub fn parts(self, rows: usize, cols: usize) -> Result<Vec<PartSpec>, CodecError> {
        let (down, across) = self.tiles(rows, cols)?;
        let part = |suffix, dtype, shape: &[usize]| PartSpec { suffix, dtype, shape: shape.to_vec() };
        let words = |n: usize, bits: Bits| bits::packed_bytes(n, bits.get()) / 4;
        let mut parts = vec![match self {
            Packed::Int { bits, .. } => part("weight_packed", Dtype::I32, &[rows, words(cols, bits)]),
            Packed::Int8 { .. } => part("weight", Dtype::I8, &[rows, cols]),
            Packed::Fp8 { .. } => part("weight", Dtype::F8E4M3, &[rows, cols]),
            Packed::Mxfp4 | Packed::Nvfp4 => part("weight_packed", Dtype::U8, &[rows, cols / 2]),
        }];
        let tiles = if self.granularity() == Granularity::Tensor { vec![1] } else { vec![down, across] };
        parts.push(part("weight_scale", self.rule().dtype(), &tiles));
        if let Packed::Int { bits, symmetric, .. } = self {
            parts.push(part("weight_shape", Dtype::I64, &[2]));
            match symmetric {
                true => {}
                false if self.packs_zero_points() => {
                    parts.push(part("weight_zero_point", Dtype::I32, &[words(down, bits), across]));
                }
                false => parts.push(part("weight_zero_point", Dtype::I8, &tiles)),
            }
        }
        if self == Packed::Nvfp4 {
            parts.push(part("weight_global_scale", Dtype::F32, &[1]));
        }
        Ok(parts)
    }

    /// Encodes a matrix by rounding to nearest. `whole` is the range of everything that shares its scale, where that is
    /// more than the matrix: the weights fused with it ([`Packed::shares_range`]), the rows before and after it.
    pub fn encode(self, matrix: Matrix<'_>, whole: Option<Range>) -> Result<Vec<Part>, CodecError> {
        let grid = self.fit(matrix, whole)?;
        let mut codes = vec![0; matrix.cols];
        self.assemble(matrix.rows, matrix.cols, &grid, |row, out| {
            grid.encode_row(row, &matrix.data[row * matrix.cols..][..matrix.cols], &mut codes);
            self.write_codes(&codes, out);
        })
    }

    /// Finds scales and zero points from the range of every tile. Refuses numbers that are not finite, and those for
    /// which the scale would not be. `whole`: see [`Packed::encode`].
    pub fn fit(self, matrix: Matrix<'_>, whole: Option<Range>) -> Result<Grid, CodecError> {
        let (down, across) = self.tiles(matrix.rows, matrix.cols)?;
        if matrix.rows.checked_mul(matrix.cols) != Some(matrix.data.len()) {
            return Err(self.length("data", matrix.rows.saturating_mul(matrix.cols), matrix.data.len()));
        }
        let tile = self.granularity().tile(matrix.rows, matrix.cols);
        let mut ranges = vec![Range::default(); down * across];
        let mut total = whole.unwrap_or_default();
        for (row, x) in matrix.data.chunks_exact(matrix.cols.max(1)).enumerate() {
            self.check_finite(x)?;
            for (range, x) in ranges[row / tile.0 * across..].iter_mut().zip(x.chunks(tile.1)) {
                *range = range.union(Range::of(x));
                total = total.union(*range);
            }
        }
        if self.granularity() == Granularity::Tensor {
            ranges.fill(total);
        }
        let (rule, levels) = (self.rule(), self.levels());
        let global = rule.global(total, levels);
        let (scale, zero): (Vec<f32>, Vec<f32>) = ranges.iter().map(|r| rule.fit(*r, levels, global)).unzip();
        match scale.iter().position(|s| !s.is_finite()) {
            None => Ok(Grid { levels, tile, across, scale, zero, global }),
            Some(i) => Err(self.not_finite(i % across * tile.1, ranges[i].amax())),
        }
    }

    /// Lays codes (row-major, one byte each, as [`Levels`] defines them) into parts. `grid` came from
    /// [`Packed::fit`] of a matrix of the same shape.
    pub fn pack(self, rows: usize, cols: usize, grid: &Grid, codes: &[u8]) -> Result<Vec<Part>, CodecError> {
        if rows.checked_mul(cols) != Some(codes.len()) {
            return Err(self.length("codes", rows.saturating_mul(cols), codes.len()));
        }
        self.assemble(rows, cols, grid, |row, out| self.write_codes(&codes[row * cols..][..cols], out))
    }

    /// Joins the parts of consecutive row ranges into those of the whole matrix of `rows × cols`.
    pub fn join(self, rows: usize, cols: usize, chunks: &[Vec<Part>]) -> Result<Vec<Part>, CodecError> {
        let join = |spec: PartSpec| {
            let pieces = chunks.iter().flatten().filter(|part| part.spec.suffix == spec.suffix);
            let bytes = match spec.suffix {
                "weight_shape" => shape_bytes(rows, cols),
                _ if spec.shape == [1] => pieces.take(1).flat_map(|part| &part.bytes).copied().collect(),
                _ => pieces.flat_map(|part| &part.bytes).copied().collect::<Vec<u8>>(),
            };
            match bytes.len() == spec.bytes() {
                true => Ok(Part { bytes, spec }),
                false => Err(self.length(spec.suffix, spec.bytes(), bytes.len())),
            }
        };
        self.parts(rows, cols)?.into_iter().map(join).collect()
    }

    /// Decodes parts whose lengths were checked; `bytes(suffix)` gives the bytes of a part.
    pub fn decode<'a>(
        self,
        rows: usize,
        cols: usize,
        bytes: &dyn Fn(&'static str) -> &'a [u8],
        out: &mut [f32],
    ) -> Result<(), CodecError> {
        let grid = self.read_grid(rows, cols, bytes)?;
        self.each_row(rows, cols, bytes, |row, codes| {
            grid.decode_row(row, codes, &mut out[row * cols..][..cols]);
            Ok(())
        })
    }

    /// The scales and codes (row-major) of parts whose lengths were checked.
    pub(crate) fn read<'a>(
        self,
        rows: usize,
        cols: usize,
        bytes: &dyn Fn(&'static str) -> &'a [u8],
    ) -> Result<(Grid, Vec<u8>), CodecError> {
        let mut all = Vec::with_capacity(rows * cols);
        self.each_row(rows, cols, bytes, |_, codes| {
            all.extend_from_slice(codes);
            Ok(())
        })?;
        Ok((self.read_grid(rows, cols, bytes)?, all))
    }

    /// Checks that parts whose lengths were checked are what an encoder could have written: every scale finite and
    /// positive (under integers, which ggml's encoders flip so, also negative), every code a number.
    pub fn validate<'a>(
        self,
        rows: usize,
        cols: usize,
        bytes: &dyn Fn(&'static str) -> &'a [u8],
    ) -> Result<(), CodecError> {
        let invalid = |block, what| CodecError::Invalid { encoding: self.to_string(), block, what };
        let grid = self.read_grid(rows, cols, bytes)?;
        let flips = matches!(self, Packed::Int { .. });
        let bad = |s: &f32| !s.is_finite() || *s == 0.0 || (*s < 0.0 && !flips);
        if bad(&grid.global) {
            return Err(invalid(0, "the global scale is not a positive number"));
        }
        if let Some(tile) = grid.scale.iter().position(bad) {
            return Err(invalid(tile, "the scale is not a positive number"));
        }
        self.each_row(rows, cols, bytes, |row, codes| match codes.iter().any(|c| grid.levels.level(*c).is_nan()) {
            true => Err(invalid(row * grid.across, "a weight is NaN")),
            false => Ok(()),
        })
    }

    /// The grid of stored parts. Fails where the stored shape contradicts `rows × cols`.
    fn read_grid<'a>(
        self,
        rows: usize,
        cols: usize,
        bytes: &dyn Fn(&'static str) -> &'a [u8],
    ) -> Result<Grid, CodecError> {
        let (down, across) = self.tiles(rows, cols)?;
        let tile = self.granularity().tile(rows, cols);
        let scale = self.rule().read(bytes("weight_scale"));
        let mut zero = vec![0.0; scale.len()];
        if let Packed::Int { bits, symmetric, .. } = self {
            if bytes("weight_shape") != shape_bytes(rows, cols) {
                let what = "`weight_shape` contradicts the matrix";
                return Err(CodecError::Invalid { encoding: self.to_string(), block: 0, what });
            }
            match symmetric {
                true => {}
                false if self.packs_zero_points() => {
                    zero = unpack_down(bits, bytes("weight_zero_point"), down, across, self.levels());
                }
                false => crate::block::plain::decode(Dtype::I8, bytes("weight_zero_point"), &mut zero),
            }
        }
        let global = match self {
            Packed::Nvfp4 => bytes("weight_global_scale").first_chunk().map_or(f32::NAN, |b| f32::from_le_bytes(*b)),
            _ => 1.0,
        };
        Ok(Grid { levels: self.levels(), tile, across, scale, zero, global })
    }

    /// Calls `f` with the codes of every row.
    fn each_row<'a>(
        self,
        rows: usize,
        cols: usize,
        bytes: &dyn Fn(&'static str) -> &'a [u8],
        mut f: impl FnMut(usize, &[u8]) -> Result<(), CodecError>,
    ) -> Result<(), CodecError> {
        let weight = self.parts(rows, cols)?.swap_remove(0);
        let stride = weight.bytes() / rows.max(1);
        let mut codes = vec![0; cols];
        for (row, bytes) in bytes(weight.suffix).chunks_exact(stride.max(1)).enumerate() {
            self.read_codes(bytes, &mut codes);
            f(row, &codes)?;
        }
        Ok(())
    }

    /// Parts with the codes that `write_row` puts into each row.
    fn assemble(
        self,
        rows: usize,
        cols: usize,
        grid: &Grid,
        mut write_row: impl FnMut(usize, &mut [u8]),
    ) -> Result<Vec<Part>, CodecError> {
        let mut parts = Vec::with_capacity(4);
        for spec in self.parts(rows, cols)? {
            let bytes = match spec.suffix {
                "weight_scale" => self.rule().write(&grid.scale),
                "weight_shape" => shape_bytes(rows, cols),
                "weight_global_scale" => grid.global.to_le_bytes().to_vec(),
                "weight_zero_point" if self.packs_zero_points() => pack_down(grid, self.levels()),
                "weight_zero_point" => grid.zero.iter().map(|z| *z as i8 as u8).collect(),
                _ => {
                    let mut weight = vec![0; spec.bytes()];
                    let stride = (weight.len() / rows.max(1)).max(1);
                    weight.chunks_exact_mut(stride).enumerate().for_each(|(row, out)| write_row(row, out));
                    weight
                }
            };
            if bytes.len() != spec.bytes() {
                return Err(self.length(spec.suffix, spec.bytes(), bytes.len()));
            }
            parts.push(Part { spec, bytes });
        }
        Ok(parts)
    }

    /// One row of codes into bytes.
    fn write_codes(self, codes: &[u8], out: &mut [u8]) {
        match self {
            Packed::Int8 { .. } => out.iter_mut().zip(codes).for_each(|(o, c)| *o = c ^ 0x80),
            Packed::Fp8 { .. } => out.copy_from_slice(codes),
            _ => bits::pack(self.levels().bits(), codes, out),
        }
    }

    /// One row of bytes into codes.
    fn read_codes(self, bytes: &[u8], codes: &mut [u8]) {
        match self {
            Packed::Int8 { .. } => codes.iter_mut().zip(bytes).for_each(|(c, b)| *c = b ^ 0x80),
            Packed::Fp8 { .. } => codes.copy_from_slice(bytes),
            _ => bits::unpack(self.levels().bits(), bytes, codes),
        }
    }

    /// Tiles below and beside each other. Groups must divide the row.
    fn tiles(self, rows: usize, cols: usize) -> Result<(usize, usize), CodecError> {
        let (height, width) = self.granularity().tile(rows, cols);
        if matches!(self.granularity(), Granularity::Group(_)) && !cols.is_multiple_of(width) {
            return Err(CodecError::Group { encoding: self.to_string(), group: width, cols });
        }
        match self.granularity() {
            Granularity::Tensor => Ok((1, 1)),
            _ => Ok((rows.div_ceil(height), cols.div_ceil(width))),
        }
    }

    const fn rule(self) -> Rule {
        match self {
            Packed::Int { symmetric: false, scale, .. } => Rule::Asymmetric(scale),
            Packed::Int { scale, .. } | Packed::Int8 { scale, .. } | Packed::Fp8 { scale, .. } => {
                Rule::Symmetric(scale)
            }
            Packed::Mxfp4 => Rule::E8m0,
            Packed::Nvfp4 => Rule::E4m3,
        }
    }

    /// Zero points are packed down the columns of the scale matrix, but only these.
    fn packs_zero_points(self) -> bool {
        matches!(self.granularity(), Granularity::Channel | Granularity::Group(_))
    }

    fn check_finite(self, x: &[f32]) -> Result<(), CodecError> {
        if x.iter().fold(true, |all, v| all & v.is_finite()) {
            return Ok(());
        }
        let index = x.iter().position(|v| !v.is_finite()).unwrap_or_default();
        Err(self.not_finite(index, x[index]))
    }

    fn not_finite(self, index: usize, value: f32) -> CodecError {
        CodecError::NotFinite { encoding: self.to_string(), index, value }
    }

    fn length(self, part: &'static str, expected: usize, got: usize) -> CodecError {
        CodecError::Length { encoding: self.to_string(), part, expected, got }
    }
}

/// The part `weight_shape`: rows and columns as i64.
fn shape_bytes(rows: usize, cols: usize) -> Vec<u8> {
    [rows, cols].iter().flat_map(|n| (*n as i64).to_le_bytes()).collect()
}

/// Zero points, packed along the rows of the scale matrix (dimension 0).
fn pack_down(grid: &Grid, levels: Levels) -> Vec<u8> {
    let (across, down) = (grid.across, grid.zero.len() / grid.across.max(1));
    let mut packed = vec![0; bits::packed_bytes(down, levels.bits()) * across];
    let mut column = vec![0; packed.len() / across.max(1)];
    for tile in 0..across {
        let zeros = grid.zero.iter().skip(tile).step_by(across);
        let codes: Vec<u8> = zeros.map(|z| levels.nearest(*z)).collect();
        bits::pack(levels.bits(), &codes, &mut column);
        let words = packed.as_chunks_mut::<4>().0.iter_mut().skip(tile).step_by(across);
        words.zip(column.as_chunks::<4>().0).for_each(|(p, w)| *p = *w);
    }
    packed
}

/// Undoes [`pack_down`].
fn unpack_down(bits: Bits, packed: &[u8], down: usize, across: usize, levels: Levels) -> Vec<f32> {
    let mut zero = vec![0.0; down * across];
    let mut codes = vec![0; down];
    for tile in 0..across {
        let words = packed.as_chunks::<4>().0.iter().skip(tile).step_by(across);
        let column: Vec<u8> = words.flatten().copied().collect();
        bits::unpack(bits.get(), &column, &mut codes);
        zero.iter_mut().skip(tile).step_by(across).zip(&codes).for_each(|(z, c)| *z = levels.level(*c));
    }
    zero
}
