//! Weights of a folder that compressed-tensors packed: a `quantization_config`, and several tensors to a weight.
//!
//! A packed weight is wherever a `<module>.weight_scale` is. The config's group for the module says how its parts are to
//! be read; its `ignore` list says nothing more, for what it names has no scale.
//!
//! Source: the `compressed-tensors` package, `compressors/` and `utils/match.py` (0.20).

use crate::stored::Files;
use crate::{Problem, running};
use codec::packed::ScaleType;
use codec::{Dtype, Encoding, Packed, PartSpec};
use formats::hf::QuantizationConfig;
use formats::hf::quantization::Group;
use formats::safetensors::{Safetensors, TensorInfo};
use graph::{CacheScales, InputQuant, Place, Role, Source, SourceError, Weight};
use regex::Regex;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// Numbers that only a quantized run needs: of activations, and of the cache.
const RUNNING: [&str; 10] = [
    ".input_scale",
    ".input_zero_point",
    ".input_global_scale",
    ".output_scale",
    ".q_scale",
    ".q_zero_point",
    KEYS,
    ".k_zero_point",
    VALUES,
    ".v_zero_point",
];
const KEYS: &str = ".k_scale";
const VALUES: &str = ".v_scale";

/// The packed weights of a folder.
#[derive(Default)]
pub(crate) struct PackedWeights {
    /// By their names in the model without compression.
    pub weights: BTreeMap<String, Weight>,
    /// Every tensor that is part of one, or that only a quantized run needs.
    pub parts: HashSet<String>,
    /// Those that are given as numbers, because their groups are scattered over the columns.
    pub scattered: Vec<String>,
    /// How inputs are quantized when the model runs, by weight.
    pub inputs: BTreeMap<String, InputQuant>,
    /// How the cache is.
    pub cache: BTreeMap<usize, CacheScales>,
    /// What a user should know.
    pub notes: Vec<String>,
}

impl PackedWeights {
    /// Finds all packed weights.
    pub fn find(folder: &Path, all: &Arc<Safetensors>, config: &QuantizationConfig) -> Result<Self, Vec<Problem>> {
        let (mut found, mut problems) = (PackedWeights::default(), vec![]);
        let groups = Groups::new(folder, config).map_err(|p| vec![p])?;
        for tensor in all.tensors() {
            if let Some(module) = tensor.name.strip_suffix(".weight_scale") {
                match (Module { all, name: module, scale: tensor }).weight(&groups, config) {
                    Ok(weight) => found.insert(module, weight),
                    Err(problem) => problems.push(problem),
                }
            } else if RUNNING.iter().any(|a| tensor.name.ends_with(a)) {
                found.parts.insert(tensor.name.clone());
            }
        }
        found.running(all, &groups, config);
        if problems.is_empty() { Ok(found) } else { Err(problems) }
    }

    /// Notes how the model is to be run; numbers here are computed with inputs as they are.
    fn running(&mut self, all: &Safetensors, groups: &Groups<'_>, config: &QuantizationConfig) {
        let mut unknown = false;
        for weight in self.weights.keys() {
            let module = weight.strip_suffix(".weight").unwrap_or(weight);
            let Some(args) = groups.of(module).and_then(|group| group.input_activations.as_ref()) else { continue };
            let Some(input) = running::input_quant(args) else {
                unknown = true;
                continue;
            };
            let number = running::number_name(input).and_then(|name| scalar(all, &format!("{module}.{name}")));
            self.inputs.insert(weight.clone(), running::with_number(input, number.unwrap_or_default()));
        }
        if !self.inputs.is_empty() || unknown {
            self.notes.push("the config asks for quantized activations; only weights are quantized here".into());
        }
        if config.kv_cache_scheme.is_some() {
            self.cache = all.tensors().iter().filter_map(|t| cached(all, t.name.strip_suffix(KEYS)?)).collect();
        }
    }

    fn insert(&mut self, module: &str, (weight, parts): (Weight, Vec<PartSpec>)) {
        self.parts.extend(parts.iter().map(|part| format!("{module}.{}", part.suffix)));
        self.weights.insert(weight.name.clone(), weight);
    }
}

/// The one number of a tensor.
fn scalar(all: &Safetensors, name: &str) -> Option<f32> {
    let tensor = all.get(name).filter(|t| t.shape.iter().product::<usize>() == 1 && t.dtype.is_float())?;
    let mut number = [0.0];
    codec::block::plain::decode(tensor.dtype, all.bytes(name)?, &mut number);
    Some(number[0])
}

/// The scales of an attention module's cache, and its layer.
fn cached(all: &Safetensors, module: &str) -> Option<(usize, CacheScales)> {
    let number = |end: &str| scalar(all, &format!("{module}{end}"));
    let layer = module.rsplit_once("layers.")?.1.split('.').next()?.parse().ok()?;
    Some((layer, CacheScales { key: number(KEYS)?, value: number(VALUES)? }))
}

/// The groups of a config, their targets ready to be matched.
struct Groups<'a>(Vec<(Vec<Target>, &'a Group)>);

/// What a group applies to.
enum Target {
    Name(String),
    Pattern(Regex),
    /// Every module of a class; all that have packed weights are linear layers.
    Class,
}

impl<'a> Groups<'a> {
    fn new(folder: &Path, config: &'a QuantizationConfig) -> Result<Self, Problem> {
        let mut groups = vec![];
        for group in config.config_groups.values() {
            let targets = group.targets.iter().map(|t| Target::new(folder, t)).collect::<Result<Vec<_>, _>>()?;
            groups.push((targets, group));
        }
        Ok(Groups(groups))
    }

    /// The group whose target says most about a module: its name before a pattern before its class.
    fn of(&self, module: &str) -> Option<&'a Group> {
        let rank = |targets: &[Target]| targets.iter().filter_map(|t| t.matches(module)).min();
        let ranked = self.0.iter().filter_map(|(targets, group)| Some((rank(targets)?, *group)));
        ranked.min_by_key(|(rank, _)| *rank).map(|(_, group)| group)
    }
}

impl Target {
    fn new(folder: &Path, target: &str) -> Result<Target, Problem> {
        let Some(pattern) = target.strip_prefix("re:") else {
            return Ok(if target == "Linear" { Target::Class } else { Target::Name(target.to_owned()) });
        };
        let regex = Regex::new(&format!("^(?:{pattern})")).map_err(|_| Problem::Value {
            file: folder.join(formats::hf::CONFIG),
            key: "quantization_config.config_groups".into(),
            why: format!("has the target `{target}`, which is not a regular expression; correct it"),
        })?;
        Ok(Target::Pattern(regex))
    }

    /// How specific the match is, lower being more; `None` where there is none.
    fn matches(&self, module: &str) -> Option<u8> {
        match self {
            Target::Name(name) => (name == module).then_some(0),
            Target::Pattern(regex) => regex.is_match(module).then_some(1),
            Target::Class => Some(2),
        }
    }
}

/// A module with a packed weight.
struct Module<'a> {
    all: &'a Arc<Safetensors>,
    name: &'a str,
    scale: &'a TensorInfo,
}

impl Module<'_> {
    fn weight(&self, groups: &Groups<'_>, config: &QuantizationConfig) -> Result<(Weight, Vec<PartSpec>), Problem> {
        let group = groups.of(self.name).and_then(|group| Some((group.weights.as_ref()?, group.format(config))));
        let (args, format) = group.ok_or_else(|| self.problem("no group of the config is for it"))?;
        let scale = match self.scale.dtype {
            Dtype::F32 => ScaleType::F32,
            Dtype::F16 => ScaleType::F16,
            _ => ScaleType::BF16,
        };
        let packed = args.packed(format, scale);
        let packed = packed.ok_or_else(|| self.problem("the config describes a packing that is not known here"))?;
        let (rows, cols) = self.shape(packed)?;
        let encoding = Encoding::Packed(packed);
        let specs = encoding.parts(rows, cols).map_err(|e| self.problem(&e.to_string()))?;
        let parts = specs.iter().map(|spec| self.part(spec)).collect::<Result<_, _>>()?;
        let name = format!("{}.weight", self.name);
        let source = Parts { files: Files::Safetensors(self.all.clone()), name: name.clone(), parts };
        let (place, shape) = (Place::outer(Role::Other), vec![rows, cols]);
        Ok((Weight { name, place, shape, encoding, source: Arc::new(source) }, specs))
    }

    /// Rows and columns of the weight before it was packed.
    fn shape(&self, packed: Packed) -> Result<(usize, usize), Problem> {
        let weight = match packed {
            Packed::Int8 { .. } | Packed::Fp8 { .. } => self.tensor("weight")?,
            _ => self.tensor("weight_packed")?,
        };
        let [rows, cols] = weight.shape[..] else { return Err(self.problem("its packed weight is not a matrix")) };
        match packed {
            Packed::Int { .. } => self.stored_shape(),
            Packed::Int8 { .. } | Packed::Fp8 { .. } => Ok((rows, cols)),
            Packed::Mxfp4 | Packed::Nvfp4 => Ok((rows, cols.saturating_mul(2))),
        }
    }

    fn stored_shape(&self) -> Result<(usize, usize), Problem> {
        let bytes = self.all.bytes(&self.tensor("weight_shape")?.name).unwrap_or_default();
        let number = |n: &[u8; 8]| usize::try_from(i64::from_le_bytes(*n)).ok();
        match bytes.as_chunks::<8>().0 {
            [rows, cols] => number(rows).zip(number(cols)),
            _ => None,
        }
        .ok_or_else(|| self.problem("its `weight_shape` is not two sizes"))
    }

    /// Where a part lies.
    fn part(&self, spec: &PartSpec) -> Result<(usize, Range<usize>), Problem> {
        let tensor = self.tensor(spec.suffix)?;
        let scalar = spec.shape == [1] && tensor.shape.is_empty();
        if tensor.dtype != spec.dtype || (tensor.shape != spec.shape && !scalar) {
            let (got, expected) = (&tensor.shape, &spec.shape);
            return Err(Problem::Tensor {
                file: self.all.file(tensor).to_owned(),
                tensor: tensor.name.clone(),
                why: format!("is {} {got:?}, its encoding needs {} {expected:?}", tensor.dtype, spec.dtype),
            });
        }
        Ok((tensor.file, tensor.range.clone()))
    }

    fn tensor(&self, suffix: &str) -> Result<&TensorInfo, Problem> {
        let tensor = format!("{}.{suffix}", self.name);
        let file = || self.all.file(self.scale).to_owned();
        self.all.get(&tensor).ok_or_else(|| Problem::Missing { file: file(), tensor: tensor.clone() })
    }

    fn problem(&self, why: &str) -> Problem {
        let (file, tensor) = (self.all.file(self.scale).to_owned(), self.scale.name.clone());
        Problem::Tensor { file, tensor, why: why.into() }
    }
}

/// The parts of a packed weight, in place.
struct Parts {
    files: Files,
    name: String,
    /// File and bytes of each, in the order of [`Encoding::parts`].
    parts: Vec<(usize, Range<usize>)>,
}

impl Source for Parts {
    fn rows(&self, _: Range<usize>) -> Result<Cow<'_, [u8]>, SourceError> {
        Err(SourceError::NotByRows { name: self.name.clone(), encoding: "packed".into() })
    }

    fn parts(&self) -> Result<Vec<Cow<'_, [u8]>>, SourceError> {
        let missing = || SourceError::Read { name: self.name.clone(), why: "its bytes are beyond the file".into() };
        let bytes = |(file, range): &(usize, Range<usize>)| {
            self.files.mapped(*file).and_then(|m| m.get(range.clone())).map(Cow::Borrowed).ok_or_else(missing)
        };
        self.parts.iter().map(bytes).collect()
    }

    fn release(&self, _: Range<usize>) {
        for (file, range) in &self.parts {
            if let Some(mapped) = self.files.mapped(*file) {
                mapped.release(range.clone());
            }
        }
    }
}
