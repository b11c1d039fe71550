//! Axis relations: which axis of an input is which axis of an output or a weight.
//!
//! Every op declares its links; pruning groups, smoothing pairs and rotation points follow from them alone.

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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
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
}

/// Two axes whose indices correspond.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// The longer side, where they differ.
    pub a: End,
    /// The other.
    pub b: End,
    /// How.
    pub relation: Relation,
}

/// All that an op says of its axes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Axes {
    /// Corresponding axes.
    pub links: Vec<Link>,
    /// Axes whose indices must stay together in runs of this length (a head's channels; rotary halves).
    pub runs: Vec<(End, usize)>,
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

    /// Says that an axis goes in runs of `length`.
    pub fn run(mut self, at: (Port, usize), length: usize) -> Axes {
        self.runs.push((end(at), length));
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

    /// Input 0 and output 0 agree on every axis but the last of `rank`: a map over rows.
    pub fn rowwise(rank: usize) -> Axes {
        (0..rank.saturating_sub(1))
            .fold(Axes::default(), |axes, axis| axes.same((Port::Input(0), axis), (Port::Output(0), axis)))
    }
}

fn end((port, axis): (Port, usize)) -> End {
    End { port, axis }
}
