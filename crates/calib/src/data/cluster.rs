//! # Clusters of activations
//!
//! **What it does.** Runs the model's first blocks over every window of the pool, takes the mean of what comes out, groups
//! these means into as many clusters as windows are wanted (k-means), and takes from each cluster the window nearest its
//! centre.
//!
//! **When to use.** Where the pool is varied and small enough to run.
//!
//! **What it costs.** A run of some blocks over the whole pool, then clusters × windows × width products, some 20 times.
//! Memory: a vector of the model's width for each window.
//!
//! **What it needs.** A model whose architecture is known.
//!
//! **Numbers.** See [`coverage`](super::coverage), which it is compared with.
//!
//! **Paper.** COLA: curation of calibration data by activations (2025). k-means++: Arthur and Vassilvitskii 2007.
//!
//! **Differences from the paper.** Means are scaled to length 1 and not projected at random; what is taken is the nearest
//! window, not one of the near ones.

use super::mix::normalized;
use super::random::Random;
use super::{DataError, Pool};
use crate::Lane;
use exec::{Compute, Data};
use graph::{Graph, WeightStore};
use rayon::prelude::*;

/// Rounds of k-means at most.
const ROUNDS: usize = 25;
/// Tokens that run together: what waits between blocks is these times the model's width.
const TOGETHER: usize = 16_384;

/// What the model makes of each window: the mean over its tokens of what leaves a block (counted from 0), at length 1.
///
/// # Errors
/// There is no such block; what comes out is not finite.
pub fn features(graph: &Graph, weights: &WeightStore, pool: &Pool, block: usize) -> Result<Vec<Vec<f32>>, DataError> {
    let blocks = graph.blocks().len();
    let end = graph.blocks().get(block).map(|b| b.nodes.end).ok_or(DataError::Block { block, blocks })?;
    let all: Vec<Vec<u32>> = (0..pool.len()).map(|w| pool.ids(w)).collect();
    let mut features = Vec::with_capacity(all.len());
    for windows in all.chunks((TOGETHER / pool.length).max(1)) {
        let mut lane = Lane::new(graph, weights, pool.vocab, windows, None, Compute::F32)?;
        lane.advance(0..end)?;
        for batch in 0..lane.batches() {
            features.extend(means(&mut lane, graph, end, batch, pool.length)?);
        }
    }
    match features.iter().position(|f| f.iter().any(|v| !v.is_finite())) {
        Some(window) => Err(DataError::NotFinite { window }),
        None => Ok(features),
    }
}

/// Of what the last node before `end` gave for a batch.
fn means(lane: &mut Lane, graph: &Graph, end: usize, batch: usize, length: usize) -> Result<Vec<Vec<f32>>, DataError> {
    let value = graph.nodes().get(end.wrapping_sub(1)).and_then(|node| node.outputs.first().copied());
    let mut values = lane.values(batch)?;
    let Some(Data::Float(states)) = value.and_then(|value| values.remove(&value)) else { return Ok(Vec::new()) };
    let width = states.width();
    let mean = |window: &[f32]| {
        let mut sum = vec![0f32; width];
        window.chunks_exact(width).for_each(|row| sum.iter_mut().zip(row).for_each(|(s, x)| *s += x));
        normalized(sum)
    };
    Ok(states.data().chunks_exact((length * width).max(1)).map(mean).collect())
}

/// Squared Euclidean distance.
pub(super) fn distance(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

/// The points nearest the centres of `k` clusters, one each. There are at least `k` points.
pub(super) fn medoids(points: &[&[f32]], k: usize, seed: u64) -> Vec<usize> {
    let mut centres: Vec<Vec<f32>> = begin(points, k, seed).into_iter().map(|i| points[i].to_vec()).collect();
    let mut nearest = assign(points, &centres);
    for _ in 0..ROUNDS {
        fill_empty(&mut nearest, k);
        centres = means_of(points, &nearest, k);
        let next = assign(points, &centres);
        if next.iter().zip(&nearest).all(|(a, b)| a.0 == b.0) {
            break;
        }
        nearest = next;
    }
    fill_empty(&mut nearest, k);
    let member = |cluster: usize| {
        let members = (0..points.len()).filter(|i| nearest[*i].0 == cluster);
        members
            .min_by(|i, j| distance(points[*i], &centres[cluster]).total_cmp(&distance(points[*j], &centres[cluster])))
    };
    (0..k).filter_map(member).collect()
}

/// k-means++: each point with a probability that grows with its squared distance from those taken.
fn begin(points: &[&[f32]], k: usize, seed: u64) -> Vec<usize> {
    let mut random = Random::new(seed);
    let mut taken = vec![random.below(points.len().max(1))];
    let mut far = vec![f32::INFINITY; points.len()];
    while taken.len() < k {
        let last = points[taken[taken.len() - 1]];
        far.par_iter_mut().zip(points).for_each(|(far, point)| *far = far.min(distance(point, last)));
        let total: f64 = far.iter().map(|d| f64::from(*d)).sum();
        let mut left = random.unit() * total;
        let passes = |d: &f32| {
            left -= f64::from(*d);
            *d > 0.0 && left <= 0.0
        };
        let drawn = far.iter().position(passes);
        // Where all points are taken, or equal to one that is: the first that is not.
        let next = drawn.or_else(|| (0..points.len()).find(|i| !taken.contains(i)));
        taken.push(next.unwrap_or(0));
    }
    taken
}

/// The nearest centre of each point, the earlier where several are, and how far it is.
fn assign(points: &[&[f32]], centres: &[Vec<f32>]) -> Vec<(usize, f32)> {
    let nearest = |point: &&[f32]| {
        let all = centres.iter().map(|c| distance(point, c)).enumerate();
        all.min_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap_or((0, 0.0))
    };
    points.par_iter().map(nearest).collect()
}

/// Gives a cluster without points the point that is farthest from its own centre and not alone there.
fn fill_empty(nearest: &mut [(usize, f32)], k: usize) {
    let mut sizes = vec![0usize; k];
    nearest.iter().for_each(|(cluster, _)| sizes[*cluster] += 1);
    for cluster in 0..k {
        if sizes[cluster] > 0 {
            continue;
        }
        let movable = (0..nearest.len()).filter(|i| sizes[nearest[*i].0] > 1);
        let farthest = movable.max_by(|i, j| nearest[*i].1.total_cmp(&nearest[*j].1).then(j.cmp(i)));
        if let Some(i) = farthest {
            sizes[nearest[i].0] -= 1;
            nearest[i] = (cluster, 0.0);
            sizes[cluster] = 1;
        }
    }
}

/// The mean of each cluster; sums run in the order of points, whatever threads there are.
fn means_of(points: &[&[f32]], nearest: &[(usize, f32)], k: usize) -> Vec<Vec<f32>> {
    let width = points.first().map_or(0, |p| p.len());
    let (mut sums, mut sizes) = (vec![vec![0f32; width]; k], vec![0f32; k]);
    for (point, (cluster, _)) in points.iter().zip(nearest) {
        sums[*cluster].iter_mut().zip(*point).for_each(|(s, x)| *s += x);
        sizes[*cluster] += 1.0;
    }
    sums.iter_mut().zip(sizes).for_each(|(sum, n)| sum.iter_mut().for_each(|s| *s /= n.max(1.0)));
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points around four corners.
    fn corners() -> Vec<Vec<f32>> {
        let mut random = Random::new(7);
        let corner = |i: usize| [(i % 2) as f32 * 10.0, (i / 2 % 2) as f32 * 10.0];
        (0..80).map(|i| corner(i).iter().map(|c| c + random.unit() as f32).collect()).collect()
    }

    #[test]
    fn each_corner_is_found_at_any_number_of_threads() {
        let points = corners();
        let points: Vec<&[f32]> = points.iter().map(Vec::as_slice).collect();
        let on = |threads: usize, seed: u64| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| medoids(&points, 4, seed))
        };
        for seed in 0..5 {
            let found = on(1, seed);
            let mut corners: Vec<usize> = found.iter().map(|i| i % 4).collect();
            corners.sort_unstable();
            assert_eq!(corners, [0, 1, 2, 3], "seed {seed}");
            assert_eq!(found, on(3, seed));
        }
    }

    #[test]
    fn equal_points_still_give_as_many_as_asked() {
        let points = vec![vec![1f32, 2.0]; 9];
        let points: Vec<&[f32]> = points.iter().map(Vec::as_slice).collect();
        let mut found = medoids(&points, 9, 3);
        found.sort_unstable();
        assert_eq!(found, (0..9).collect::<Vec<_>>());
    }
}
