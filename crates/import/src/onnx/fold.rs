//! Constants known while translating: shapes and what is computed from them, scalars, sizes.
//!
//! Exporters write `Shape → Gather → Concat → Reshape` chains. Their numbers are small and known but for the batch, which is
//! carried through as a symbol.

use super::translate::Refusal;
use formats::onnx::DataType;

/// One known number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Elem {
    /// A whole number.
    Int(i64),
    /// Any other.
    Real(f64),
    /// The size of the batch.
    Batch,
}

/// A known tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Known {
    pub shape: Vec<usize>,
    pub data: Vec<Elem>,
}

impl Known {
    pub fn list(data: Vec<Elem>) -> Known {
        Known { shape: vec![data.len()], data }
    }

    /// From little-endian bytes of floats or integers.
    pub fn decode(dtype: DataType, shape: Vec<usize>, bytes: &[u8]) -> Option<Known> {
        let reals: Option<Vec<f64>> = match dtype {
            DataType::Float => Some(bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()),
            DataType::Double => Some(bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect()),
            DataType::Float16 => {
                Some(bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f64()).collect())
            }
            DataType::Bfloat16 => {
                Some(bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f64()).collect())
            }
            _ => None,
        };
        let data = match reals {
            Some(reals) => reals.into_iter().map(Elem::Real).collect(),
            None => {
                let elements = shape.iter().product();
                formats::onnx::integers(dtype, bytes, elements)?.into_iter().map(Elem::Int).collect()
            }
        };
        Some(Known { shape, data })
    }

    /// Whole numbers; the batch is none.
    pub fn ints(&self) -> Result<Vec<i64>, Refusal> {
        let one = |e: &Elem| match e {
            Elem::Int(n) => Ok(*n),
            Elem::Real(x) if x.fract() == 0.0 => Ok(*x as i64),
            Elem::Real(x) => Err(Refusal(format!("{x} is no whole number"))),
            Elem::Batch => Err("it depends on the size of the batch".into()),
        };
        self.data.iter().map(one).collect()
    }

    /// Any numbers.
    pub fn reals(&self) -> Result<Vec<f64>, Refusal> {
        let one = |e: &Elem| match e {
            Elem::Int(n) => Ok(*n as f64),
            Elem::Real(x) => Ok(*x),
            Elem::Batch => Err(Refusal::from("it depends on the size of the batch")),
        };
        self.data.iter().map(one).collect()
    }
}

/// The known result of an operator on known inputs; `None` where it is not one that shapes are computed with.
pub(super) fn fold(op: &str, inputs: &[&Known], axis: Option<i64>, to: Option<DataType>) -> Option<Known> {
    match (op, inputs) {
        ("Floor" | "Ceil", [x]) => Some(map(x, |e| round(op, e))),
        ("Cast", [x]) => cast(x, to?),
        ("Neg", [x]) => both(x, &Known { shape: vec![], data: vec![Elem::Int(-1)] }, "Mul"),
        ("Concat", parts) => concat(parts),
        ("Gather", [x, at]) => gather(x, at, axis.unwrap_or(0)),
        ("Unsqueeze" | "Squeeze" | "Reshape" | "Flatten", [x, ..]) => resize(op, x, inputs.get(1).copied()),
        ("Slice", [x, rest @ ..]) => slice(x, rest),
        ("Add" | "Sub" | "Mul" | "Div" | "Equal", [a, b]) => both(a, b, op),
        ("Where", [c, a, b]) => choose(c, a, b),
        ("Range", [from, to, by]) => range(from, to, by),
        ("ReduceProd", [x]) => {
            let product = x.ints().ok()?.into_iter().try_fold(1i64, i64::checked_mul)?;
            Some(Known { shape: vec![1], data: vec![Elem::Int(product)] })
        }
        _ => None,
    }
}

fn map(x: &Known, f: impl Fn(Elem) -> Elem) -> Known {
    Known { shape: x.shape.clone(), data: x.data.iter().map(|e| f(*e)).collect() }
}

fn round(op: &str, e: Elem) -> Elem {
    match (op, e) {
        ("Floor", Elem::Real(x)) => Elem::Real(x.floor()),
        ("Ceil", Elem::Real(x)) => Elem::Real(x.ceil()),
        _ => e,
    }
}

fn cast(x: &Known, to: DataType) -> Option<Known> {
    let whole = to.is_integer();
    (whole || to.is_float()).then(|| {
        map(x, |e| match e {
            Elem::Real(x) if whole => Elem::Int(x as i64),
            Elem::Int(n) if !whole => Elem::Real(n as f64),
            e => e,
        })
    })
}

fn concat(parts: &[&Known]) -> Option<Known> {
    let lists = parts.iter().all(|p| p.shape.len() == 1);
    lists.then(|| Known::list(parts.iter().flat_map(|p| p.data.clone()).collect()))
}

fn gather(x: &Known, at: &Known, axis: i64) -> Option<Known> {
    if x.shape.len() != 1 || !matches!(axis, 0 | -1) {
        return None;
    }
    let one = |i: i64| x.data.get(index(i, x.data.len())?).copied();
    let data = at.ints().ok()?.into_iter().map(one).collect::<Option<_>>()?;
    Some(Known { shape: at.shape.clone(), data })
}

/// A position counted from the end where it is negative.
pub(super) fn index(i: i64, length: usize) -> Option<usize> {
    let i = if i < 0 { i.checked_add_unsigned(length as u64)? } else { i };
    usize::try_from(i).ok()
}

/// Lists and scalars only: what shapes are computed with.
fn resize(op: &str, x: &Known, target: Option<&Known>) -> Option<Known> {
    let shape = match (op, &x.shape[..]) {
        ("Unsqueeze", []) => vec![1],
        ("Squeeze", [1]) => vec![],
        ("Reshape" | "Flatten", _) if target.is_none_or(|t| t.data == [Elem::Int(-1)]) => vec![x.data.len()],
        ("Reshape", [1]) if target.is_some_and(|t| t.data.is_empty()) => vec![],
        _ => return None,
    };
    Some(Known { shape, data: x.data.clone() })
}

fn slice(x: &Known, rest: &[&Known]) -> Option<Known> {
    let one = |n: usize| rest.get(n).map_or(Some(None), |k| k.ints().ok().and_then(|v| v.first().copied()).map(Some));
    let (from, to, step) = (one(0)??, one(1)??, one(3)?.unwrap_or(1));
    (x.shape.len() == 1).then(|| {
        let picked = picked(x.data.len(), from, to, step)?;
        Some(Known::list(picked.into_iter().map(|i| x.data[i]).collect()))
    })?
}

/// The indices of `from..to` in steps, by ONNX's rules: negative counts from the end, beyond is clamped.
pub(super) fn picked(length: usize, from: i64, to: i64, step: i64) -> Option<Vec<usize>> {
    let n = i64::try_from(length).ok()?;
    let wrap = |i: i64| if i < 0 { i.saturating_add(n) } else { i };
    Some(match step {
        1.. => (wrap(from).clamp(0, n)..wrap(to).clamp(0, n)).step_by(step as usize).map(|i| i as usize).collect(),
        0 => return None,
        _ => {
            let (from, to) = (wrap(from).clamp(-1, n - 1), wrap(to).clamp(-1, n - 1));
            let by = usize::try_from(step.unsigned_abs()).ok()?;
            (to + 1..=from).rev().step_by(by).map(|i| i as usize).collect()
        }
    })
}

fn both(a: &Known, b: &Known, op: &str) -> Option<Known> {
    let shape = match (a.data.len(), b.data.len()) {
        _ if a.shape == b.shape => a.shape.clone(),
        (_, 1) if b.shape.len() <= a.shape.len() => a.shape.clone(),
        (1, _) if a.shape.len() <= b.shape.len() => b.shape.clone(),
        _ => return None,
    };
    let at = |x: &Known, i: usize| x.data.get(if x.data.len() == 1 { 0 } else { i }).copied();
    let elements = shape.iter().product::<usize>();
    let data = (0..elements).map(|i| combine(at(a, i)?, at(b, i)?, op)).collect::<Option<_>>()?;
    Some(Known { shape, data })
}

fn combine(a: Elem, b: Elem, op: &str) -> Option<Elem> {
    use Elem::{Batch, Int, Real};
    Some(match (a, b, op) {
        (Int(a), Int(b), "Add") => Int(a.checked_add(b)?),
        (Int(a), Int(b), "Sub") => Int(a.checked_sub(b)?),
        (Int(a), Int(b), "Mul") => Int(a.checked_mul(b)?),
        (Int(a), Int(b), "Div") => Int(a.checked_div(b)?),
        (Int(a), Int(b), "Equal") => Int(i64::from(a == b)),
        // A batch is never a placeholder like −1 or 0.
        (Batch, Int(..=0), "Equal") | (Int(..=0), Batch, "Equal") => Int(0),
        (Batch, Int(1), "Mul" | "Div") | (Int(1), Batch, "Mul") | (Batch, Int(0), "Add") => Batch,
        (Batch, ..) | (_, Batch, _) => return None,
        (a, b, op) => {
            let wide = |e| {
                if let Int(n) = e {
                    n as f64
                } else if let Real(x) = e {
                    x
                } else {
                    f64::NAN
                }
            };
            let (a, b) = (wide(a), wide(b));
            match op {
                "Add" => Real(a + b),
                "Sub" => Real(a - b),
                "Mul" => Real(a * b),
                "Div" => Real(a / b),
                _ => return None,
            }
        }
    })
}

fn choose(c: &Known, a: &Known, b: &Known) -> Option<Known> {
    let at = |x: &Known, i: usize| x.data.get(if x.data.len() == 1 { 0 } else { i }).copied();
    let one = |(i, c): (usize, &Elem)| if *c == Elem::Int(0) { at(b, i) } else { at(a, i) };
    Some(Known { shape: c.shape.clone(), data: c.data.iter().enumerate().map(one).collect::<Option<_>>()? })
}

/// The most elements that a folded tensor has.
pub(super) const MOST: usize = 1 << 16;

fn range(from: &Known, to: &Known, by: &Known) -> Option<Known> {
    let first = |k: &Known| k.ints().ok()?.first().copied();
    let (from, to, by) = (first(from)?, first(to)?, first(by)?);
    if by == 0 {
        return None;
    }
    let count = to.checked_sub(from)?.checked_add(by - by.signum())?.checked_div(by)?.max(0);
    let count = usize::try_from(count).ok().filter(|n| *n <= MOST)?;
    Some(Known::list((0..count as i64).map(|i| Elem::Int(from + i * by)).collect()))
}
