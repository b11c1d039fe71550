//! Weights of a folder that GPTQ's or AWQ's tools packed: `qweight`, `qzeros` and `scales` to a module.
//!
//! A packed weight is wherever a `<module>.qweight` is, so modules left alone need no list. Columns of a group are
//! neighbours, and the weight becomes a packed one; unless GPTQ took the columns in the order of their activations
//! (`desc_act`): then `g_idx` scatters the groups, and the weight is given as the numbers that it stands for.
//!
//! Layouts: [`codec::packed::Transposed`].

use crate::Problem;
use crate::compressed_tensors::PackedWeights;
use crate::stored::Files;
use codec::packed::{Bits, Granularity, ScaleType, Transposed, ZeroPoints};
use codec::{Dtype, Encoding, Packed};
use formats::hf::{CONFIG, GptqConfig, Grouping};
use formats::safetensors::{Safetensors, TensorInfo};
use graph::{Place, Role, Source, SourceError, Weight};
use regex::Regex;
use std::borrow::Cow;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// How the modules of a folder are stored.
pub(crate) struct Layouts {
    /// Whether the config says that all zero points are in the middle.
    symmetric: bool,
    usual: Layout,
    /// By a pattern for the start of a name.
    dynamic: Vec<(Regex, Layout)>,
}

/// How a module is stored.
#[derive(Clone, Copy)]
struct Layout {
    layout: Transposed,
    /// Columns of a group; all where there is none.
    group: Option<usize>,
}

impl Layouts {
    /// GPTQ's.
    pub fn gptq(folder: &Path, config: &GptqConfig) -> Result<Layouts, Problem> {
        let layout =
            |Grouping { bits, group }| Layout { layout: Transposed::Gptq { bits, zeros: config.zeros }, group };
        let rule = |(pattern, grouping): &(String, Option<Grouping>)| {
            let regex = Regex::new(&format!("^(?:{pattern})")).map_err(|_| Problem::Value {
                file: folder.join(CONFIG),
                key: "quantization_config.dynamic".into(),
                why: format!("has the pattern `{pattern}`, which is not a regular expression; correct it"),
            })?;
            Ok::<_, Problem>((regex, layout(grouping.unwrap_or(config.grouping))))
        };
        let dynamic = config.dynamic.iter().map(rule).collect::<Result<_, _>>()?;
        Ok(Layouts { symmetric: config.symmetric, usual: layout(config.grouping), dynamic })
    }

    /// AWQ's.
    pub fn awq(group: Option<usize>) -> Layouts {
        Layouts { symmetric: false, usual: Layout { layout: Transposed::Awq, group }, dynamic: vec![] }
    }

    fn of(&self, module: &str) -> Layout {
        self.dynamic.iter().find(|(pattern, _)| pattern.is_match(module)).map_or(self.usual, |(_, layout)| *layout)
    }

    /// Finds all packed weights.
    pub fn find(&self, all: &Arc<Safetensors>) -> Result<PackedWeights, Vec<Problem>> {
        let (mut found, mut problems, mut renamed) = (PackedWeights::default(), vec![], 0);
        for tensor in all.tensors() {
            let Some(name) = tensor.name.strip_suffix(".qweight") else { continue };
            let module = Module { all, name, qweight: tensor, symmetric: self.symmetric };
            match module.weight(self.of(name)) {
                Ok((weight, other)) => {
                    renamed += usize::from(other);
                    found.parts.extend(PARTS.map(|part| format!("{name}.{part}")));
                    if matches!(weight.encoding, Encoding::Plain(_)) {
                        found.scattered.push(weight.name.clone());
                    }
                    found.weights.insert(weight.name.clone(), weight);
                }
                Err(problem) => problems.push(problem),
            }
        }
        if renamed > 0 {
            found.notes.push(format!(
                "the config says `sym`, but under its `checkpoint_format` the zero points of {renamed} weights are not in \
                 the middle, under the other they are: these were read as the other, which some loaders will not do"
            ));
        }
        if let Some(first) = found.scattered.first() {
            let n = found.scattered.len();
            found.notes.push(format!(
                "{n} weights (`{first}`, …) were quantized in the order of activations: their groups are scattered over \
                 the columns, which no other format can say, so they are given as the f32 numbers that they stand for"
            ));
        }
        if problems.is_empty() { Ok(found) } else { Err(problems) }
    }
}

const PARTS: [&str; 4] = ["qweight", "qzeros", "scales", "g_idx"];

/// A module with a packed weight.
struct Module<'a> {
    all: &'a Arc<Safetensors>,
    name: &'a str,
    qweight: &'a TensorInfo,
    symmetric: bool,
}

impl Module<'_> {
    /// The weight; and whether its zero points are stored in another convention than the config names.
    fn weight(&self, Layout { layout, group }: Layout) -> Result<(Weight, bool), Problem> {
        let tensors = self.tensors()?;
        let [rows, cols] = self.shape(layout)?;
        let scale = match tensors[2].dtype {
            Dtype::F16 => ScaleType::F16,
            Dtype::BF16 => ScaleType::BF16,
            Dtype::F32 => ScaleType::F32,
            other => return Err(self.problem(tensors[2], &format!("is {other}, scales are floats"))),
        };
        let width = group.unwrap_or(cols).max(1);
        let groups = cols.div_ceil(width);
        let specs = layout.parts(rows, cols, groups, scale).map_err(|e| self.problem(self.qweight, &e.to_string()))?;
        for (spec, tensor) in specs.iter().zip(tensors) {
            if spec.dtype != tensor.dtype || spec.shape != tensor.shape {
                let (got, expected) = (&tensor.shape, &spec.shape);
                let why = format!(
                    "is {} {got:?}, the config's groups and bits need {} {expected:?}",
                    tensor.dtype, spec.dtype
                );
                return Err(self.problem(tensor, &why));
            }
        }
        let mut stored = Stored {
            files: Files::Safetensors(self.all.clone()),
            name: format!("{}.weight", self.name),
            tensors: tensors.map(|t| (t.file, t.range.clone())),
            layout,
            scale,
            shape: [rows, cols, groups],
            reading: Reading::Numbers(vec![]),
        };
        let symmetric = self.symmetric(&mut stored).map_err(|e| self.problem(tensors[1], &e))?;
        let encoding = match self.g_idx(cols, width)? {
            Some(group) => {
                stored.reading = Reading::Numbers(group);
                Encoding::Plain(Dtype::F32)
            }
            None => {
                let packed = packed(layout, symmetric, group, scale);
                let packed = packed.ok_or_else(|| self.problem(self.qweight, "its groups are too wide"))?;
                stored.reading = Reading::Packed(packed);
                Encoding::Packed(packed)
            }
        };
        let renamed = stored.layout != layout;
        let (name, place) = (stored.name.clone(), Place::outer(Role::Other));
        Ok((Weight { name, place, shape: vec![rows, cols], encoding, source: Arc::new(stored) }, renamed))
    }

    /// Whether all zero points are in the middle. Where the config says so and they are not, they may be there in the
    /// other convention: there are well-known checkpoints that name the wrong one.
    fn symmetric(&self, stored: &mut Stored) -> Result<bool, String> {
        let told = stored.layout;
        let found = stored.symmetric();
        let Transposed::Gptq { bits, zeros } = told else { return found.map_err(|e| e.to_string()) };
        if !self.symmetric || found.as_ref().is_ok_and(|symmetric| *symmetric) {
            return found.map_err(|e| e.to_string());
        }
        let other = match zeros {
            ZeroPoints::LessOne => ZeroPoints::Plain,
            ZeroPoints::Plain => ZeroPoints::LessOne,
        };
        stored.layout = Transposed::Gptq { bits, zeros: other };
        match stored.symmetric() {
            Ok(true) => Ok(true),
            _ => Err("the config says `sym`, but zero points are not in the middle; correct the config".into()),
        }
    }

    /// `qweight`, `qzeros` and `scales`.
    fn tensors(&self) -> Result<[&TensorInfo; 3], Problem> {
        Ok([self.qweight, self.tensor("qzeros")?, self.tensor("scales")?])
    }

    fn tensor(&self, part: &str) -> Result<&TensorInfo, Problem> {
        let tensor = format!("{}.{part}", self.name);
        let file = || self.all.file(self.qweight).to_owned();
        self.all.get(&tensor).ok_or_else(|| Problem::Missing { file: file(), tensor: tensor.clone() })
    }

    /// Rows and columns of the weight before it was packed.
    fn shape(&self, layout: Transposed) -> Result<[usize; 2], Problem> {
        let [down, across] = self.qweight.shape[..] else {
            return Err(self.problem(self.qweight, "is not a matrix"));
        };
        let codes = |words: usize| words.saturating_mul(32) / layout.bits() as usize;
        Ok(match layout {
            Transposed::Gptq { .. } => [across, codes(down)],
            Transposed::Awq => [codes(across), down],
        })
    }

    /// The group of each column, where these are not runs of `width`.
    fn g_idx(&self, cols: usize, width: usize) -> Result<Option<Vec<i32>>, Problem> {
        let tensor = self.all.get(&format!("{}.g_idx", self.name)).filter(|t| t.shape != [0]);
        let group: Vec<i32> = match tensor {
            None if cols.is_multiple_of(width) => return Ok(None),
            None => (0..cols).map(|column| (column / width) as i32).collect(),
            Some(tensor) => {
                if tensor.dtype != Dtype::I32 || tensor.shape != [cols] {
                    let why = format!("is {} {:?}, expected I32 [{cols}]", tensor.dtype, tensor.shape);
                    return Err(self.problem(tensor, &why));
                }
                let bytes = self.all.bytes(&tensor.name).unwrap_or_default();
                bytes.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b)).collect()
            }
        };
        let groups = cols.div_ceil(width);
        if let (Some(tensor), Some(column)) =
            (tensor, group.iter().position(|g| usize::try_from(*g).map_or(true, |g| g >= groups)))
        {
            let why = format!("puts column {column} into group {}, of {groups} groups", group[column]);
            return Err(self.problem(tensor, &why));
        }
        let runs = cols.is_multiple_of(width) && group.iter().enumerate().all(|(c, g)| *g as usize == c / width);
        Ok((!runs).then_some(group))
    }

    fn problem(&self, tensor: &TensorInfo, why: &str) -> Problem {
        Problem::Tensor { file: self.all.file(tensor).to_owned(), tensor: tensor.name.clone(), why: why.into() }
    }
}

/// The encoding of a weight in runs of columns.
fn packed(layout: Transposed, symmetric: bool, group: Option<usize>, scale: ScaleType) -> Option<Packed> {
    let per = match group {
        None => Granularity::Channel,
        Some(size) => Granularity::group(u32::try_from(size).ok()?)?,
    };
    Some(Packed::Int { bits: Bits::new(layout.bits() as u8)?, symmetric, per, scale })
}

/// The tensors of a packed weight, in place.
struct Stored {
    files: Files,
    name: String,
    /// File and bytes of each.
    tensors: [(usize, Range<usize>); 3],
    layout: Transposed,
    scale: ScaleType,
    /// Rows, columns, groups.
    shape: [usize; 3],
    reading: Reading,
}

/// What a weight is read as.
enum Reading {
    /// Packed, its groups being runs of columns.
    Packed(Packed),
    /// F32 numbers, each column being in the group named.
    Numbers(Vec<i32>),
}

impl Stored {
    fn bytes(&self) -> Result<[&[u8]; 3], SourceError> {
        let bytes = |at: usize| {
            let (file, range) = &self.tensors[at];
            let bytes = self.files.mapped(*file).and_then(|m| m.get(range.clone()));
            bytes.ok_or_else(|| self.error("its bytes are beyond the file"))
        };
        Ok([bytes(0)?, bytes(1)?, bytes(2)?])
    }

    /// Whether every zero point is in the middle.
    fn symmetric(&self) -> Result<bool, SourceError> {
        let [_, qzeros, _] = self.bytes()?;
        let [rows, _, groups] = self.shape;
        let zeros = self.layout.read_zeros(rows, groups, qzeros).map_err(|e| self.error(&e.to_string()))?;
        let middle = 1 << (self.layout.bits() - 1);
        Ok(zeros.iter().all(|zero| *zero == middle))
    }

    fn error(&self, why: &str) -> SourceError {
        SourceError::Read { name: self.name.clone(), why: why.into() }
    }
}

impl Source for Stored {
    fn rows(&self, rows: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        let Reading::Numbers(group) = &self.reading else {
            return Err(SourceError::NotByRows { name: self.name.clone(), encoding: "packed".into() });
        };
        let [_, cols, _] = self.shape;
        let numbers = self.layout.read_scattered(self.shape, group, self.scale, self.bytes()?);
        let numbers = numbers.map_err(|e| self.error(&e.to_string()))?;
        let asked = numbers.get(rows.start * cols..rows.end * cols).ok_or_else(|| self.error("has fewer rows"))?;
        Ok(Cow::Owned(asked.iter().flat_map(|v| v.to_le_bytes()).collect()))
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        let Reading::Packed(packed) = self.reading else { return Ok(vec![self.rows(0..self.shape[0])?]) };
        let [rows, cols, groups] = self.shape;
        let integers = self.layout.read([rows, cols, cols / groups.max(1)], self.scale, self.bytes()?);
        let integers = integers.map_err(|e| self.error(&e.to_string()))?;
        let parts = integers.write(Encoding::Packed(packed)).map_err(|e| self.error(&e.to_string()))?;
        Ok(parts.into_iter().map(|part| Cow::Owned(part.bytes)).collect())
    }

    fn release(&self, _: Range<usize>) {
        for (file, range) in &self.tensors {
            if let Some(mapped) = self.files.mapped(*file) {
                mapped.release(range.clone());
            }
        }
    }
}
