//! Keys and their values: read by type, and built in order for the writer.

use super::Problem;
use std::collections::HashMap;

/// A value of any type that GGUF has.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// An array; its elements have one type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(Vec<String>),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Value {
    /// What kind of value this is, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Value::U8(_) => "u8",
            Value::I8(_) => "i8",
            Value::U16(_) => "u16",
            Value::I16(_) => "i16",
            Value::U32(_) => "u32",
            Value::I32(_) => "i32",
            Value::F32(_) => "f32",
            Value::Bool(_) => "bool",
            Value::String(_) => "a string",
            Value::Array(_) => "an array",
            Value::U64(_) => "u64",
            Value::I64(_) => "i64",
            Value::F64(_) => "f64",
        }
    }

    /// The value as an integer, where it is one.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(v) => v.into(),
            Value::I8(v) => v.into(),
            Value::U16(v) => v.into(),
            Value::I16(v) => v.into(),
            Value::U32(v) => v.into(),
            Value::I32(v) => v.into(),
            Value::U64(v) => v.into(),
            Value::I64(v) => v.into(),
            _ => return None,
        })
    }
}

/// A type that a value can be read as. Integers of any width convert where they fit.
pub trait FromValue<'a>: Sized {
    /// What the type is called in messages.
    const EXPECTED: &'static str;
    /// The value, where it is of this type.
    fn from_value(value: &'a Value) -> Option<Self>;
}

macro_rules! integers {
    ($($t:ty),*) => {$(
        impl FromValue<'_> for $t {
            const EXPECTED: &'static str = concat!("an integer that fits ", stringify!($t));
            fn from_value(value: &Value) -> Option<Self> {
                value.integer()?.try_into().ok()
            }
        }
    )*};
}
integers!(u32, i32, u64, usize);

macro_rules! by_variant {
    ($($t:ty, $expected:literal, $pattern:pat => $result:expr;)*) => {$(
        impl<'a> FromValue<'a> for $t {
            const EXPECTED: &'static str = $expected;
            fn from_value(value: &'a Value) -> Option<Self> {
                match value {
                    $pattern => Some($result),
                    _ => None,
                }
            }
        }
    )*};
}
by_variant! {
    f32, "an f32", Value::F32(v) => *v;
    bool, "a bool", Value::Bool(v) => *v;
    &'a str, "a string", Value::String(v) => v;
    &'a Array, "an array", Value::Array(v) => v;
    &'a [String], "an array of strings", Value::Array(Array::String(v)) => v;
    &'a [f32], "an array of f32", Value::Array(Array::F32(v)) => v;
    &'a [i32], "an array of i32", Value::Array(Array::I32(v)) => v;
    &'a [u32], "an array of u32", Value::Array(Array::U32(v)) => v;
    &'a [bool], "an array of bool", Value::Array(Array::Bool(v)) => v;
}

macro_rules! into_value {
    ($($t:ty, $v:ident => $result:expr;)*) => {$(
        impl From<$t> for Value {
            fn from($v: $t) -> Value {
                $result
            }
        }
    )*};
}
into_value! {
    u8, v => Value::U8(v);
    u16, v => Value::U16(v);
    u32, v => Value::U32(v);
    i32, v => Value::I32(v);
    u64, v => Value::U64(v);
    f32, v => Value::F32(v);
    bool, v => Value::Bool(v);
    &str, v => Value::String(v.to_owned());
    String, v => Value::String(v);
    Vec<String>, v => Value::Array(Array::String(v));
    Vec<f32>, v => Value::Array(Array::F32(v));
    Vec<i32>, v => Value::Array(Array::I32(v));
    Vec<u32>, v => Value::Array(Array::U32(v));
    Vec<bool>, v => Value::Array(Array::Bool(v));
}

/// Keys in order, each once.
#[derive(Clone, Debug, Default)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    by_key: HashMap<String, usize>,
}

/// Equal where keys and values are, in the same order.
impl PartialEq for Metadata {
    fn eq(&self, other: &Metadata) -> bool {
        self.entries == other.entries
    }
}

impl Metadata {
    /// Sets a key: in its place where it is there, else at the end.
    pub fn set(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.by_key.get(&key).and_then(|i| self.entries.get_mut(*i)) {
            Some(entry) => entry.1 = value,
            None => {
                self.by_key.insert(key.clone(), self.entries.len());
                self.entries.push((key, value));
            }
        }
    }

    /// The raw value of a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.get(*self.by_key.get(key)?).map(|e| &e.1)
    }

    /// A key that may be absent; an error where it has another type.
    pub fn find<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<Option<T>, Problem> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match T::from_value(value) {
            Some(v) => Ok(Some(v)),
            None => Err(Problem::KeyType { key: key.to_owned(), expected: T::EXPECTED, got: value.kind() }),
        }
    }

    /// A key that must be there.
    pub fn need<'a, T: FromValue<'a>>(&'a self, key: &str) -> Result<T, Problem> {
        self.find(key)?.ok_or_else(|| Problem::MissingKey { key: key.to_owned() })
    }

    /// Keys and values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(k, v)| (k.as_str(), v))
    }
}
