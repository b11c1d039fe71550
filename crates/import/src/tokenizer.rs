//! Text to token ids and back: the tokenizer of a Hugging Face folder or of a GGUF file.
//!
//! The work is done by the `tokenizers` crate. A GGUF file has no `tokenizer.json`, only a vocabulary with merges or
//! scores and the name of a pre-tokenizer ([`pre`]); from these one is made, so both sources tokenize by the same code.
//! [`Vocabulary`] is the way back, for the GGUF writer.

mod gguf;
pub mod pre;
mod vocabulary;

pub use pre::pre_tokenizer_name;
pub use vocabulary::{Kind, Token, TokenKind, Vocabulary};

use formats::hf::{self, Json, Node};
use serde_json::Value;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// Largest `tokenizer.json` that is read, in bytes.
const MAX_JSON: u64 = 512 << 20;

/// Why a tokenizer cannot be read or used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TokenizerError {
    #[error(transparent)]
    Config(#[from] hf::Error),
    #[error(transparent)]
    Gguf(#[from] formats::gguf::Error),
    #[error("{}: cannot read", file.display())]
    Io { file: PathBuf, source: std::io::Error },
    #[error("{}: has no tokenizer.json; load the tokenizer with transformers and save it there with `save_pretrained`", folder.display())]
    Missing { folder: PathBuf },
    #[error("{}: is not a tokenizer: {what}; download the file again", file.display())]
    Invalid { file: PathBuf, what: String },
    #[error("{}: byte {at} is not UTF-8; convert the text, or give another", file.display())]
    Utf8 { file: PathBuf, at: usize },
    #[error("{}: `{key}` is {token}, which the vocabulary does not have; config and tokenizer are of different models", file.display())]
    SpecialToken { file: PathBuf, key: &'static str, token: String },
    #[error("{}: `tokenizer.ggml.model` is `{model}`; supported are gpt2 and llama: start from the Hugging Face folder", file.display())]
    Model { file: PathBuf, model: String },
    #[error("{}: pre-tokenizer `{name}` is not known; start from the Hugging Face folder instead", file.display())]
    UnknownPre { file: PathBuf, name: String },
    #[error(
        "GGUF has no name for this tokenizer: {what}; export to another format, or retokenize with one of {}",
        pre::names().join(", ")
    )]
    NoPreName { what: String },
    #[error("cannot tokenize: {what}")]
    Run { what: String },
}

/// A model's tokenizer.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: Vec<u8>,
    vocab_size: usize,
    special: Special,
}

/// What surrounds the tokenizer proper.
#[derive(Clone, Debug, Default, PartialEq)]
struct Special {
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    stop: Vec<u32>,
    add_bos: bool,
    add_eos: bool,
    chat_template: Option<String>,
}

impl Tokenizer {
    /// The tokenizer of a Hugging Face folder: `tokenizer.json`, with what `tokenizer_config.json`, `config.json` and
    /// `generation_config.json` say about special tokens.
    pub fn from_folder(folder: &Path) -> Result<Tokenizer, TokenizerError> {
        let file = folder.join(hf::TOKENIZER);
        if !file.exists() {
            return Err(TokenizerError::Missing { folder: folder.to_owned() });
        }
        let len = fs::metadata(&file).map_err(|source| TokenizerError::Io { file: file.clone(), source })?.len();
        if len > MAX_JSON {
            return Err(TokenizerError::Invalid { file, what: format!("{len} bytes are too many") });
        }
        let json = fs::read(&file).map_err(|source| TokenizerError::Io { file: file.clone(), source })?;
        let mut tokenizer = Tokenizer::from_json(&file, json)?;
        tokenizer.special = tokenizer.special_of_folder(folder)?;
        Ok(tokenizer)
    }

    /// A tokenizer from the text of a `tokenizer.json`, with no special tokens known; `file` is named in errors.
    pub fn from_json(file: &Path, json: Vec<u8>) -> Result<Tokenizer, TokenizerError> {
        let invalid = |what: String| TokenizerError::Invalid { file: file.to_owned(), what };
        // The crate panics on some damaged files (a merge shorter than its prefix, for one).
        let parsed = catch_unwind(|| tokenizers::Tokenizer::from_bytes(&json))
            .map_err(|_| invalid("its parts contradict each other".into()))?;
        let inner = parsed.map_err(|e| invalid(e.to_string()))?;
        let vocab_size = inner.get_vocab(true).values().max().map_or(0, |id| *id as usize + 1);
        Ok(Tokenizer { inner, json, vocab_size, special: Special::default() })
    }

    /// Token ids of a text, without the tokens that mark its start and end. Special tokens spelled out in the text
    /// become their ids.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let encoding = catch_unwind(AssertUnwindSafe(|| self.inner.encode_fast(text, false)));
        match encoding {
            Ok(Ok(encoding)) => Ok(encoding.get_ids().to_vec()),
            Ok(Err(e)) => Err(TokenizerError::Run { what: e.to_string() }),
            Err(_) => Err(TokenizerError::Run { what: "the tokenizer's parts contradict each other".into() }),
        }
    }

    /// Token ids with the start and end tokens that the model was trained with.
    pub fn encode_with_special(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let bos = self.special.bos.filter(|_| self.special.add_bos);
        let eos = self.special.eos.filter(|_| self.special.add_eos);
        Ok(bos.into_iter().chain(self.encode(text)?).chain(eos).collect())
    }

    /// Text of token ids; special tokens are left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.inner.decode(ids, true).map_err(|e| TokenizerError::Run { what: e.to_string() })
    }

    /// The token that starts a text.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The token that ends a text.
    pub fn eos(&self) -> Option<u32> {
        self.special.eos
    }

    /// The token that fills batches.
    pub fn pad(&self) -> Option<u32> {
        self.special.pad
    }

    /// Every token at which generation stops, [`Tokenizer::eos`] included.
    pub fn stop_ids(&self) -> &[u32] {
        &self.special.stop
    }

    /// Whether texts start with [`Tokenizer::bos`].
    pub fn add_bos(&self) -> bool {
        self.special.add_bos
    }

    /// Whether texts end with [`Tokenizer::eos`].
    pub fn add_eos(&self) -> bool {
        self.special.add_eos
    }

    /// The template that turns a conversation into text (Jinja).
    pub fn chat_template(&self) -> Option<&str> {
        self.special.chat_template.as_deref()
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// The `tokenizer.json`, to be carried into an artifact.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// The `tokenizers` crate's value.
    pub fn inner(&self) -> &tokenizers::Tokenizer {
        &self.inner
    }

    fn special_of_folder(&self, folder: &Path) -> Result<Special, TokenizerError> {
        let tokenizer = Json::open_if_there(&folder.join(hf::TOKENIZER_CONFIG))?;
        let config = Json::open_if_there(&folder.join(hf::CONFIG))?;
        let generation = Json::open_if_there(&folder.join(hf::GENERATION_CONFIG))?;
        let text = config.as_ref().map(|c| c.root().text()).transpose()?;
        let find = |name, id| {
            let named = tokenizer.as_ref().map(|t| self.named(folder, &t.root(), name)).transpose()?.flatten();
            let numbered = text.as_ref().map(|c| c.token_ids(id)).transpose()?.unwrap_or_default();
            Ok::<_, TokenizerError>(named.or_else(|| numbered.first().copied()))
        };
        let (bos, eos, pad) = (
            find("bos_token", "bos_token_id")?,
            find("eos_token", "eos_token_id")?,
            find("pad_token", "pad_token_id")?,
        );
        let mut stop: Vec<u32> = eos.into_iter().collect();
        for node in text.iter().cloned().chain(generation.as_ref().map(Json::root)) {
            stop.extend(node.token_ids("eos_token_id")?);
        }
        stop.sort_unstable();
        stop.dedup();
        let added = self.added_around(bos, eos);
        let flag = |key: &str| tokenizer.as_ref().map_or(Ok(None), |t| t.root().find::<bool>(key));
        Ok(Special {
            add_bos: bos.is_some() && flag("add_bos_token")?.unwrap_or(added.0),
            add_eos: eos.is_some() && flag("add_eos_token")?.unwrap_or(added.1),
            chat_template: chat_template(folder, tokenizer.as_ref())?,
            bos,
            eos,
            pad,
            stop,
        })
    }

    /// The id of a special token that `tokenizer_config.json` names, as text or as an object with `content`.
    fn named(&self, folder: &Path, node: &Node<'_>, key: &'static str) -> Result<Option<u32>, TokenizerError> {
        let name = match node.get(key) {
            None => return Ok(None),
            Some(Value::Object(_)) => match node.object(key)? {
                Some(token) => token.need::<&str>("content")?,
                None => return Ok(None),
            },
            Some(_) => node.need::<&str>(key)?,
        };
        let file = folder.join(hf::TOKENIZER_CONFIG);
        let unknown = || TokenizerError::SpecialToken { file, key, token: format!("`{name}`") };
        self.inner.token_to_id(name).map(Some).ok_or_else(unknown)
    }

    /// Whether the post-processor puts these tokens at the start and at the end of a text.
    fn added_around(&self, bos: Option<u32>, eos: Option<u32>) -> (bool, bool) {
        let Ok(encoding) = self.inner.encode_fast("a", true) else { return (false, false) };
        let ids = encoding.get_ids();
        (bos.is_some() && ids.first() == bos.as_ref(), eos.is_some() && ids.last() == eos.as_ref())
    }
}

/// The chat template: a file of its own in newer folders, else a key, which may list several by name.
fn chat_template(folder: &Path, config: Option<&Json>) -> Result<Option<String>, TokenizerError> {
    let file = folder.join("chat_template.jinja");
    if file.exists() {
        let template = fs::read_to_string(&file);
        return template.map(Some).map_err(|source| TokenizerError::Io { file, source });
    }
    let Some(config) = config else { return Ok(None) };
    let root = config.root();
    let Some(Value::Array(templates)) = root.get("chat_template") else {
        return Ok(root.find::<&str>("chat_template")?.map(str::to_owned));
    };
    let default = templates.iter().find(|t| t.get("name").and_then(Value::as_str) == Some("default"));
    Ok(default.and_then(|t| t.get("template")).and_then(Value::as_str).map(str::to_owned))
}

/// Checks that a file's bytes are text; `file` is named in the error.
pub fn utf8<'a>(file: &Path, bytes: &'a [u8]) -> Result<&'a str, TokenizerError> {
    str::from_utf8(bytes).map_err(|e| TokenizerError::Utf8 { file: file.to_owned(), at: e.valid_up_to() })
}
