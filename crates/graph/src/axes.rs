//! Axis relations: which axis of an input is which axis of an output or a weight.
//!
//! Every op declares its links; pruning groups, smoothing pairs and rotation points follow from them alone: whatever is
//! linked, index by index, loses an index together. Values are laid out as ONNX has them: `[batch, channels, space…]`.

use std::sync::Arc;

/// One side of a link: an axis of something the node touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct End {
    /// What.
    pub port: Port,
    /// Which axis of it, outermost first.
    pub axis: usize,
}

/// Something a node touches, by position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Port {
    /// The node's n-th input.
    Input(usize),
    /// The node's n-th output.
    Output(usize),
    /// The n-th of [`crate::OpSpec::weights`].
    Weight(usize),
}

/// How the indices of two linked axes correspond.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// Index `i` there is index `i` here.
    Same,
    /// Index `i` of `b` is index `i + offset` of `a`: a part of a split or concatenated axis.
    Offset(usize),
    /// Index `i` of `a` belongs with index `(i / (unit * repeat)) * unit + i % unit` of `b`: query heads of `unit`
    /// channels share a key head, `repeat` at a time.
    Heads {
        /// Channels of a head.
        unit: usize,
        /// Heads of `a` per head of `b`.
        repeat: usize,
    },
    /// Index `i` of `a` belongs with index `(i / unit) % length` of `b`, whose length that is: a flattened axis and one of
    /// the axes in it; the inputs of a grouped convolution and those of each group; outputs that share a depthwise input.
    Digit {
        /// How many indices of `a` in a row belong with one of `b`.
        unit: usize,
    },
    /// Index `i` of `b` is index `map[i]` of `a`: a slice with steps, a gather.
    Pick(Arc<[usize]>),
}

impl Relation {
    /// The pairs `(index of a, index of b)` that go together, for axes of these lengths.
    pub fn pairs(&self, a: usize, b: usize) -> Vec<(usize, usize)> {
        match self {
            Relation::Same => (0..a.min(b)).map(|i| (i, i)).collect(),
            Relation::Offset(offset) => (0..b).map(|i| (i + offset, i)).collect(),
            Relation::Heads { unit, repeat } => {
                (0..a).map(|i| (i, (i / (unit * repeat).max(1)) * unit + i % (*unit).max(1))).collect()
            }
            Relation::Digit { unit } => (0..a).map(|i| (i, (i / (*unit).max(1)) % b.max(1))).collect(),
            Relation::Pick(map) => map.iter().copied().zip(0..b).collect(),
        }
    }

    /// Whether axes of these lengths can be joined so.
    pub fn fits(&self, a: usize, b: usize) -> bool {
        match self {
            Relation::Same => a == b,
            Relation::Offset(offset) => offset.checked_add(b).is_some_and(|end| end <= a),
            Relation::Heads { unit, repeat } => {
                *unit > 0 && Some(a) == b.checked_mul(*repeat) && b.is_multiple_of(*unit)
            }
            Relation::Digit { unit } => {
                unit.checked_mul(b).is_some_and(|period| period > 0 && a.is_multiple_of(period))
            }
            Relation::Pick(map) => map.len() == b && map.iter().all(|i| *i < a),
        }
    }
}

/// Two axes whose indices correspond.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// The longer side, where they differ.
    pub a: End,
    /// The other.
    pub b: End,
    /// How.
    pub relation: Relation,
}

/// An axis that is the product of others, outermost first: index `whole` is their mixed-radix number. What is left after
/// removing indices must be such a product again, so only one of the parts may lose any: whoever removes chooses which,
/// and links that part by its [`Relation::Digit`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Product {
    /// The flat axis.
    pub whole: End,
    /// Its parts and their lengths; none is 1.
    pub parts: Vec<(End, usize)>,
}

impl Product {
    /// The link that holds when only part `n` loses indices.
    pub fn link(&self, n: usize) -> Link {
        let unit = self.parts[n + 1..].iter().map(|(_, length)| length).product();
        Link { a: self.whole, b: self.parts[n].0, relation: Relation::Digit { unit } }
    }
}

/// All that an op says of its axes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axes {
    /// Corresponding axes.
    pub links: Vec<Link>,
    /// Axes that must lose the same indices, though what stands there is not the same: the queries of a head and what the
    /// head makes.
    pub bound: Vec<Link>,
    /// Axes whose indices must stay together in runs of this length (a head's channels; rotary halves).
    pub runs: Vec<(End, usize)>,
    /// Axes that repeat a pattern of this length: indices that are equal modulo it go together (the outputs of a grouped
    /// convolution, whose groups must stay equally large).
    pub cycles: Vec<(End, usize)>,
    /// Axes that are products of others (reshapes).
    pub products: Vec<Product>,
    /// Axes over which the op takes statistics: removing an index, even a dead one, changes what is left.
    pub statistics: Vec<End>,
    /// Axes whose indices the op mixes in a way that forbids removing any.
    pub frozen: Vec<End>,
}

impl Axes {
    /// Adds a link of equal indices.
    pub fn same(mut self, a: (Port, usize), b: (Port, usize)) -> Axes {
        self.links.push(Link { a: end(a), b: end(b), relation: Relation::Same });
        self
    }

    /// Adds a link under another relation.
    pub fn link(mut self, a: (Port, usize), b: (Port, usize), relation: Relation) -> Axes {
        self.links.push(Link { a: end(a), b: end(b), relation });
        self
    }

    /// Says that two axes lose the same indices.
    pub fn bind(mut self, a: (Port, usize), b: (Port, usize)) -> Axes {
        self.bound.push(Link { a: end(a), b: end(b), relation: Relation::Same });
        self
    }

    /// Says that an axis goes in runs of `length`.
    pub fn run(mut self, at: (Port, usize), length: usize) -> Axes {
        self.runs.push((end(at), length));
        self
    }

    /// Says that indices equal modulo `length` go together.
    pub fn cycle(mut self, at: (Port, usize), length: usize) -> Axes {
        self.cycles.push((end(at), length));
        self
    }

    /// Says that the op takes statistics over an axis.
    pub fn statistics(mut self, at: (Port, usize)) -> Axes {
        self.statistics.push(end(at));
        self
    }

    /// Freezes an axis.
    pub fn freeze(mut self, at: (Port, usize)) -> Axes {
        self.frozen.push(end(at));
        self
    }

    /// Input 0 and output 0 agree on each of `rank` axes: an element-wise op.
    pub fn elementwise(rank: usize, inputs: usize) -> Axes {
        let mut axes = Axes::default();
        for input in 0..inputs {
            for axis in 0..rank {
                axes = axes.same((Port::Input(input), axis), (Port::Output(0), axis));
            }
        }
        axes
    }

    /// Input 0 and output 0 agree on batch and channels, the first two of `rank` axes; what comes after is frozen.
    pub fn channelwise(rank: usize) -> Axes {
        Axes::default()
            .same((Port::Input(0), 0), (Port::Output(0), 0))
            .same((Port::Input(0), 1), (Port::Output(0), 1))
            .freeze_from(Port::Input(0), 2, rank)
            .freeze_from(Port::Output(0), 2, rank)
    }

    /// Freezes the axes `first..rank`.
    pub fn freeze_from(self, port: Port, first: usize, rank: usize) -> Axes {
        (first..rank).fold(self, |axes, axis| axes.freeze((port, axis)))
    }

    /// Input 0 and output 0 agree on every axis but the last of `rank`: a map over rows.
    pub fn rowwise(rank: usize) -> Axes {
        (0..rank.saturating_sub(1))
            .fold(Axes::default(), |axes, axis| axes.same((Port::Input(0), axis), (Port::Output(0), axis)))
    }
}

fn end((port, axis): (Port, usize)) -> End {
    End { port, axis }
}
