//! What ops of image networks declare of their axes, and what they become when axes lose indices.

use graph::ops::{Conv, Pick, Reshape, Select, Span, Split, Transpose};
use graph::{Dim, End, Kept, Kind, Op, OpSpec, Place, Port, Relation, Role, Shape, Size, Weight, WeightStore};

fn typed(dims: &[usize]) -> (Kind, Shape) {
    let fixed = dims.iter().map(|n| Dim::Fixed(*n));
    (Kind::Float, std::iter::once(Dim::Batch).chain(fixed).collect())
}

fn reshape(dims: &[usize]) -> Reshape {
    Reshape { shape: typed(dims).1 }
}

fn end(port: Port, axis: usize) -> End {
    End { port, axis }
}

#[test]
fn windows() {
    let span = Span { size: 3, stride: 2, dilation: 1, pad: [1, 1] };
    assert_eq!([span.count(7, false), span.count(8, false), span.count(8, true)], [Some(4), Some(4), Some(5)]);
    let span = Span { size: 2, stride: 3, dilation: 1, pad: [0, 2] };
    assert_eq!([span.count(3, false), span.count(3, true)], [Some(2), Some(2)]);
    let span = Span { pad: [0, 1], ..span };
    assert_eq!(span.count(3, true), Some(1), "a window may not begin in the padding");
    assert_eq!(Span { size: 9, ..span }.count(3, false), None);
    assert_eq!(Span { stride: 0, ..span }.count(3, false), None);
}

#[test]
fn flattening_is_a_product() {
    let axes = reshape(&[60]).axes(&[typed(&[3, 4, 5])]);
    let [product] = &axes.products[..] else { panic!("{axes:?}") };
    assert_eq!(product.whole, end(Port::Output(0), 1));
    let link = product.link(0);
    assert_eq!(link.b, end(Port::Input(0), 1));
    let pairs = link.relation.pairs(60, 3);
    assert!(pairs.iter().all(|(flat, channel)| flat / 20 == *channel) && pairs.len() == 60);
    assert!(product.link(2).relation.pairs(60, 5).iter().all(|(flat, last)| flat % 5 == *last));
    assert_eq!(axes.links.len(), 1, "the batch");
}

#[test]
fn a_shuffle_couples_its_groups() {
    let split = reshape(&[2, 6, 7, 7]);
    let product = &split.axes(&[typed(&[12, 7, 7])]).products[0];
    let into = product.link(1).relation.pairs(12, 6);
    assert!(into.iter().all(|(channel, local)| channel % 6 == *local));
    let turned = Transpose { order: vec![0, 2, 1, 3, 4] };
    let made = turned.outputs(&[typed(&[2, 6, 7, 7])], &WeightStore::default()).expect("fits");
    assert_eq!(made, [typed(&[6, 2, 7, 7])]);
    let out = &reshape(&[12, 7, 7]).axes(&made).products[0];
    assert!(out.link(0).relation.pairs(12, 6).iter().all(|(channel, local)| channel / 2 == *local));
}

#[test]
fn mixing_freezes() {
    let axes = reshape(&[4, 9]).axes(&[typed(&[6, 6])]);
    assert!(axes.products.is_empty());
    assert_eq!(axes.frozen.len(), 4, "{axes:?}");
    let ones = reshape(&[6, 1, 6, 1]).axes(&[typed(&[1, 6, 6])]);
    assert_eq!((ones.links.len(), ones.frozen.len()), (3, 0), "axes of length 1 are in nobody's way");
    assert!(reshape(&[4, 8]).outputs(&[typed(&[6, 6])], &WeightStore::default()).is_err());
}

fn conv(out: usize, local: usize, groups: usize) -> (Conv, WeightStore) {
    let mut weights = WeightStore::default();
    let data = vec![0.0; out * local * 9];
    let weight = Weight::from_f32("w", Place::outer(Role::Other), vec![out, local, 3, 3], &data).expect("fits");
    let weight = weights.insert(weight);
    let span = Span { pad: [1, 1], ..Span::of(3) };
    (Conv { weight, bias: None, outputs: out, window: vec![span; 2], groups }, weights)
}

#[test]
fn convolutions() {
    let input = [typed(&[8, 5, 5])];
    let (plain, weights) = conv(4, 8, 1);
    assert_eq!(plain.outputs(&input, &weights), Ok(vec![typed(&[4, 5, 5])]));
    assert_eq!(plain.cost(&input, &weights, Size { batch: 2, tokens: 1 }).macs, 2 * 4 * 25 * 8 * 9);

    // Two outputs for each input: output 5 reads input 2.
    let (depthwise, weights) = conv(16, 1, 8);
    assert!(depthwise.is_depthwise(8) && depthwise.outputs(&input, &weights).is_ok());
    let axes = depthwise.axes(&input);
    let link = axes.links.iter().find(|l| l.b == end(Port::Input(0), 1)).expect("inputs are linked");
    assert!(link.relation.pairs(16, 8).contains(&(5, 2)));
    let mut kept = Kept::default();
    kept.set(end(Port::Input(0), 1), 8, vec![0, 2]);
    kept.set(end(Port::Output(0), 1), 16, vec![0, 1, 4, 5]);
    let Some(Op::Conv(left)) = depthwise.keep(&kept) else { panic!("it changes") };
    assert_eq!((left.outputs, left.groups), (4, 2));

    let (grouped, weights) = conv(6, 4, 2);
    assert!(grouped.outputs(&input, &weights).is_ok());
    let axes = grouped.axes(&input);
    assert_eq!(axes.cycles, [(end(Port::Output(0), 1), 3)]);
    let local = axes.links.iter().find(|l| l.b == end(Port::Weight(0), 1)).expect("inputs are linked");
    assert_eq!(local.relation, Relation::Digit { unit: 1 });
    assert!(local.relation.pairs(8, 4).contains(&(6, 2)));
    let (wrong, weights) = conv(6, 5, 2);
    assert!(wrong.outputs(&input, &weights).is_err());
}

#[test]
fn what_is_left_of_cuts() {
    let mut kept = Kept::default();
    kept.set(end(Port::Input(0), 1), 6, vec![0, 2, 3, 5]);
    kept.set(end(Port::Output(0), 1), 3, vec![0, 2]);
    let split = Split { axis: 1, widths: vec![3, 3] };
    let Some(Op::Split(left)) = split.keep(&kept) else { panic!("it changes") };
    assert_eq!(left.widths, [2, 3]);
    let select = Select { picks: vec![Pick { axis: 1, indices: vec![5, 4, 0] }] };
    let Some(Op::Select(left)) = select.keep(&kept) else { panic!("it changes") };
    assert_eq!(left.picks[0].indices, [3, 0], "old 5 and 0 are now 3 and 0");
}
