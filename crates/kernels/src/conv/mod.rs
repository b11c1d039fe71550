//! Convolution over `[batch, channels, height, width]`, as networks mean it (no kernel is flipped), and its gradients.
//!
//! `y[n, f, r, c] = b[f] + Σ_{i, p, q} w[f, i, p, q] · x[n, g·C/G + i, r·s + p·d − pad, c·s + q·d − pad]` for filter `f` of group `g`:
//! strided, padded on each side, dilated, grouped down to depthwise. One dimension is a height of one. A transposed convolution is
//! [`conv_grad_input`] of the convolution it transposes, and its gradients are [`conv()`] and [`conv_grad_weight`].
//!
//! There is no matrix of patches: the source is packed once with its padding ([`grid`]), and the inner loops ([`tiles`]) read it
//! at one offset per channel and tap, with sums of 8 filters × 48 positions in registers (the idea of indirect convolution,
//! Dukhan 2019, with the channels' planes kept as ONNX lays them out). Work is cut by shape alone.

mod grid;
mod tiles;

pub(crate) use tiles::{Packed, f32_dots, f32_tile, portable_dots, portable_tile};

use std::cell::Cell;
use std::ops::Range;

use crate::matmul::{MatMut, Write};
use crate::pack::{Line, with_scratch};
use crate::parallel::map_tasks;
use crate::real::Real;
use crate::simd::LANES;
use grid::{Axis, Grid, Rows, Tap, Unit};
use tiles::{DOTS, panel, runs};

thread_local! {
    /// For packed sources.
    static SOURCE: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
    /// For sums that wait to be written out, and gradients laid out on positions.
    static SUMS: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// The sizes of a convolution. Pairs are of height, then width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv {
    /// Images.
    pub batch: usize,
    /// Channels of `x`; a multiple of `groups`.
    pub channels: usize,
    /// Channels of `y`; a multiple of `groups`.
    pub filters: usize,
    /// Groups of channels that see only each other.
    pub groups: usize,
    /// Size of `x`.
    pub input: [usize; 2],
    /// Size of the kernel.
    pub kernel: [usize; 2],
    /// Steps between positions.
    pub stride: [usize; 2],
    /// Steps between taps.
    pub dilation: [usize; 2],
    /// Zeros before and after `x`, of each axis.
    pub pads: [[usize; 2]; 2],
}

impl Conv {
    /// The size of `y`; zero where the kernel does not fit.
    pub fn output(&self) -> [usize; 2] {
        [0, 1].map(|axis| {
            let length = self.input[axis] + self.pads[axis][0] + self.pads[axis][1];
            let kernel = self.dilation[axis] * self.kernel[axis].saturating_sub(1) + 1;
            length.checked_sub(kernel).map_or(0, |spare| spare / self.stride[axis] + 1)
        })
    }

    /// Elements of the weight `[filters, channels / groups, kernel..]`.
    pub fn weights(&self) -> usize {
        self.filters * (self.channels / self.groups) * self.taps()
    }

    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn check(&self, x: usize, w: usize, y: usize) {
        let [input, output] = [self.input, self.output()].map(|size| size[0] * size[1]);
        assert!(self.groups > 0 && self.channels.is_multiple_of(self.groups), "channels in groups");
        assert!(self.filters.is_multiple_of(self.groups), "filters in groups");
        assert!(x == self.batch * self.channels * input && w == self.weights(), "convolution of unlike lengths");
        assert!(y == self.batch * self.filters * output, "convolution of unlike lengths");
    }

    /// The grid on which `y` reads `x`.
    fn forward_grid(&self) -> Grid {
        let output = self.output();
        let [rows, cols] = [0, 1].map(|a| {
            let offset = |index| (index * self.dilation[a]) as isize - self.pads[a][0] as isize;
            Axis {
                source: self.input[a],
                stride: self.stride[a],
                count: output[a],
                taps: (0..self.kernel[a]).map(|index| Tap { index, offset: offset(index) }).collect(),
                target: output[a],
                start: 0,
                step: 1,
            }
        });
        Grid { rows, cols, channels: self.channels / self.groups }
    }

    /// The grids on which `dx` reads `dy`: one per residue of the strides.
    fn backward_grids(&self) -> Vec<Grid> {
        let [rows, cols] = [0, 1].map(|axis| {
            (0..self.stride[axis].min(self.input[axis]))
                .map(|start| self.backward_axis(axis, start))
                .collect::<Vec<_>>()
        });
        let channels = self.filters / self.groups;
        let grid = |rows: &Axis, cols: &Axis| Grid { rows: rows.clone(), cols: cols.clone(), channels };
        rows.iter().flat_map(|rows| cols.iter().map(move |cols| grid(rows, cols))).collect()
    }

    /// `x` at `start + r·stride` is read by `y` at `r + (start + pad − index·dilation) / stride`, where that is whole.
    fn backward_axis(&self, a: usize, start: usize) -> Axis {
        let stride = self.stride[a];
        let offset = |index| (start + self.pads[a][0]) as isize - (index * self.dilation[a]) as isize;
        let taps = (0..self.kernel[a])
            .map(|index| (index, offset(index)))
            .filter(|(_, offset)| offset.rem_euclid(stride as isize) == 0)
            .map(|(index, offset)| Tap { index, offset: offset / stride as isize });
        Axis {
            source: self.output()[a],
            stride: 1,
            count: (self.input[a] - start).div_ceil(stride),
            taps: taps.collect(),
            target: self.input[a],
            start,
            step: stride,
        }
    }
}

/// A grid, and the weights in the order in which it reads them: by group and panel of filters.
struct Pass<R> {
    grid: Grid,
    panels: Vec<R>,
}

/// What one direction multiplies: how many result channels a group has, and how the weight's elements lie.
struct Weights {
    groups: usize,
    filters: usize,
    channels: usize,
    /// From a group to the next, a result channel to the next, a summed channel to the next.
    strides: [usize; 3],
    kernel_width: usize,
}

impl Weights {
    /// Interleaves the weights of each panel of result channels, step by step of the sum.
    fn pass<R: Real>(&self, grid: Grid, w: &[R]) -> Pass<R> {
        let (places, height) = (grid.kernel_places(self.kernel_width), panel(self.filters));
        let depth = self.channels * places.len();
        let mut panels = vec![R::ZERO; self.groups * self.filters.next_multiple_of(height) * depth];
        let per_group = self.filters.div_ceil(height);
        for (at, to) in panels.chunks_exact_mut((depth * height).max(1)).enumerate() {
            let (group, first) = (at / per_group, at % per_group * height);
            for (m, filter) in (first..self.filters.min(first + height)).enumerate() {
                for channel in 0..self.channels {
                    let from = group * self.strides[0] + filter * self.strides[1] + channel * self.strides[2];
                    let to = to[channel * places.len() * height + m..].iter_mut().step_by(height);
                    to.zip(&places).for_each(|(to, place)| *to = w[from + place]);
                }
            }
        }
        Pass { grid, panels }
    }

    /// The weights of one panel of a group.
    fn panel<'a, R>(&self, pass: &'a Pass<R>, group: usize, at: usize, depth: usize) -> &'a [R] {
        let length = panel(self.filters) * depth;
        &pass.panels[(group * self.filters.div_ceil(panel(self.filters)) + at) * length..][..length]
    }
}

/// Some images and rows of one group of the result.
struct Task<'a, R> {
    images: Range<usize>,
    group: usize,
    rows: Range<usize>,
    targets: Vec<MatMut<'a, R>>,
}

/// Cuts a result `[batch, groups · filters, height, width]` into tasks of whole groups.
fn tasks<'a, R>(target: &'a mut [R], weights: &Weights, size: [usize; 2], unit: (usize, usize)) -> Vec<Task<'a, R>> {
    let (images, band) = unit;
    let (area, groups) = (size[0] * size[1], weights.groups);
    let rows = target.len().checked_div(area).unwrap_or(0);
    let bands = size[0].div_ceil(band.max(1));
    let mut tasks: Vec<Task<'a, R>> = Vec::new();
    let blocks = MatMut::new(target, rows, area).into_blocks(weights.filters.max(1), (band * size[1]).max(1));
    for (at, (_, _, block)) in blocks.into_iter().enumerate() {
        let (image, group, part) = (at / bands / groups, at / bands % groups, at % bands);
        let slot = (image / images * groups + group) * bands + part;
        if slot == tasks.len() {
            let rows = part * band..size[0].min((part + 1) * band);
            tasks.push(Task { images: image..image, group, rows, targets: Vec::new() });
        }
        tasks[slot].images.end = image + 1;
        tasks[slot].targets.push(block);
    }
    tasks
}

/// Computes one task: every grid of the direction.
fn run_task<R: Real>(
    weights: &Weights,
    passes: &[Pass<R>],
    source: &[R],
    bias: Option<&[R]>,
    mut task: Task<'_, R>,
    write: Write,
) {
    for pass in passes {
        let grid = &pass.grid;
        let unit = Unit { images: task.images.clone(), rows: grid.rows.within(&task.rows) };
        let (offsets, total) = (grid.offsets(&unit), grid.runs(&unit));
        with_scratch(&SOURCE, grid.packed_len(&unit), |packed: &mut [R]| {
            let all = weights.groups * weights.channels;
            grid.pack(&unit, source, task.group * weights.channels, all, packed);
            let height = panel(weights.filters);
            with_scratch(&SUMS, height * total * LANES, |sums: &mut [R]| {
                for at in 0..weights.filters.div_ceil(height) {
                    let a = weights.panel(pass, task.group, at, offsets.len());
                    run_tiles(height, a, &offsets, packed, sums, total);
                    let filters = at * height..weights.filters.min((at + 1) * height);
                    for (filter, sums) in filters.zip(sums.chunks_exact((total * LANES).max(1))) {
                        let bias = bias.map_or(R::ZERO, |b| b[task.group * weights.filters + filter]);
                        let images = &mut task.targets[..];
                        let mut rows = Rows { images, filter, first_row: task.rows.start, write };
                        grid.unpack(&unit, sums, bias, &mut rows);
                    }
                }
            });
        });
    }
}

/// The sums of one panel at all positions.
fn run_tiles<R: Real>(height: usize, a: &[R], offsets: &[usize], packed: &[R], sums: &mut [R], total: usize) {
    for first in (0..total).step_by(runs(height)) {
        let count = runs(height).min(total - first);
        let b = Packed { offsets, source: packed, start: first * LANES, runs: count };
        R::conv_tile(height, a, b, &mut sums[first * LANES..], total * LANES);
    }
}

/// `y = conv(x, w) + b`, with `w` `[filters, channels / groups, kernel..]`.
///
/// # Panics
/// When the lengths do not agree.
pub fn conv<R: Real>(shape: &Conv, x: &[R], w: &[R], bias: Option<&[R]>, y: &mut [R]) {
    shape.check(x.len(), w.len(), y.len());
    assert!(bias.is_none_or(|bias| bias.len() == shape.filters), "bias length");
    let (filters, channels, taps) = (shape.filters / shape.groups, shape.channels / shape.groups, shape.taps());
    let strides = [filters * channels * taps, channels * taps, taps];
    let weights = Weights { groups: shape.groups, filters, channels, strides, kernel_width: shape.kernel[1] };
    let grid = shape.forward_grid();
    let unit = grid.unit_size(shape.batch);
    let passes = [weights.pass(grid, w)];
    map_tasks(tasks(y, &weights, shape.output(), unit), |task| {
        run_task(&weights, &passes, x, bias, task, Write::Set);
    });
}

/// The gradient of [`conv()`]'s input: `dx (+)= convᵀ(dy, w)`; with `bias`, one number per channel of `dx` more (a transposed
/// convolution).
///
/// # Panics
/// When the lengths do not agree.
pub fn conv_grad_input<R: Real>(shape: &Conv, dy: &[R], w: &[R], bias: Option<&[R]>, dx: &mut [R], write: Write) {
    shape.check(dx.len(), w.len(), dy.len());
    assert!(bias.is_none_or(|bias| bias.len() == shape.channels), "bias length");
    let (filters, channels, taps) = (shape.filters / shape.groups, shape.channels / shape.groups, shape.taps());
    let strides = [filters * channels * taps, taps, channels * taps];
    let (groups, kernel_width) = (shape.groups, shape.kernel[1]);
    let weights = Weights { groups, filters: channels, channels: filters, strides, kernel_width };
    let grids = shape.backward_grids();
    let sizes = grids.iter().map(|grid| grid.unit_size(shape.batch));
    let Some(unit) = sizes.reduce(|a, b| (a.0.min(b.0), a.1.min(b.1))) else { return };
    let passes: Vec<_> = grids.into_iter().map(|grid| weights.pass(grid, w)).collect();
    map_tasks(tasks(dx, &weights, shape.input, unit), |task| {
        run_task(&weights, &passes, dy, bias, task, write);
    });
}

/// The gradient of [`conv()`]'s weight: `dw (+)= …`.
///
/// # Panics
/// When the lengths do not agree.
pub fn conv_grad_weight<R: Real>(shape: &Conv, dy: &[R], x: &[R], dw: &mut [R], write: Write) {
    shape.check(x.len(), dw.len(), dy.len());
    if write == Write::Set {
        dw.fill(R::ZERO);
    }
    let grid = shape.forward_grid();
    let group_len = (shape.weights() / shape.groups).max(1);
    map_tasks(dw.chunks_exact_mut(group_len).enumerate().collect(), |(group, dw): (usize, &mut [R])| {
        for unit in units(&grid, shape.batch) {
            add_unit(shape, &grid, &unit, group, dy, x, dw);
        }
    });
}

/// All units of a grid, in order.
fn units(grid: &Grid, batch: usize) -> Vec<Unit> {
    let (images, band) = grid.unit_size(batch);
    let starts = (0..batch).step_by(images);
    let rows = grid.rows.count;
    starts
        .flat_map(|image| {
            (0..rows)
                .step_by(band)
                .map(move |row| Unit { images: image..batch.min(image + images), rows: row..rows.min(row + band) })
        })
        .collect()
}

/// Adds what one unit contributes to the gradient of a group's weight.
fn add_unit<R: Real>(shape: &Conv, grid: &Grid, unit: &Unit, group: usize, dy: &[R], x: &[R], dw: &mut [R]) {
    let (filters, total) = (shape.filters / shape.groups, grid.runs(unit));
    let offsets = grid.offsets(unit);
    with_scratch(&SOURCE, grid.packed_len(unit), |packed: &mut [R]| {
        grid.pack(unit, x, group * grid.channels, shape.channels, packed);
        let packed = &*packed;
        with_scratch(&SUMS, filters * total * LANES, |spread: &mut [R]| {
            for (filter, to) in spread.chunks_exact_mut((total * LANES).max(1)).enumerate() {
                grid.spread(unit, dy, group * filters + filter, shape.filters, to);
            }
            let spread = &*spread;
            // Two rows of tiles per task.
            let rows = dw.chunks_mut((2 * DOTS.0 * offsets.len()).max(1)).enumerate().collect();
            map_tasks(rows, |(at, dw): (usize, &mut [R])| {
                add_dots(&spread[at * 2 * DOTS.0 * total * LANES..], &offsets, packed, total, dw);
            });
        });
    });
}

/// Adds the products of some filters' gradients with every tap.
fn add_dots<R: Real>(dy: &[R], offsets: &[usize], packed: &[R], total: usize, dw: &mut [R]) {
    let depth = offsets.len();
    for (dw, dy) in dw.chunks_mut((DOTS.0 * depth).max(1)).zip(dy.chunks(DOTS.0 * total * LANES)) {
        let filters = dw.len() / depth;
        for (at, offsets) in offsets.chunks(DOTS.1).enumerate() {
            let b = Packed { offsets, source: packed, start: 0, runs: total };
            R::conv_dots(dy, total * LANES, filters, b, &mut dw[at * DOTS.1..], depth);
        }
    }
}
