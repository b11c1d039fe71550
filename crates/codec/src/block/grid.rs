//! What the codes of one block stand for, once its scales are chosen.

/// The integers that codes stand for before scaling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Levels {
    /// Code `c` is the integer `first + c`; there are `count` codes.
    Integers {
        /// What code 0 stands for.
        first: i16,
        /// Number of codes.
        count: u16,
    },
    /// Code `c` is `table[c]`.
    Table(&'static [i8]),
}

impl Levels {
    /// The level of a code; a code beyond the last stands for the last.
    #[inline]
    pub fn level(self, code: u8) -> f32 {
        match self {
            Levels::Integers { first, count } => f32::from(first + i16::from(code).min(count as i16 - 1)),
            Levels::Table(table) => table.get(usize::from(code)).or(table.last()).map_or(0.0, |v| f32::from(*v)),
        }
    }

    /// The code whose level is nearest to `level`.
    fn nearest(self, level: f32) -> u8 {
        match self {
            Levels::Integers { first, count } => {
                (level - f32::from(first)).round_ties_even().clamp(0.0, f32::from(count) - 1.0) as u8
            }
            Levels::Table(table) => {
                let error = |code: &usize| (f32::from(table[*code]) - level).abs();
                (0..table.len()).min_by(|a, b| error(a).total_cmp(&error(b))).unwrap_or(0) as u8
            }
        }
    }
}

/// Scale and offset of a group of numbers: a code is worth `scale · level + offset`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    /// Worth of one level.
    pub scale: f32,
    /// Worth of level 0.
    pub offset: f32,
}

impl Step {
    /// A step without an offset. It is `-0`, which leaves every number as it is; adding `+0` would turn `-0` into `+0`.
    pub const fn linear(scale: f32) -> Self {
        Step { scale, offset: -0.0 }
    }
}

/// The values that a block can hold, its scales being chosen: what a solver rounds onto, column by column, before
/// [`pack`](super::BlockCodec::pack) writes the codes beside those scales.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    group: usize,
    steps: [Step; 16],
    levels: Levels,
}

impl Grid {
    /// `step(g)` gives the scale and offset of the `g`-th group of `group` numbers; at most 16 groups.
    pub(super) fn new(levels: Levels, group: usize, groups: usize, step: impl Fn(usize) -> Step) -> Self {
        let mut steps = [Step::linear(0.0); 16];
        for (g, s) in steps.iter_mut().enumerate().take(groups) {
            *s = step(g);
        }
        Grid { group, steps, levels }
    }

    /// The levels that the codes stand for.
    pub fn levels(&self) -> Levels {
        self.levels
    }

    /// Scale and offset of the number at `index` of the block.
    #[inline]
    pub fn step(&self, index: usize) -> Step {
        self.steps[index / self.group]
    }

    /// The value of `code` for the number at `index` of the block.
    #[inline]
    pub fn value(&self, index: usize, code: u8) -> f32 {
        let Step { scale, offset } = self.step(index);
        scale * self.levels.level(code) + offset
    }

    /// The code whose value is nearest to `x` for the number at `index` of the block.
    pub fn nearest(&self, index: usize, x: f32) -> u8 {
        let Step { scale, offset } = self.step(index);
        self.levels.nearest(if scale == 0.0 { 0.0 } else { (x - offset) / scale })
    }

    /// Values of all `codes` of the block.
    pub(super) fn decode(&self, codes: &[u8], out: &mut [f32]) {
        for ((step, codes), out) in self.steps.iter().zip(codes.chunks(self.group)).zip(out.chunks_mut(self.group)) {
            for (y, code) in out.iter_mut().zip(codes) {
                *y = step.scale * self.levels.level(*code) + step.offset;
            }
        }
    }
}
