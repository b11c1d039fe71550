//! A matrix on its way into an encoding: scales first, span by span, then codes, one number at a time.
//!
//! Solvers that choose codes in any better way than rounding each number by itself (error feedback, learned rounding)
//! work on a [`Draft`], and so know neither bytes nor formats. Rows are independent of each other once scales that
//! several rows share are [chosen](Draft::new), so a solver may take [`Draft::rows`] apart over threads.

use crate::block::{self, Importance};
use crate::packed::{self, Granularity, Range};
use crate::{BlockFormat, CodecError, Encoding, Matrix, Packed, Part};

/// See the module.
pub struct Draft {
    encoding: Encoding,
    rows: usize,
    cols: usize,
    span: usize,
    codes: Vec<u8>,
    scales: Scales,
}

/// The scales chosen so far.
enum Scales {
    /// Bytes and grid of every block, row by row.
    Blocks { format: BlockFormat, bytes: Vec<u8>, grids: Vec<Option<block::Grid>> },
    /// Those of a packed format. `shared`: some rows share a scale, so all are fixed from the start.
    Tiles { packed: Packed, grid: packed::Grid, shared: bool },
}

impl Draft {
    /// Begins with the scales that rounding would take: those that several rows share are final, the others wait for
    /// [`DraftRow::fit`]. `whole`: the range of all that shares it, see [`Packed::encode`].
    ///
    /// Plain types have nothing to choose; they are refused as [`CodecError::Unknown`].
    pub fn new(encoding: Encoding, matrix: Matrix<'_>, whole: Option<Range>) -> Result<Draft, CodecError> {
        let Matrix { rows, cols, data } = matrix;
        let (span, scales) = match encoding {
            Encoding::Plain(_) => return Err(CodecError::Unknown { name: format!("codes of {encoding}") }),
            Encoding::Block(format) => {
                let bytes = vec![0; format.row_bytes(cols)? * rows];
                format.check_rows(cols, data, None, &bytes)?;
                let len = format.codec().block_len();
                (len, Scales::Blocks { format, bytes, grids: vec![None; rows * (cols / len)] })
            }
            Encoding::Packed(packed) => {
                let grid = packed.fit(matrix, whole)?;
                (packed_span(packed, cols), Scales::Tiles { packed, grid, shared: rows_share(packed) })
            }
        };
        Ok(Draft { encoding, rows, cols, span, codes: vec![0; rows * cols], scales })
    }

    /// A draft of what is encoded already, to go on from its scales and codes.
    pub fn open(encoding: Encoding, rows: usize, cols: usize, parts: &[Part]) -> Result<Draft, CodecError> {
        let find = |suffix: &str| parts.iter().find(|p| p.spec.suffix == suffix).map(|p| &p.bytes[..]);
        encoding.validate(rows, cols, find)?;
        let bytes = |suffix: &'static str| find(suffix).unwrap_or_default();
        let (span, codes, scales) = match encoding {
            Encoding::Plain(_) => return Err(CodecError::Unknown { name: format!("codes of {encoding}") }),
            Encoding::Block(format) => {
                let (codec, bytes) = (format.codec(), bytes("weight").to_vec());
                let mut codes = vec![0; rows * cols];
                let blocks = || bytes.chunks_exact(codec.block_bytes());
                codes.chunks_exact_mut(codec.block_len()).zip(blocks()).for_each(|(c, block)| codec.unpack(block, c));
                let grids = blocks().map(|block| Some(codec.grid(block))).collect();
                (codec.block_len(), codes, Scales::Blocks { format, bytes, grids })
            }
            Encoding::Packed(packed) => {
                let (grid, codes) = packed.read(rows, cols, &bytes)?;
                (packed_span(packed, cols), codes, Scales::Tiles { packed, grid, shared: rows_share(packed) })
            }
        };
        Ok(Draft { encoding, rows, cols, span, codes, scales })
    }

    /// Columns whose scales are chosen together: a superblock, a group, or a row.
    pub fn span(&self) -> usize {
        self.span
    }

    /// The rows, to be worked on apart.
    pub fn rows(&mut self) -> Vec<DraftRow<'_>> {
        let (cols, span) = (self.cols.max(1), self.span.max(1));
        let codes = self.codes.chunks_exact_mut(cols);
        match &mut self.scales {
            Scales::Blocks { format, bytes, grids } => {
                let stride = (bytes.len() / self.rows.max(1)).max(1);
                let scales = bytes.chunks_exact_mut(stride).zip(grids.chunks_exact_mut(cols / span));
                let row = |(codes, (bytes, grids))| DraftRow {
                    span,
                    codes,
                    scales: RowScales::Blocks { format: *format, bytes, grids },
                };
                codes.zip(scales).map(row).collect()
            }
            Scales::Tiles { packed, grid, shared } => {
                let (levels, global, packed) = (grid.levels, grid.global, *packed);
                let (across, (height, width)) = (grid.across.max(1), grid.tile);
                if *shared {
                    let grid = &*grid;
                    let row = |(row, codes)| DraftRow { span, codes, scales: RowScales::Shared { grid, row } };
                    return codes.enumerate().map(row).collect();
                }
                debug_assert_eq!(height, 1, "rows do not share scales");
                let scales = grid.scale.chunks_exact_mut(across).zip(grid.zero.chunks_exact_mut(across));
                let row = |(codes, (scale, zero))| {
                    let tiles = packed::RowTiles { packed, levels, global, width, scale, zero };
                    DraftRow { span, codes, scales: RowScales::Tiles(tiles) }
                };
                codes.zip(scales).map(row).collect()
            }
        }
    }

    /// The encoded matrix. Refuses blocks whose scales became no numbers that the format holds.
    pub fn finish(self) -> Result<Vec<Part>, CodecError> {
        let Draft { encoding, rows, cols, span, codes, scales } = self;
        match scales {
            Scales::Blocks { format, mut bytes, .. } => {
                let codec = format.codec();
                let blocks = bytes.chunks_exact_mut(codec.block_bytes()).zip(codes.chunks_exact(span));
                blocks.for_each(|(block, codes)| codec.pack(codes, block));
                format.validate(&bytes)?;
                let spec = encoding.parts(rows, cols)?.swap_remove(0);
                Ok(vec![Part { spec, bytes }])
            }
            Scales::Tiles { packed, grid, .. } => packed.pack(rows, cols, &grid, &codes),
        }
    }
}

fn packed_span(packed: Packed, cols: usize) -> usize {
    if let Granularity::Group(n) = packed.granularity() { n.get() as usize } else { cols }
}

/// Whether some rows share a scale.
fn rows_share(packed: Packed) -> bool {
    matches!(packed.granularity(), Granularity::Tensor | Granularity::Block)
}

/// One row of a [`Draft`].
pub struct DraftRow<'a> {
    span: usize,
    codes: &'a mut [u8],
    scales: RowScales<'a>,
}

enum RowScales<'a> {
    Blocks { format: BlockFormat, bytes: &'a mut [u8], grids: &'a mut [Option<block::Grid>] },
    Tiles(packed::RowTiles<'a>),
    Shared { grid: &'a packed::Grid, row: usize },
}

/// The scales of one span, as they were.
#[derive(Clone, Debug)]
pub struct SpanScales(Kept);

#[derive(Clone, Debug)]
enum Kept {
    Block(Vec<u8>),
    Tile(f32, f32),
    Shared,
}

impl DraftRow<'_> {
    /// Chooses the scales of the `n`-th span for the numbers `x`, of which each matters as `importance` says (mean
    /// squares of the inputs that it is multiplied with). Scales that rows share stay as they are.
    pub fn fit(&mut self, n: usize, x: &[f32], importance: Option<&[f32]>) {
        match &mut self.scales {
            RowScales::Blocks { format, bytes, grids } => {
                let codec = format.codec();
                let mean = x.iter().map(|v| v * v).sum::<f32>() / x.len().max(1) as f32;
                let importance = importance.map(|columns| Importance { columns, row_mean_square: mean });
                let block = &mut bytes[n * codec.block_bytes()..][..codec.block_bytes()];
                codec.encode_block(x, importance, block);
                grids[n] = Some(codec.grid(block));
            }
            RowScales::Tiles(tiles) => tiles.fit(n, x, importance),
            RowScales::Shared { .. } => {}
        }
    }

    /// Multiplies all values of the `n`-th span by about `factor`, as near as its scales can be stored. Says whether
    /// anything changed: not where rows share scales, or scales are powers of two.
    pub fn stretch(&mut self, n: usize, factor: f32) -> bool {
        match &mut self.scales {
            RowScales::Blocks { format, bytes, grids } => {
                let codec = format.codec();
                let block = &mut bytes[n * codec.block_bytes()..][..codec.block_bytes()];
                let changed = block::stretch(codec, block, factor);
                grids[n] = Some(codec.grid(block));
                changed
            }
            RowScales::Tiles(tiles) => tiles.stretch(n, factor),
            RowScales::Shared { .. } => false,
        }
    }

    /// The values of the `n`-th span that are nearest to numbers.
    pub fn values(&self, n: usize, x: &[f32]) -> Vec<f32> {
        x.iter().enumerate().map(|(i, x)| self.nearest(n * self.span + i, *x).1).collect()
    }

    /// Stretches the `n`-th span to the least-squares optimum for the numbers `x`, which `values` of it stand for. Says
    /// whether anything changed.
    pub fn stretch_to(&mut self, n: usize, x: &[f32], values: &[f32]) -> bool {
        let (dot, square) = x.iter().zip(values).fold((0.0, 0.0), |(d, s), (x, v)| (d + x * v, s + v * v));
        square > 0.0 && self.stretch(n, dot / square)
    }

    /// The scales of the `n`-th span, to be [put back](DraftRow::restore).
    pub fn scales(&self, n: usize) -> SpanScales {
        SpanScales(match &self.scales {
            RowScales::Blocks { format, bytes, .. } => {
                let len = format.codec().block_bytes();
                Kept::Block(bytes[n * len..][..len].to_vec())
            }
            RowScales::Tiles(tiles) => Kept::Tile(tiles.scale[n], tiles.zero[n]),
            RowScales::Shared { .. } => Kept::Shared,
        })
    }

    /// Puts scales of the `n`-th span back; those of a draft of another encoding change nothing.
    pub fn restore(&mut self, n: usize, scales: &SpanScales) {
        match (&mut self.scales, &scales.0) {
            (RowScales::Blocks { format, bytes, grids }, Kept::Block(kept)) => {
                let codec = format.codec();
                if kept.len() == codec.block_bytes() {
                    bytes[n * kept.len()..][..kept.len()].copy_from_slice(kept);
                    grids[n] = Some(codec.grid(kept));
                }
            }
            (RowScales::Tiles(tiles), Kept::Tile(scale, zero)) => (tiles.scale[n], tiles.zero[n]) = (*scale, *zero),
            _ => {}
        }
    }

    /// Rounds `x` onto the values that column `col` can hold, keeps the code, and returns the value.
    #[inline]
    pub fn round(&mut self, col: usize, x: f32) -> f32 {
        let (code, value) = self.nearest(col, x);
        self.codes[col] = code;
        value
    }

    /// The code of the value nearest to `x` that column `col` can hold, and that value. Its span was fit.
    #[inline]
    pub fn nearest(&self, col: usize, x: f32) -> (u8, f32) {
        match &self.scales {
            RowScales::Blocks { grids, .. } => match &grids[col / self.span] {
                Some(grid) => {
                    let code = grid.nearest(col % self.span, x);
                    (code, grid.value(col % self.span, code))
                }
                None => (0, 0.0),
            },
            RowScales::Tiles(tiles) => tiles.nearest(col, x),
            RowScales::Shared { grid, row } => {
                let code = grid.nearest(*row, col, x);
                (code, grid.value(*row, col, code))
            }
        }
    }

    /// The value of a code in column `col`.
    #[inline]
    pub fn value(&self, col: usize, code: u8) -> f32 {
        match &self.scales {
            RowScales::Blocks { grids, .. } => {
                grids[col / self.span].as_ref().map_or(0.0, |g| g.value(col % self.span, code))
            }
            RowScales::Tiles(tiles) => tiles.value(col, code),
            RowScales::Shared { grid, row } => grid.value(*row, col, code),
        }
    }

    /// Codes chosen so far; those of columns not yet rounded are 0.
    pub fn codes(&mut self) -> &mut [u8] {
        self.codes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(n: usize) -> Vec<f32> {
        (0..n).map(|i| (i as f32 * 0.713).sin() * (1.0 + (i % 37) as f32 * 0.05)).collect()
    }

    /// Fitting and rounding every number by itself gives the bytes of the encoder, or (where it keeps codes of its
    /// search) numbers no farther away.
    #[test]
    fn rounding_each_number_is_what_the_encoder_does() {
        let names = [
            "q2_K",
            "q3_K",
            "q4_K",
            "q5_K",
            "q6_K",
            "q4_0",
            "q8_0",
            "iq4_xs",
            "tq2_0",
            "mxfp4",
            "int4-g128",
            "int4-g32-asym",
            "int8-channel-bytes",
            "fp8-channel",
            "fp8-block",
            "nvfp4-g16",
            "int3-tensor",
        ];
        let (rows, cols) = (3, 512);
        let data = numbers(rows * cols);
        let matrix = Matrix { rows, cols, data: &data };
        let mut tried = 0;
        for name in names {
            let Ok(encoding) = name.parse::<Encoding>() else { continue };
            tried += 1;
            let mut draft = Draft::new(encoding, matrix, None).unwrap();
            let span = draft.span();
            for (row, x) in draft.rows().iter_mut().zip(data.chunks_exact(cols)) {
                for (n, x) in x.chunks_exact(span).enumerate() {
                    row.fit(n, x, None);
                    for (i, v) in x.iter().enumerate() {
                        row.round(n * span + i, *v);
                    }
                }
            }
            let (ours, theirs) = (draft.finish().unwrap(), encoding.encode(matrix, None).unwrap());
            assert_eq!(Draft::open(encoding, rows, cols, &ours).unwrap().finish().unwrap(), ours, "{name}");
            let error = |parts: &[Part]| {
                let find = |suffix: &str| parts.iter().find(|p| p.spec.suffix == suffix).map(|p| &p.bytes[..]);
                let decoded = encoding.decode(rows, cols, find).unwrap();
                decoded.iter().zip(&data).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>()
            };
            assert!(error(&ours) <= error(&theirs) * 1.0001, "{name}: {} against {}", error(&ours), error(&theirs));
        }
        assert!(tried == names.len(), "{tried} of the names are encodings");
    }

    #[test]
    fn plain_types_have_no_codes() {
        let matrix = Matrix { rows: 1, cols: 2, data: &[1.0, 2.0] };
        assert!(Draft::new(Encoding::Plain(crate::Dtype::F16), matrix, None).is_err());
    }
}
