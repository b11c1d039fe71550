//! What values were on the samples and what their grids keep of it, for the report.

use super::{QuantizeError, Work, grids};
use calib::ranges::Histogram;
use graph::{Grid, Model, Op};
use plan::RangeEntry;

/// Parts that what was seen is shown in.
const PARTS: usize = 64;

/// Every value of the quantized network that lies on a grid.
pub(super) fn ranges(work: &Work<'_>, made: &Model) -> Result<Vec<RangeEntry>, QuantizeError> {
    let (Some(before), Some(after)) = (work.original.graph(), made.graph()) else { return Ok(Vec::new()) };
    let mut entries = Vec::new();
    for (value, seen) in &work.seen {
        let name = &before.values()[value.0].name;
        let Some(at) = after.find(&super::on_grid_name(name)) else { continue };
        let Op::FakeQuant(op) = &after.nodes()[at].op else { continue };
        let scale = made.weights.get(op.scale).read()?;
        let grid = Grid { scale, zero: op.zero.clone(), axis: op.axis, levels: op.levels };
        let (first, last) = op.levels.range();
        let histogram = seen.histogram();
        entries.push(RangeEntry {
            value: name.clone(),
            seen: histogram.range(),
            kept: [grids::value(&grid, 0, first), grids::value(&grid, 0, last)],
            counts: parts(histogram),
            zeros: histogram.zeros() as f64 / histogram.count().max(1) as f64,
        });
    }
    Ok(entries)
}

/// Counts in equal parts of the range.
fn parts(histogram: &Histogram) -> Vec<u64> {
    let [low, high] = histogram.range();
    let width = (high - low) / PARTS as f32;
    let mut counts = vec![0; PARTS];
    for (middle, count) in histogram.bins() {
        counts[(((middle - low) / width).max(0.0) as usize).min(PARTS - 1)] += count;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_its_part() {
        let mut seen = Histogram::default();
        seen.see(&[-1.0, -0.9, 0.0, 0.5, 3.0]);
        let counts = parts(&seen);
        assert_eq!(counts.iter().sum::<u64>(), 4);
        assert_eq!((counts[0], counts[1], counts[PARTS - 1]), (1, 1, 1));
        assert_eq!(counts[(1.5 / 4.0 * PARTS as f32) as usize], 1);
        assert_eq!(parts(&Histogram::default()), vec![0; PARTS]);
    }
}
