//! Matrices of integer codes, laid open: what GPTQ, AWQ, compressed-tensors and ggml's simple blocks have in common.
//!
//! A number is `(code − zero) · scale`; a run of neighbours in a row shares scale and zero point. [`Integers::read`] gets
//! there from an encoding, [`Integers::write`] goes to one and refuses what it cannot hold exactly: what is written
//! decodes to the same numbers. What an encoding may do without changing a number:
//!
//! | | |
//! |---|---|
//! | scales shared by more columns than the encoding shares them by | repeated |
//! | by fewer | merged, where they are equal |
//! | another zero point | codes are shifted, where they stay in range |
//! | Q4_1's minimum instead of a zero point | `−zero · scale`, where f16 holds it |
//! | a scale of another float type | where that holds it |

use super::{Granularity, Grid, Packed};
use crate::block::Levels as BlockLevels;
use crate::{BlockFormat, CodecError, Dtype, Encoding, Part};
use half::f16;

/// A matrix of integer codes under scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Integers {
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// Neighbours in a row that share a scale; divides `cols`.
    pub width: usize,
    /// Row-major, `rows · cols`.
    pub codes: Vec<u8>,
    /// One for each run, row-major.
    pub zero: Vec<i16>,
    /// One for each run, row-major.
    pub scale: Vec<f32>,
}

/// Why integers cannot lie in an encoding without changing a number.
#[derive(Debug, thiserror::Error, PartialEq)]
#[allow(missing_docs)]
pub enum RepackError {
    #[error("{encoding} is not made of integers under a scale for each run of columns")]
    NotIntegers { encoding: String },
    #[error("{encoding} has one scale for columns {start} to {end}, which have several; row {row}")]
    Scales { encoding: String, row: usize, start: usize, end: usize },
    #[error(
        "the scale {value:e} of row {row}, column {column} is not a number of type {dtype}, which {encoding} stores"
    )]
    Scale { encoding: String, row: usize, column: usize, value: f32, dtype: Dtype },
    #[error("{encoding} holds no run of integers from {low} to {high}; row {row}, column {column}")]
    Range { encoding: String, row: usize, column: usize, low: i16, high: i16 },
    #[error("the minimum {value:e} of row {row}, column {column} is not an f16 number, as {encoding} needs")]
    Minimum { encoding: String, row: usize, column: usize, value: f32 },
    #[error("the minimum of row {row}, column {column} of {encoding} is not a multiple of its scale")]
    ZeroPoint { encoding: String, row: usize, column: usize },
    #[error(transparent)]
    Codec(#[from] CodecError),
}

impl Integers {
    /// Lays an encoded matrix open. `part(suffix)` gives the bytes of a part.
    pub fn read<'a>(
        encoding: Encoding,
        rows: usize,
        cols: usize,
        part: &dyn Fn(&str) -> Option<&'a [u8]>,
    ) -> Result<Integers, RepackError> {
        encoding.check_lengths(rows, cols, &|s: &str| part(s))?;
        match encoding {
            Encoding::Packed(packed) => read_packed(packed, rows, cols, &|s| part(s).unwrap_or_default()),
            Encoding::Block(format) => read_blocks(format, rows, cols, part("weight").unwrap_or_default()),
            Encoding::Plain(_) => Err(RepackError::NotIntegers { encoding: encoding.to_string() }),
        }
    }

    /// The parts of `encoding` that decode to the same numbers.
    pub fn write(&self, encoding: Encoding) -> Result<Vec<Part>, RepackError> {
        match encoding {
            Encoding::Packed(packed) => self.write_packed(packed),
            Encoding::Block(format) => self.write_blocks(format),
            Encoding::Plain(_) => Err(RepackError::NotIntegers { encoding: encoding.to_string() }),
        }
    }

    /// Whether all zero points are this one.
    pub fn zero_is(&self, zero: i16) -> bool {
        self.zero.iter().all(|z| *z == zero)
    }

    fn write_packed(&self, packed: Packed) -> Result<Vec<Part>, RepackError> {
        let encoding = Encoding::Packed(packed);
        let (width, stored) = match (packed_width(packed, self.cols), packed) {
            (Some(width), Packed::Int { scale, .. } | Packed::Int8 { scale, .. }) => (width, scale),
            _ => return Err(RepackError::NotIntegers { encoding: encoding.to_string() }),
        };
        packed.tiles(self.rows, self.cols)?;
        let half = 1i16 << (packed.levels().bits() - 1);
        let zeros = match packed {
            Packed::Int { symmetric: false, .. } => Zero::Stored,
            _ => Zero::Fixed(half),
        };
        let fit = Fit { encoding, dtype: stored.dtype(), top: 2 * half - 1, zeros, small: stored.epsilon() };
        let across = self.cols / width.max(1);
        let mut codes = vec![0; self.codes.len()];
        let (mut scale, mut zero) = (Vec::new(), Vec::new());
        self.each_run(width, |at, run| {
            let (s, z) = fit.run(at, run, &mut codes[at.row * self.cols + at.column..][..run.levels.len()])?;
            scale.push(s);
            zero.push(f32::from(z - half));
            Ok(())
        })?;
        let grid = Grid { levels: packed.levels(), tile: (1, width), across, scale, zero, global: 1.0 };
        Ok(packed.pack(self.rows, self.cols, &grid, &codes)?)
    }

    fn write_blocks(&self, format: BlockFormat) -> Result<Vec<Part>, RepackError> {
        let encoding = Encoding::Block(format);
        let (top, zeros) = match format {
            BlockFormat::Q4_0 => (15, Zero::Fixed(8)),
            BlockFormat::Q4_1 => (15, Zero::Minimum),
            BlockFormat::Q5_0 => (31, Zero::Fixed(16)),
            BlockFormat::Q8_0 => (255, Zero::Fixed(128)),
            _ => return Err(RepackError::NotIntegers { encoding: encoding.to_string() }),
        };
        let spec = encoding.parts(self.rows, self.cols)?.swap_remove(0);
        let codec = format.codec();
        let fit = Fit { encoding, dtype: Dtype::F16, top, zeros, small: 0.0 };
        let mut bytes = Vec::with_capacity(spec.bytes());
        let mut codes = vec![0; codec.block_len()];
        let mut block = vec![0; codec.block_bytes()];
        self.each_run(codec.block_len(), |at, run| {
            let (scale, zero) = fit.run(at, run, &mut codes)?;
            block[..2].copy_from_slice(&f16::from_f32(scale).to_le_bytes());
            if zeros == Zero::Minimum {
                block[2..4].copy_from_slice(&f16::from_f32(minimum(scale, zero)).to_le_bytes());
            }
            codec.pack(&codes, &mut block);
            bytes.extend_from_slice(&block);
            Ok(())
        })?;
        Ok(vec![Part { spec, bytes }])
    }

    /// Cuts rows into runs of `width` columns, which divides them.
    fn each_run(
        &self,
        width: usize,
        mut see: impl FnMut(At, &Run) -> Result<(), RepackError>,
    ) -> Result<(), RepackError> {
        let across = self.cols / self.width.max(1);
        let mut run = Run { levels: vec![0; width], scales: Vec::new(), zero: 0 };
        for row in 0..self.rows {
            for column in (0..self.cols).step_by(width.max(1)) {
                let tile = |column: usize| row * across + column / self.width;
                let codes = &self.codes[row * self.cols + column..][..width];
                for (i, (level, code)) in run.levels.iter_mut().zip(codes).enumerate() {
                    *level = i16::from(*code) - self.zero[tile(column + i)];
                }
                run.scales.clear();
                run.scales.extend_from_slice(&self.scale[tile(column)..=tile(column + width - 1)]);
                run.zero = self.zero[tile(column)];
                see(At { row, column }, &run)?;
            }
        }
        Ok(())
    }
}

/// Where a run begins.
#[derive(Clone, Copy)]
struct At {
    row: usize,
    column: usize,
}

/// A run of numbers: integers, and the scales over them.
struct Run {
    levels: Vec<i16>,
    scales: Vec<f32>,
    /// The zero point that the first of them had.
    zero: i16,
}

/// What an encoding has for a zero point.
#[derive(Clone, Copy, PartialEq)]
enum Zero {
    /// Always this one.
    Fixed(i16),
    /// A code.
    Stored,
    /// `−zero · scale`, in f16.
    Minimum,
}

/// How a run becomes codes of an encoding.
struct Fit {
    encoding: Encoding,
    /// Of scales.
    dtype: Dtype,
    /// The largest code.
    top: i16,
    zeros: Zero,
    /// The scale of a run of zeros whose scale was 0, where such a scale is not allowed.
    small: f32,
}

impl Fit {
    /// Chooses the codes of a run; gives scale and zero point.
    fn run(&self, at: At, run: &Run, codes: &mut [u8]) -> Result<(f32, i16), RepackError> {
        let scale = self.scale(at, run)?;
        let levels = |i: usize| if scale == 0.0 { 0 } else { run.levels[i] };
        let (low, high) = (0..run.levels.len()).map(levels).fold((0, 0), |(l, h), v| (v.min(l), v.max(h)));
        let zero = self.zero(at, run.zero, low, high, scale)?;
        codes.iter_mut().enumerate().for_each(|(i, code)| *code = (levels(i) + zero) as u8);
        Ok((if scale == 0.0 { self.small } else { scale }, zero))
    }

    /// The one scale of a run.
    fn scale(&self, at: At, run: &Run) -> Result<f32, RepackError> {
        let value = run.scales.first().copied().unwrap_or_default();
        if run.scales.iter().any(|s| s.to_bits() != value.to_bits()) {
            let (start, end) = (at.column, at.column + run.levels.len());
            return Err(RepackError::Scales { encoding: self.encoding.to_string(), row: at.row, start, end });
        }
        match holds(self.dtype, value) {
            true => Ok(value),
            false => {
                let (encoding, At { row, column }) = (self.encoding.to_string(), at);
                Err(RepackError::Scale { encoding, row, column, value, dtype: self.dtype })
            }
        }
    }

    /// A zero point under which all levels are codes; the one they had, if it serves.
    fn zero(&self, at: At, had: i16, low: i16, high: i16, scale: f32) -> Result<i16, RepackError> {
        let (encoding, At { row, column }) = (|| self.encoding.to_string(), at);
        let fits = |zero: &i16| low + zero >= 0 && high + zero <= self.top;
        let range = RepackError::Range { encoding: encoding(), row, column, low, high };
        match self.zeros {
            Zero::Fixed(zero) => Some(zero).filter(fits).ok_or(range),
            Zero::Stored => [had, -low].into_iter().find(|z| fits(z) && (0..=self.top).contains(z)).ok_or(range),
            Zero::Minimum => {
                let exact = |zero: &i16| holds(Dtype::F16, minimum(scale, *zero));
                let mut all = std::iter::once(had).chain(-low..=self.top - high).filter(fits).peekable();
                let first = *all.peek().ok_or(range)?;
                let value = minimum(scale, first);
                all.find(exact).ok_or_else(|| RepackError::Minimum { encoding: encoding(), row, column, value })
            }
        }
    }
}

/// Q4_1's minimum for a zero point; exact in f32, for the factors have at most 11 and 8 bits.
fn minimum(scale: f32, zero: i16) -> f32 {
    -scale * f32::from(zero)
}

/// Whether a finite number is one of the type.
fn holds(dtype: Dtype, value: f32) -> bool {
    let (mut bytes, mut back) = ([0; 8], [0.0]);
    let bytes = &mut bytes[..dtype.bytes()];
    crate::block::plain::encode(dtype, &[value], bytes);
    crate::block::plain::decode(dtype, bytes, &mut back);
    value.is_finite() && back[0] == value
}

/// Columns that share a scale, where these lie in one row.
fn packed_width(packed: Packed, cols: usize) -> Option<usize> {
    match packed.granularity() {
        Granularity::Channel => Some(cols.max(1)),
        Granularity::Group(size) => Some(size.get() as usize),
        Granularity::Tensor | Granularity::Block => None,
    }
}

fn read_packed<'a>(
    packed: Packed,
    rows: usize,
    cols: usize,
    bytes: &dyn Fn(&'static str) -> &'a [u8],
) -> Result<Integers, RepackError> {
    let width = match (packed, packed_width(packed, cols)) {
        (Packed::Int { .. } | Packed::Int8 { .. }, Some(width)) => width,
        _ => return Err(RepackError::NotIntegers { encoding: Encoding::Packed(packed).to_string() }),
    };
    let grid = packed.read_grid(rows, cols, bytes)?;
    let mut codes = Vec::with_capacity(rows.saturating_mul(cols));
    packed.each_row(rows, cols, bytes, |_, row| {
        codes.extend_from_slice(row);
        Ok(())
    })?;
    let half = 1i16 << (packed.levels().bits() - 1);
    let zero = grid.zero.iter().map(|z| *z as i16 + half).collect();
    Ok(Integers { rows, cols, width, codes, zero, scale: grid.scale })
}

fn read_blocks(format: BlockFormat, rows: usize, cols: usize, bytes: &[u8]) -> Result<Integers, RepackError> {
    let (codec, encoding) = (format.codec(), || format.to_string());
    let (width, stride) = (codec.block_len(), codec.block_bytes());
    let mut codes = vec![0; rows.saturating_mul(cols)];
    let (mut zero, mut scale) = (Vec::new(), Vec::new());
    for (n, (block, codes)) in bytes.chunks_exact(stride).zip(codes.chunks_exact_mut(width)).enumerate() {
        let (row, column) = (n * width / cols.max(1), n * width % cols.max(1));
        codec.unpack(block, codes);
        let grid = codec.grid(block);
        let step = grid.step(0);
        let BlockLevels::Integers { first, .. } = grid.levels() else {
            return Err(RepackError::NotIntegers { encoding: encoding() });
        };
        if (0..width).any(|i| grid.step(i) != step) {
            return Err(RepackError::NotIntegers { encoding: encoding() });
        }
        let offset = if step.offset == 0.0 { 0.0 } else { -step.offset / step.scale };
        let whole = offset.fract() == 0.0 && offset.abs() < 1024.0 && minimum(step.scale, offset as i16) == step.offset;
        if !whole && step.offset != 0.0 {
            return Err(RepackError::ZeroPoint { encoding: encoding(), row, column });
        }
        zero.push(offset as i16 - first);
        scale.push(step.scale);
    }
    Ok(Integers { rows, cols, width, codes, zero, scale })
}
