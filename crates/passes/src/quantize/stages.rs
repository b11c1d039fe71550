//! Which matrices of a run of nodes are encoded together, and where statistics of what they read are gathered.

use super::sequential::Job;
use super::solver::needs;
use crate::partners::{Site, sites};
use calib::{Depth, Inputs};
use graph::{Graph, Model};
use std::ops::Range;

/// A site and the matrices that read there.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub site: Site,
    /// Numbers in a row.
    pub width: usize,
    /// How much must be known of them.
    pub depth: Depth,
    pub jobs: Vec<Job>,
}

/// Matrices that none of the others of the stage stands before.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    /// Positions of their nodes, and of what lies between.
    pub nodes: Range<usize>,
    pub reads: Vec<Read>,
}

/// The stages of a run of nodes, in order. `drift`: whether what earlier losses did to the inputs can be known.
pub(crate) fn stages(model: &Model, graph: &Graph, segment: &Range<usize>, jobs: &[Job], drift: bool) -> Vec<Stage> {
    let mut stages: Vec<Stage> = Vec::new();
    for at in segment.clone() {
        let node = &graph.nodes()[at];
        for (site, weights) in sites(&node.op, node.inputs.first().copied()) {
            let jobs: Vec<Job> = jobs.iter().filter(|j| weights.contains(&j.weight)).copied().collect();
            let Some(needs) = jobs.iter().filter_map(|j| needs(j.method)).max() else { continue };
            let width = model.weights.get(jobs[0].weight).cols();
            let drifts = drift && matches!(site, Site::Value(_));
            let depth = if drifts { needs } else { needs.min(Depth::Hessian) };
            let read = Read { site, width, depth, jobs };
            match stages.last_mut().filter(|s| s.nodes.end == at + 1 || s.reads.iter().any(|r| r.site == read.site)) {
                Some(stage) => stage.take(at, read),
                None => stages.push(Stage { nodes: at..at + 1, reads: vec![read] }),
            }
        }
    }
    stages
}

impl Stage {
    fn take(&mut self, at: usize, read: Read) {
        self.nodes.end = at + 1;
        match self.reads.iter_mut().find(|r| r.site == read.site) {
            Some(same) => {
                same.depth = same.depth.max(read.depth);
                same.jobs.extend(read.jobs);
            }
            None => self.reads.push(read),
        }
    }
}

/// The reads in parts whose statistics take at most `limit` bytes, or one read that takes more.
pub(crate) fn parts(reads: Vec<Read>, limit: u64) -> Vec<Vec<Read>> {
    let mut parts: Vec<(u64, Vec<Read>)> = Vec::new();
    for read in reads {
        let bytes = Inputs::bytes(read.width, read.depth);
        match parts.last_mut().filter(|(taken, _)| taken + bytes <= limit) {
            Some((taken, part)) => {
                *taken += bytes;
                part.push(read);
            }
            None => parts.push((bytes, vec![read])),
        }
    }
    parts.into_iter().map(|(_, part)| part).collect()
}
