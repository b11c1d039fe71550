//! Pre-tokenizers: how text is cut into words before merging, by the names that GGUF gives them.
//!
//! llama.cpp knows each by a name and a list of expressions (`src/llama-vocab.cpp`). Its converter finds the name from
//! a hash of how one text is tokenized, which only works for vocabularies that it has met. Here the name is found from
//! the expressions in `tokenizer.json` itself, so a tokenizer of one's own has a name too.

use super::{Tokenizer, TokenizerError};
use serde_json::{Value, json};

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const DEEPSEEK3: &str = r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"##;

/// A pre-tokenizer: expressions applied one after the other, each isolating what it matches.
#[derive(Debug)]
pub struct PreTokenizer {
    /// GGUF's name for it, and then those names that mean the same.
    names: &'static [&'static str],
    splits: &'static [&'static str],
    /// Whether a word that is a token stays whole, whatever the merges say.
    ignore_merges: bool,
    /// What llama.cpp does about the start token where the file does not say.
    pub(super) add_bos: bool,
}

const fn pre(names: &'static [&'static str], splits: &'static [&'static str]) -> PreTokenizer {
    PreTokenizer { names, splits, ignore_merges: false, add_bos: false }
}

/// Those that keep whole words also start with the start token.
const fn whole_words(names: &'static [&'static str], splits: &'static [&'static str]) -> PreTokenizer {
    PreTokenizer { names, splits, ignore_merges: true, add_bos: true }
}

/// Every pre-tokenizer that is read and written. Where several names mean the same, the first is written.
static TABLE: [PreTokenizer; 12] = [
    pre(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
            "gigachat",
            "exaone4",
            "a.x-4.0",
            "mellum",
            "modern-bert",
        ],
        &[GPT2],
    ),
    pre(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[r"\p{N}", GPT2],
    ),
    whole_words(&["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"], &[LLAMA3]),
    pre(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3]),
    pre(&["qwen2", "stablelm2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "hunyuan", "solar-open"], &[QWEN2]),
    pre(&["qwen35"], &[QWEN35]),
    whole_words(&["tekken"], &[TEKKEN]),
    pre(&["gpt-4o", "llama4", "kanana2", "minimax-m2"], &[GPT4O]),
    pre(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        &[r"\p{N}{1,3}", "[一-龥\u{3040}-ゟ゠-ヿ]+", DEEPSEEK3],
    ),
    pre(&["deepseek-coder"], &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-\u{d7ff}]+", r"\p{N}"]),
    pre(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"]),
    pre(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"]),
];

/// The pre-tokenizer of this name.
pub fn by_name(name: &str) -> Option<&'static PreTokenizer> {
    TABLE.iter().find(|p| p.names.contains(&name))
}

/// The names that are written.
pub fn names() -> Vec<&'static str> {
    TABLE.iter().filter_map(|p| p.names.first().copied()).collect()
}

impl PreTokenizer {
    /// The `pre_tokenizer` of a `tokenizer.json`.
    pub(super) fn to_json(&self) -> Value {
        let split =
            |r: &&str| json!({"type": "Split", "pattern": {"Regex": r}, "behavior": "Isolated", "invert": false});
        let mut steps: Vec<Value> = self.splits.iter().map(split).collect();
        steps.push(byte_level());
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    pub(super) fn ignore_merges(&self) -> bool {
        self.ignore_merges
    }
}

/// Bytes as printable characters, without a split of its own.
pub(super) fn byte_level() -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false})
}

/// GGUF's `tokenizer.ggml.pre` for a byte-level tokenizer.
pub fn pre_tokenizer_name(tokenizer: &Tokenizer) -> Result<&'static str, TokenizerError> {
    let unnamed = |what: String| TokenizerError::NoPreName { what };
    let json = serde_json::to_value(tokenizer.inner()).map_err(|e| unnamed(e.to_string()))?;
    check_normalizer(&json["normalizer"]).map_err(unnamed)?;
    let splits = splits(&json["pre_tokenizer"]).map_err(unnamed)?;
    let ignore_merges = json["model"]["ignore_merges"] == true;
    let equal = |p: &&PreTokenizer| p.splits == splits && p.ignore_merges == ignore_merges;
    let found = TABLE.iter().find(equal).and_then(|p| p.names.first().copied());
    found.ok_or_else(|| unnamed(format!("it splits by {splits:?}{}", if ignore_merges { ", words whole" } else { "" })))
}

/// llama.cpp does not normalize: composing (NFC) is tolerated, as its converter does, anything else changes ids.
fn check_normalizer(normalizer: &Value) -> Result<(), String> {
    match normalizer["type"].as_str() {
        None | Some("NFC") => Ok(()),
        Some("Sequence") => normalizer["normalizers"].as_array().into_iter().flatten().try_for_each(check_normalizer),
        Some(other) => Err(format!("it has the normalizer {other}")),
    }
}

/// The expressions that a `pre_tokenizer` splits by, in order.
fn splits(step: &Value) -> Result<Vec<String>, String> {
    let kind = step["type"].as_str().unwrap_or("none");
    match kind {
        "Sequence" => {
            let steps = step["pretokenizers"].as_array().into_iter().flatten();
            steps.map(splits).collect::<Result<Vec<_>, _>>().map(|s| s.concat())
        }
        "ByteLevel" if step["add_prefix_space"] == true => Err("it puts a space before the text".into()),
        "ByteLevel" if step["use_regex"] == false => Ok(vec![]),
        "ByteLevel" => Ok(vec![GPT2.into()]),
        "Digits" if step["individual_digits"] == true => Ok(vec![r"\p{N}".into()]),
        "Digits" => Ok(vec![r"\p{N}+".into()]),
        // Isolating what matches, and removing what does not, are the same where everything matches.
        "Split" if step["behavior"] == "Isolated" || (step["behavior"] == "Removed" && step["invert"] == true) => {
            let regex = step["pattern"]["Regex"].as_str().ok_or("it splits by a fixed text")?;
            Ok(vec![regex.to_owned()])
        }
        _ => Err(format!("it has the pre-tokenizer {kind}")),
    }
}
