//! Names as users write them: encodings, and what was probably meant by a name that is none.

use codec::{BlockFormat, Dtype, Encoding};
use serde::{Deserialize, Deserializer, Serializer};

/// What a weight may be stored as, wanted or found.
const PLAIN: [Dtype; 15] = {
    use Dtype::*;
    [F64, F32, F16, BF16, F8E4M3, F8E5M2, I8, U8, I16, U16, I32, U32, I64, U64, Bool]
};

/// Examples of packed encodings, to suggest.
const PACKED: [&str; 6] = ["int4-g128", "int4-g128-asym", "int8-channel", "fp8-channel", "mxfp4-g32", "nvfp4-g16"];

/// A name that no encoding has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown encoding `{name}`{}", meant(.suggestion))]
pub struct UnknownEncoding {
    /// What was written.
    pub name: String,
    /// The nearest name that exists.
    pub suggestion: Option<String>,
}

/// The encoding of a name in any case: `bf16`, `q4_k`, `int4-g128`.
pub fn encoding(name: &str) -> Result<Encoding, UnknownEncoding> {
    let wanted = name.to_ascii_lowercase();
    let listed = all().find(|e| encoding_name(e) == wanted);
    listed.or_else(|| wanted.parse().ok().map(Encoding::Packed)).ok_or_else(|| {
        let names: Vec<String> = all().map(|e| encoding_name(&e)).chain(PACKED.map(String::from)).collect();
        let suggestion = nearest(&wanted, names.iter().map(String::as_str)).map(str::to_owned);
        UnknownEncoding { name: name.into(), suggestion }
    })
}

/// The name of an encoding, lower case; [`encoding`] reads it back.
pub fn encoding_name(encoding: &Encoding) -> String {
    encoding.to_string().to_ascii_lowercase()
}

fn all() -> impl Iterator<Item = Encoding> {
    PLAIN.into_iter().map(Encoding::Plain).chain(BlockFormat::ALL.into_iter().map(Encoding::Block))
}

/// The candidate that was probably meant, if any is near.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (strsim::jaro_winkler(&word.to_ascii_lowercase(), &c.to_ascii_lowercase()), c))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

/// `; did you mean …?`, or nothing.
pub(crate) fn meant(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map_or(String::new(), |s| format!("; did you mean `{s}`?"))
}

/// Serde of an encoding by its name.
pub(crate) mod serde_encoding {
    use super::*;

    pub fn serialize<S: Serializer>(encoding: &Encoding, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&encoding_name(encoding))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Encoding, D::Error> {
        super::encoding(&String::deserialize(d)?).map_err(serde::de::Error::custom)
    }
}
