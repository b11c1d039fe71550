//! JSON objects whose getters name file and key in every error.

use super::{Error, Problem};
use crate::InFile;
use codec::Dtype;
use serde_json::{Map, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// Largest config file that is read, in bytes.
const MAX_CONFIG: u64 = 16 << 20;

/// A JSON file that holds an object.
#[derive(Clone, Debug)]
pub struct Json {
    path: PathBuf,
    map: Map<String, Value>,
}

impl Json {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Json, Error> {
        let at = InFile::at(path);
        let len = fs::metadata(path).map_err(|e| at(Problem::Io(e)))?.len();
        if len > MAX_CONFIG {
            return Err(at(Problem::Size { len, max: MAX_CONFIG }));
        }
        Json::parse(path, &fs::read(path).map_err(|e| at(Problem::Io(e)))?)
    }

    /// Reads a file that may be absent.
    pub fn open_if_there(path: &Path) -> Result<Option<Json>, Error> {
        if path.exists() { Json::open(path).map(Some) } else { Ok(None) }
    }

    /// Parses text; `path` is named in errors.
    pub fn parse(path: &Path, text: &[u8]) -> Result<Json, Error> {
        let fail = |problem| InFile { file: path.to_owned(), problem };
        match serde_json::from_slice(text) {
            Ok(Value::Object(map)) => Ok(Json { path: path.to_owned(), map }),
            Ok(_) => Err(fail(Problem::NotAnObject)),
            Err(e) => Err(fail(Problem::Json(e))),
        }
    }

    /// The whole object.
    pub fn root(&self) -> Node<'_> {
        Node { file: &self.path, prefix: String::new(), map: &self.map }
    }

    /// The raw object, to copy into an artifact.
    pub fn map(&self) -> &Map<String, Value> {
        &self.map
    }
}

/// An object in a JSON file. A key whose value is `null` counts as absent.
#[derive(Clone, Debug)]
pub struct Node<'a> {
    file: &'a Path,
    prefix: String,
    map: &'a Map<String, Value>,
}

impl<'a> Node<'a> {
    /// The raw value of a key.
    pub fn get(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|v| !v.is_null())
    }

    /// A key that may be absent; an error where it has another type.
    pub fn find<T: FromJson<'a>>(&self, key: &str) -> Result<Option<T>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match T::from_json(value) {
            Some(v) => Ok(Some(v)),
            None => Err(self.wrong_type(key, T::EXPECTED, value)),
        }
    }

    /// A key that must be there.
    pub fn need<T: FromJson<'a>>(&self, key: &str) -> Result<T, Error> {
        self.find(key)?.ok_or_else(|| self.error(Problem::Missing { key: self.name(key) }))
    }

    /// A nested object that may be absent.
    pub fn object(&self, key: &str) -> Result<Option<Node<'a>>, Error> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value {
            Value::Object(map) => Ok(Some(Node { file: self.file, prefix: self.name(key) + ".", map })),
            _ => Err(self.wrong_type(key, "an object", value)),
        }
    }

    /// The language model's part: `text_config` where the model has other modalities too, else this object.
    pub fn text(&self) -> Result<Node<'a>, Error> {
        Ok(self.object("text_config")?.unwrap_or_else(|| self.clone()))
    }

    /// Keys and values, in order.
    pub fn entries(&self) -> impl Iterator<Item = (&'a String, &'a Value)> + use<'a> {
        self.map.iter()
    }

    /// The type that weights are meant to be loaded as: `dtype`, or `torch_dtype` before transformers 5.
    pub fn dtype(&self) -> Result<Option<Dtype>, Error> {
        for key in ["dtype", "torch_dtype"] {
            if let Some(name) = self.find::<&str>(key)? {
                return match name.trim_start_matches("torch.") {
                    "float32" | "float" => Ok(Some(Dtype::F32)),
                    "float16" | "half" => Ok(Some(Dtype::F16)),
                    "bfloat16" => Ok(Some(Dtype::BF16)),
                    _ => Err(self.unsupported(key, name, "float32, float16, bfloat16")),
                };
            }
        }
        Ok(None)
    }

    /// Token ids under a key that holds one id, or a list of them (`eos_token_id`). Empty where absent.
    pub fn token_ids(&self, key: &str) -> Result<Vec<u32>, Error> {
        match self.get(key) {
            None => Ok(vec![]),
            Some(Value::Array(_)) => self.need(key),
            Some(_) => Ok(vec![self.need(key)?]),
        }
    }

    /// An error about a key of this object whose value is not supported.
    pub fn unsupported(&self, key: &str, got: impl ToString, supported: &'static str) -> Error {
        self.error(Problem::Unsupported { key: self.name(key), got: got.to_string(), supported })
    }

    /// An error about two keys of this object.
    pub fn contradiction(&self, a: &str, b: &str) -> Error {
        self.error(Problem::Contradiction { a: self.name(a), b: self.name(b) })
    }

    pub(super) fn error(&self, problem: Problem) -> Error {
        InFile { file: self.file.to_owned(), problem }
    }

    /// A key with the objects around it: `rope_parameters.rope_theta`.
    pub(super) fn name(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn wrong_type(&self, key: &str, expected: &'static str, value: &Value) -> Error {
        let mut got = value.to_string();
        if let Some((end, _)) = got.char_indices().nth(60) {
            got.truncate(end);
            got.push('…');
        }
        self.error(Problem::Type { key: self.name(key), expected, got })
    }
}

/// A type that a JSON value can be read as.
pub trait FromJson<'a>: Sized {
    /// What the type is called in messages.
    const EXPECTED: &'static str;
    /// The value, where it is of this type.
    fn from_json(value: &'a Value) -> Option<Self>;
}

macro_rules! from_json {
    ($($t:ty, $expected:literal, $v:ident => $result:expr;)*) => {$(
        impl<'a> FromJson<'a> for $t {
            const EXPECTED: &'static str = $expected;
            fn from_json($v: &'a Value) -> Option<Self> {
                $result
            }
        }
    )*};
}
from_json! {
    u64, "a whole number", v => v.as_u64();
    u32, "a whole number below 2³²", v => v.as_u64()?.try_into().ok();
    usize, "a whole number", v => v.as_u64()?.try_into().ok();
    i64, "a whole number", v => v.as_i64();
    f64, "a number", v => v.as_f64();
    f32, "a number", v => v.as_f64().map(|x| x as f32);
    bool, "true or false", v => v.as_bool();
    &'a str, "a string", v => v.as_str();
}

impl<'a, T: FromJson<'a>> FromJson<'a> for Vec<T> {
    const EXPECTED: &'static str = "a list of one type";
    fn from_json(value: &'a Value) -> Option<Self> {
        value.as_array()?.iter().map(T::from_json).collect()
    }
}
