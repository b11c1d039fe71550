//! Grids of integers that numbers are rounded to: `x ≈ (code − zero) · scale`.

/// The integers of a grid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Levels {
    I4,
    U4,
    I8,
    U8,
    I16,
    U16,
    I32,
}

impl Levels {
    /// The least and the greatest.
    pub const fn range(self) -> (i64, i64) {
        match self {
            Levels::I4 => (-8, 7),
            Levels::U4 => (0, 15),
            Levels::I8 => (-128, 127),
            Levels::U8 => (0, 255),
            Levels::I16 => (-32_768, 32_767),
            Levels::U16 => (0, 65_535),
            Levels::I32 => (i32::MIN as i64, i32::MAX as i64),
        }
    }

    /// Bits of a code.
    pub const fn bits(self) -> usize {
        match self {
            Levels::I4 | Levels::U4 => 4,
            Levels::I8 | Levels::U8 => 8,
            Levels::I16 | Levels::U16 => 16,
            Levels::I32 => 32,
        }
    }
}

/// The grid that a weight's numbers lie on, so that they can be stored as codes. The weight itself holds the numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// One number, or as many as `axis` has indices.
    pub scale: Vec<f32>,
    /// As many integers as scales.
    pub zero: Vec<i32>,
    /// The axis with a scale for each index.
    pub axis: Option<usize>,
    /// The integers there are.
    pub levels: Levels,
}

impl Grid {
    /// The code of a number at `index` of the axis.
    pub fn code(&self, x: f32, index: usize) -> i64 {
        let at = if self.axis.is_some() { index } else { 0 };
        let (scale, zero) = (self.scale.get(at).copied().unwrap_or(1.0), self.zero.get(at).copied().unwrap_or(0));
        let (low, high) = self.levels.range();
        // A double holds every 32-bit code exactly.
        ((f64::from(x) / f64::from(scale)).round_ties_even() as i64).saturating_add(i64::from(zero)).clamp(low, high)
    }
}
