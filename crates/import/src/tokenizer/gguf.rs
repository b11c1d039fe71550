//! A tokenizer from GGUF keys: its `tokenizer.json` is made, then read as any other.

use super::pre::{self, byte_level};
use super::vocabulary::TokenKind;
use super::{Special, Tokenizer, TokenizerError};
use formats::InFile;
use formats::gguf::{self, Metadata};
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::path::Path;

/// The character that stands for a space in SentencePiece vocabularies.
const SPACE: &str = "▁";

impl Tokenizer {
    /// The tokenizer that GGUF keys describe; `file` is named in errors.
    pub fn from_gguf(file: &Path, keys: &Metadata) -> Result<Tokenizer, TokenizerError> {
        let at = |problem| TokenizerError::Gguf(InFile { file: file.to_owned(), problem });
        let model = keys.need::<&str>("tokenizer.ggml.model").map_err(at)?;
        let vocabulary = RawVocabulary::read(keys).map_err(at)?;
        let (json, add_bos) = match model {
            "gpt2" => byte_level_json(file, keys, &vocabulary)?,
            "llama" => (sentence_piece_json(keys, &vocabulary).map_err(at)?, true),
            _ => return Err(TokenizerError::Model { file: file.to_owned(), model: model.to_owned() }),
        };
        let mut tokenizer = Tokenizer::from_json(file, json.to_string().into_bytes())?;
        tokenizer.special = special(file, keys, vocabulary.tokens.len(), add_bos)?;
        Ok(tokenizer)
    }
}

/// The arrays of a vocabulary.
struct RawVocabulary<'a> {
    tokens: &'a [String],
    kinds: &'a [i32],
}

impl<'a> RawVocabulary<'a> {
    fn read(keys: &'a Metadata) -> Result<Self, gguf::Problem> {
        let tokens = keys.need("tokenizer.ggml.tokens")?;
        Ok(RawVocabulary { tokens, kinds: keys.find("tokenizer.ggml.token_type")?.unwrap_or_default() })
    }

    fn is(&self, id: usize, kind: TokenKind) -> bool {
        self.kinds.get(id) == Some(&(kind as i32))
    }

    /// Token to id. Of a token that appears twice, the first id counts.
    fn ids(&self) -> Map<String, Value> {
        let mut ids = Map::new();
        for (id, token) in self.tokens.iter().enumerate() {
            ids.entry(token.as_str()).or_insert(id.into());
        }
        ids
    }

    /// Tokens that are matched in the text before anything else.
    fn added(&self) -> Vec<Value> {
        let special = |id| self.is(id, TokenKind::Control) || self.is(id, TokenKind::Unknown);
        let added = |(id, token): (usize, &String)| {
            (special(id) || self.is(id, TokenKind::UserDefined)).then(|| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": special(id)})
            })
        };
        self.tokens.iter().enumerate().filter_map(added).collect()
    }
}

fn tokenizer_json(added: Vec<Value>, normalizer: Value, pre_tokenizer: Value, decoder: Value, model: Value) -> Value {
    json!({"version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": normalizer,
           "pre_tokenizer": pre_tokenizer, "post_processor": null, "decoder": decoder, "model": model})
}

/// Byte-level BPE; also says whether a start token is the default.
fn byte_level_json(
    file: &Path,
    keys: &Metadata,
    vocabulary: &RawVocabulary<'_>,
) -> Result<(Value, bool), TokenizerError> {
    let at = |problem| TokenizerError::Gguf(InFile { file: file.to_owned(), problem });
    let name = keys.find::<&str>("tokenizer.ggml.pre").map_err(at)?.unwrap_or("default");
    let unknown = || TokenizerError::UnknownPre { file: file.to_owned(), name: name.to_owned() };
    let pre = pre::by_name(name).ok_or_else(unknown)?;
    let merges: Vec<_> =
        keys.need::<&[String]>("tokenizer.ggml.merges").map_err(at)?.iter().filter_map(|m| pair(m)).collect();
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
        "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": pre.ignore_merges(),
        "vocab": vocabulary.ids(), "merges": merges,
    });
    Ok((tokenizer_json(vocabulary.added(), Value::Null, pre.to_json(), byte_level(), model), pre.add_bos))
}

/// The two sides of `a b`. The first side is never empty, so a token that is a space stays whole.
fn pair(merge: &str) -> Option<(&str, &str)> {
    let first = merge.chars().next()?.len_utf8();
    let space = merge.get(first..)?.find(' ')? + first;
    Some((merge.get(..space)?, merge.get(space + 1..)?))
}

/// SentencePiece: a pair merges where the two sides together are a token, the highest score first.
fn sentence_piece_json(keys: &Metadata, vocabulary: &RawVocabulary<'_>) -> Result<Value, gguf::Problem> {
    let scores = keys.find::<&[f32]>("tokenizer.ggml.scores")?.unwrap_or_default();
    let prefix = keys.find::<bool>("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let unknown = (0..vocabulary.tokens.len()).find(|id| vocabulary.is(*id, TokenKind::Unknown));
    let unknown = keys.find::<usize>("tokenizer.ggml.unknown_token_id")?.or(unknown);
    let model = json!({
        "type": "BPE", "dropout": null, "unk_token": unknown.and_then(|id| vocabulary.tokens.get(id)),
        "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
        "ignore_merges": false, "vocab": vocabulary.ids(), "merges": merges_of_scores(vocabulary, scores),
    });
    let replace = |from: &str, to: &str| json!({"type": "Replace", "pattern": {"String": from}, "content": to});
    let mut normalizers = vec![replace(" ", SPACE)];
    let mut decoders = vec![replace(SPACE, " "), json!({"type": "ByteFallback"}), json!({"type": "Fuse"})];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": SPACE}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    let normalizer = json!({"type": "Sequence", "normalizers": normalizers});
    let decoder = json!({"type": "Sequence", "decoders": decoders});
    Ok(tokenizer_json(vocabulary.added(), normalizer, Value::Null, decoder, model))
}

/// Every way to make a token of two others, best score first; of one token, the shortest left side first, because
/// llama.cpp merges the leftmost of equal pairs.
fn merges_of_scores<'a>(vocabulary: &RawVocabulary<'a>, scores: &[f32]) -> Vec<(&'a str, &'a str)> {
    let plain = |id: &usize| vocabulary.is(*id, TokenKind::Normal) || vocabulary.kinds.is_empty();
    let ids: HashMap<&str, usize> =
        vocabulary.tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let mut order: Vec<usize> = (0..vocabulary.tokens.len()).filter(plain).collect();
    let score = |id: &usize| scores.get(*id).copied().unwrap_or(0.0);
    order.sort_by(|a, b| score(b).total_cmp(&score(a)));
    let mut merges = Vec::new();
    for token in order.into_iter().filter_map(|id| vocabulary.tokens.get(id)) {
        let splits = token.char_indices().skip(1).map(|(i, _)| token.split_at(i));
        merges.extend(splits.filter(|(a, b)| ids.contains_key(a) && ids.contains_key(b)));
    }
    merges
}

fn special(file: &Path, keys: &Metadata, size: usize, default_bos: bool) -> Result<Special, TokenizerError> {
    let at = |problem| TokenizerError::Gguf(InFile { file: file.to_owned(), problem });
    let id = |key: &'static str| match keys.find::<u32>(key).map_err(at)? {
        Some(id) if id as usize >= size => {
            Err(TokenizerError::SpecialToken { file: file.to_owned(), key, token: format!("id {id}") })
        }
        id => Ok(id),
    };
    let (bos, eos) = (id("tokenizer.ggml.bos_token_id")?, id("tokenizer.ggml.eos_token_id")?);
    let (eot, eom) = (id("tokenizer.ggml.eot_token_id")?, id("tokenizer.ggml.eom_token_id")?);
    let mut stop: Vec<u32> = [eos, eot, eom].into_iter().flatten().collect();
    stop.sort_unstable();
    stop.dedup();
    let flag = |key: &str| keys.find::<bool>(key).map_err(at);
    Ok(Special {
        bos,
        eos,
        pad: id("tokenizer.ggml.padding_token_id")?,
        stop,
        add_bos: bos.is_some() && flag("tokenizer.ggml.add_bos_token")?.unwrap_or(default_bos),
        add_eos: eos.is_some() && flag("tokenizer.ggml.add_eos_token")?.unwrap_or(false),
        chat_template: keys.find::<&str>("tokenizer.chat_template").map_err(at)?.map(str::to_owned),
    })
}
