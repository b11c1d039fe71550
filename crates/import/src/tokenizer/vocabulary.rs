//! A tokenizer's parts, as the GGUF writer needs them.

use super::{Tokenizer, TokenizerError};
use serde_json::Value;
use std::collections::{HashMap, HashSet};

/// How a vocabulary turns words into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Merges over bytes written as printable characters (GGUF's `gpt2`).
    ByteLevel,
    /// SentencePiece: merges over characters by score, bytes for what is left (GGUF's `llama`).
    SentencePiece,
}

/// What a token is for, by GGUF's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum TokenKind {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// One token.
#[derive(Clone, Debug, PartialEq)]
pub struct Token {
    /// As the vocabulary spells it.
    pub text: String,
    /// What it is for.
    pub kind: TokenKind,
    /// Higher merges first; 0 where nothing merges into it. SentencePiece only.
    pub score: f32,
}

/// Tokens by id, and the merges in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    /// How words become tokens.
    pub kind: Kind,
    /// By id; ids that nothing uses are [`TokenKind::Unused`] and called `[PADi]`.
    pub tokens: Vec<Token>,
    /// Pairs, first merged first.
    pub merges: Vec<(String, String)>,
    /// Whether a text is tokenized as if it began with a space (SentencePiece only).
    pub add_space_prefix: bool,
}

impl Tokenizer {
    /// The parts of a BPE tokenizer. Others (Unigram, WordPiece) have no place in the GGUF files that are written here.
    pub fn vocabulary(&self) -> Result<Vocabulary, TokenizerError> {
        let fail = |what: &str| TokenizerError::NoPreName { what: what.to_owned() };
        let json: Value = serde_json::from_slice(self.json()).map_err(|e| fail(&e.to_string()))?;
        let model = &json["model"];
        let merges = merges(model).ok_or_else(|| fail("it is not a BPE tokenizer"))?;
        let byte_fallback = model["byte_fallback"] == true;
        let kind = match (byte_fallback, json["pre_tokenizer"].to_string().contains("\"ByteLevel\"")) {
            (true, false) => Kind::SentencePiece,
            (false, true) => Kind::ByteLevel,
            _ => return Err(fail("it is neither byte-level BPE nor BPE with byte fallback")),
        };
        let tokens = self.tokens(kind, model["unk_token"].as_str(), &scores(&merges));
        Ok(Vocabulary { kind, tokens, merges, add_space_prefix: adds_space(&json) })
    }

    fn tokens(&self, kind: Kind, unknown: Option<&str>, scores: &HashMap<String, f32>) -> Vec<Token> {
        let added = self.inner().get_added_tokens_decoder();
        let sentence_piece = kind == Kind::SentencePiece;
        let kind_of = |id: u32, text: &str| match added.get(&id) {
            _ if sentence_piece && Some(text) == unknown => TokenKind::Unknown,
            Some(token) if token.special => TokenKind::Control,
            Some(_) => TokenKind::UserDefined,
            None if sentence_piece && is_byte(text) => TokenKind::Byte,
            None => TokenKind::Normal,
        };
        let token = |id: u32| match self.inner().id_to_token(id) {
            None => Token { text: format!("[PAD{id}]"), kind: TokenKind::Unused, score: 0.0 },
            Some(text) => {
                let score = if sentence_piece { scores.get(&text).copied().unwrap_or(0.0) } else { 0.0 };
                Token { kind: kind_of(id, &text), text, score }
            }
        };
        (0..self.vocab_size() as u32).map(token).collect()
    }
}

/// A byte's token, `<0x0A>`.
fn is_byte(text: &str) -> bool {
    text.len() == 6 && text.starts_with("<0x") && text.ends_with('>')
}

/// The merges of a BPE model, in either of the spellings that `tokenizer.json` has had: pairs, or texts with a space.
fn merges(model: &Value) -> Option<Vec<(String, String)>> {
    let pair = |m: &Value| match m {
        Value::String(s) => s.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        m => Some((m.get(0)?.as_str()?.to_owned(), m.get(1)?.as_str()?.to_owned())),
    };
    model["merges"].as_array()?.iter().map(pair).collect()
}

/// SentencePiece scores from merges: the n-th token to be merged into has score −n.
fn scores(merges: &[(String, String)]) -> HashMap<String, f32> {
    let mut scores = HashMap::new();
    let mut seen = HashSet::new();
    for (a, b) in merges {
        let token = format!("{a}{b}");
        if seen.insert(token.clone()) {
            scores.insert(token, -(seen.len() as f32));
        }
    }
    scores
}

/// Whether the normalizer, or the pre-tokenizer in newer files, puts a space before the text.
fn adds_space(json: &Value) -> bool {
    let has = |v: &Value, kind: &str| v.to_string().contains(&format!("\"type\":\"{kind}\""));
    let metaspace = has(&json["pre_tokenizer"], "Metaspace")
        && !json["pre_tokenizer"].to_string().contains("\"prepend_scheme\":\"never\"");
    has(&json["normalizer"], "Prepend") || metaspace
}
