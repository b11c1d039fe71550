//! How positions of a convolution's result read its source, and the source packed so that they read it in runs.
//!
//! A position `r` along an axis reads the source at `r·stride + offset` for each kernel tap. The source is copied with its zero
//! padding into *planes*, one per residue of `stride` that a tap needs, so that every tap reads consecutive numbers for
//! consecutive positions. Several images stand side by side in one plane and share the padding between them: then a plane is one
//! long run of positions of which only the padding's share is wasted, and small images fill vector registers too.
//!
//! ```text
//! plane: rows of  0 a a a a 0 b b b b 0 c c c c    (three images of width 4, padding 1, pitch 5)
//! ```
//!
//! The gradient of the input is the same thing with other taps: its positions of one residue of the stride read `dy` with stride 1.

use std::ops::Range;

use crate::matmul::{MatMut, Write};
use crate::real::Real;
use crate::simd::{LANES, vectorised};

/// Elements of a packed source that a core's own cache holds beside the weights.
const PACKED: usize = 48 << 10;
/// Positions of one unit of work: sums of a panel of filters for so many positions wait to be written out.
const POSITIONS: usize = 4 << 10;

/// One tap of a kernel along one axis.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tap {
    /// Its place in the kernel.
    pub(super) index: usize,
    /// The source position that result position 0 reads; negative in the padding.
    pub(super) offset: isize,
}

/// One axis: what result positions read, and where they lie in the result.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    /// Length of the source.
    pub(super) source: usize,
    /// Source steps from one position to the next.
    pub(super) stride: usize,
    /// Positions.
    pub(super) count: usize,
    /// What each position reads.
    pub(super) taps: Vec<Tap>,
    /// Length of the result.
    pub(super) target: usize,
    /// Where position 0 lies in the result.
    pub(super) start: usize,
    /// Result steps from one position to the next.
    pub(super) step: usize,
}

impl Axis {
    fn low(&self) -> isize {
        self.taps.iter().map(|tap| tap.offset).min().unwrap_or(0)
    }

    /// How far above its lowest tap a position reads, in planes' positions.
    fn reach(&self) -> usize {
        let high = self.taps.iter().map(|tap| tap.offset).max().unwrap_or(0);
        (high - self.low()).unsigned_abs() / self.stride
    }

    /// The plane that a tap reads (a residue of the stride), and how far along.
    fn place(&self, tap: Tap) -> (usize, usize) {
        let above = (tap.offset - self.low()).unsigned_abs();
        (above % self.stride, above / self.stride)
    }

    /// The residues that taps read.
    fn residues(&self) -> Vec<usize> {
        let mut residues: Vec<_> = self.taps.iter().map(|tap| self.place(*tap).0).collect();
        residues.sort_unstable();
        residues.dedup();
        residues
    }

    /// Distance from one image to the next: the zeros after one are the zeros before the next.
    fn pitch(&self) -> usize {
        let extent = self.count + self.reach();
        let filled = (self.source as isize - 1 - self.low()).div_euclid(self.stride as isize) + 1;
        let lead = self.low().min(0).unsigned_abs() / self.stride;
        let tail = extent.saturating_sub(filled.max(0).unsigned_abs());
        extent - lead.min(tail).min(self.reach())
    }

    /// Where position `at` of a residue's plane lies in the source.
    fn source_of(&self, at: usize, residue: usize) -> isize {
        (at * self.stride + residue) as isize + self.low()
    }

    /// The positions of a residue's plane, below `end`, that hold source elements.
    fn filled(&self, residue: usize, end: usize) -> Range<usize> {
        let first = residue as isize + self.low();
        let stride = self.stride as isize;
        let from = (-first).max(0).unsigned_abs().div_ceil(self.stride).min(end);
        let to = (self.source as isize - 1 - first).div_euclid(stride) + 1;
        from..to.max(0).unsigned_abs().clamp(from, end)
    }

    /// The positions whose place in the result is inside `rows`; `rows` begins at a multiple of `step`.
    pub(super) fn within(&self, rows: &Range<usize>) -> Range<usize> {
        let at = |row: usize| row.saturating_sub(self.start).div_ceil(self.step).min(self.count);
        at(rows.start)..at(rows.end)
    }
}

/// A part of the work: some images side by side, some rows of positions.
#[derive(Clone, Debug)]
pub(super) struct Unit {
    /// Images of the batch.
    pub(super) images: Range<usize>,
    /// Rows of positions.
    pub(super) rows: Range<usize>,
}

/// Both axes, and how many channels a sum runs over.
#[derive(Clone, Debug)]
pub(super) struct Grid {
    pub(super) rows: Axis,
    pub(super) cols: Axis,
    /// Channels of the source that one group reads.
    pub(super) channels: usize,
}

impl Grid {
    /// How many images, and how many rows of the result, one unit takes.
    pub(super) fn unit_size(&self, batch: usize) -> (usize, usize) {
        let planes = (self.channels * self.rows.residues().len() * self.cols.residues().len()).max(1);
        let (pitch, rows) = (self.cols.pitch().max(1), self.rows.count.max(1));
        let whole = planes * (rows + self.rows.reach()) * pitch;
        let images = (PACKED / whole.max(1)).min(POSITIONS / (rows * pitch)).clamp(1, batch.max(1));
        let fitting = (PACKED / (planes * pitch)).saturating_sub(self.rows.reach()).min(POSITIONS / pitch);
        let band = if images > 1 { rows } else { fitting.max(4.max(2 * self.rows.reach())).min(rows) };
        (images, band * self.rows.step)
    }

    fn width(&self, unit: &Unit) -> usize {
        unit.images.len() * self.cols.pitch()
    }

    fn plane(&self, unit: &Unit) -> usize {
        (unit.rows.len() + self.rows.reach()) * self.width(unit)
    }

    /// Runs of [`LANES`] that cover the positions of a unit.
    pub(super) fn runs(&self, unit: &Unit) -> usize {
        (unit.rows.len() * self.width(unit)).div_ceil(LANES)
    }

    /// Elements of one packed channel.
    fn channel_len(&self, unit: &Unit) -> usize {
        self.rows.residues().len() * self.cols.residues().len() * self.plane(unit)
    }

    /// Elements of the packed source: what lies past the planes is read and counts for nothing.
    pub(super) fn packed_len(&self, unit: &Unit) -> usize {
        self.channels * self.channel_len(unit) + self.cols.reach() + LANES
    }

    /// Taps of the kernel that the grid uses, as places in a `[.., kernel_width]` kernel.
    pub(super) fn kernel_places(&self, kernel_width: usize) -> Vec<usize> {
        let cols =
            |row: &Tap| self.cols.taps.iter().map(|col| row.index * kernel_width + col.index).collect::<Vec<_>>();
        self.rows.taps.iter().flat_map(cols).collect()
    }

    /// Where each channel and tap begins in the packed source.
    pub(super) fn offsets(&self, unit: &Unit) -> Vec<usize> {
        let (rows, cols) = (self.rows.residues(), self.cols.residues());
        let (plane, width) = (self.plane(unit), self.width(unit));
        let index = |residues: &[usize], residue| residues.iter().position(|r| *r == residue).unwrap_or(0);
        let mut offsets = Vec::with_capacity(self.channels * self.rows.taps.len() * self.cols.taps.len());
        for channel in 0..self.channels {
            for row in &self.rows.taps {
                let (residue, down) = self.rows.place(*row);
                let first = (channel * rows.len() + index(&rows, residue)) * cols.len();
                offsets.extend(self.cols.taps.iter().map(|col| {
                    let (residue, along) = self.cols.place(*col);
                    (first + index(&cols, residue)) * plane + down * width + along
                }));
            }
        }
        offsets
    }

    /// Packs `channels` channels from `first` on, of a source with `all` channels.
    pub(super) fn pack<R: Real>(&self, unit: &Unit, source: &[R], first: usize, all: usize, to: &mut [R]) {
        let size = self.rows.source * self.cols.source;
        let (cols, pitch) = (self.cols.residues(), self.cols.pitch());
        let filled: Vec<_> = cols.iter().map(|residue| (*residue, self.cols.filled(*residue, pitch))).collect();
        let mut planes = to.chunks_exact_mut(self.plane(unit).max(1));
        for channel in first..first + self.channels {
            for row_residue in self.rows.residues() {
                for (residue, filled) in &filled {
                    let Some(plane) = planes.next() else { return };
                    for (v, to) in plane.chunks_exact_mut(self.width(unit).max(1)).enumerate() {
                        let row = self.rows.source_of(unit.rows.start + v, row_residue);
                        let Ok(row) = usize::try_from(row) else {
                            to.fill(R::ZERO);
                            continue;
                        };
                        if row >= self.rows.source || filled.is_empty() {
                            to.fill(R::ZERO);
                            continue;
                        }
                        let col = self.cols.source_of(filled.start, *residue).unsigned_abs();
                        let from = (unit.images.start * all + channel) * size + row * self.cols.source + col;
                        let strip = Strip { filled: filled.clone(), pitch, stride: self.cols.stride, jump: all * size };
                        strip_here(&strip, &source[from..], to);
                    }
                }
            }
        }
        let rest = self.channels * self.channel_len(unit);
        to[rest..].fill(R::ZERO);
    }

    /// Lays rows of the result's gradient out on the positions, zeros between them; `to` holds [`Grid::runs`] runs.
    pub(super) fn spread<R: Real>(&self, unit: &Unit, dy: &[R], channel: usize, all: usize, to: &mut [R]) {
        let size = self.rows.count * self.cols.count;
        let (width, pitch) = (self.width(unit), self.cols.pitch());
        to[unit.rows.len() * width..].fill(R::ZERO);
        for (row, to) in unit.rows.clone().zip(to.chunks_exact_mut(width.max(1))) {
            let from = (unit.images.start * all + channel) * size + row * self.cols.count;
            let strip = Strip { filled: 0..self.cols.count, pitch, stride: 1, jump: all * size };
            strip_here(&strip, &dy[from..], to);
        }
    }

    /// Writes the sums of one filter into its rows of the result, image by image.
    pub(super) fn unpack<R: Real>(&self, unit: &Unit, sums: &[R], bias: R, to: &mut Rows<'_, '_, R>) {
        let (width, pitch) = (self.width(unit), self.cols.pitch());
        let first = self.rows.start + unit.rows.start * self.rows.step - to.first_row;
        for (n, image) in to.images.iter_mut().enumerate() {
            let out = image.row_mut(to.filter);
            for row in 0..unit.rows.len() {
                let from = &sums[row * width + n * pitch..][..self.cols.count];
                let to_row = &mut out[(first + row * self.rows.step) * self.cols.target + self.cols.start..];
                write_here(from, bias, to_row, self.cols.step, to.write);
            }
        }
    }
}

/// The rows of the result that one filter's sums go to.
pub(super) struct Rows<'a, 'b, R> {
    /// One matrix `[filters, rows of the result]` per image.
    pub(super) images: &'a mut [MatMut<'b, R>],
    /// Which row of the matrices.
    pub(super) filter: usize,
    /// The row of the result at which the matrices begin.
    pub(super) first_row: usize,
    /// Replace or add.
    pub(super) write: Write,
}

/// One row of a plane: for each image `pitch` elements, of which `filled` come from the source.
struct Strip {
    filled: Range<usize>,
    pitch: usize,
    stride: usize,
    /// From an image to the next in the source.
    jump: usize,
}

vectorised! {
    fn strip_here<R: Real>(strip: &Strip, from: &[R], to: &mut [R]) {
        let count = strip.filled.len();
        for (n, to) in to.chunks_exact_mut(strip.pitch).enumerate() {
            let from = &from[n * strip.jump..];
            to[..strip.filled.start].fill(R::ZERO);
            to[strip.filled.end..].fill(R::ZERO);
            let to = &mut to[strip.filled.clone()];
            if strip.stride == 1 {
                to.copy_from_slice(&from[..count]);
            } else {
                to.iter_mut().zip(from.iter().step_by(strip.stride)).for_each(|(to, from)| *to = *from);
            }
        }
    }
}

vectorised! {
    fn write_here<R: Real>(from: &[R], bias: R, to: &mut [R], step: usize, write: Write) {
        match (step, write) {
            (1, Write::Set) => to.iter_mut().zip(from).for_each(|(to, &sum)| *to = sum + bias),
            (1, Write::Add) => to.iter_mut().zip(from).for_each(|(to, &sum)| *to += sum + bias),
            (_, Write::Set) => to.iter_mut().step_by(step).zip(from).for_each(|(to, &sum)| *to = sum + bias),
            (_, Write::Add) => to.iter_mut().step_by(step).zip(from).for_each(|(to, &sum)| *to += sum + bias),
        }
    }
}
