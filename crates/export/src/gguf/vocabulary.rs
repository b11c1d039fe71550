//! The tokenizer, as `tokenizer.ggml.*` keys.

use crate::ExportError;
use formats::gguf::Metadata;
use import::tokenizer::{Kind, Token, TokenKind, Tokenizer, Vocabulary, pre_tokenizer_name};

/// Adds the keys. Ids that the tokenizer does not use, up to `rows`, get tokens that never match.
pub(super) fn add(keys: &mut Metadata, tokenizer: &Tokenizer, rows: usize) -> Result<(), ExportError> {
    let vocabulary = tokenizer.vocabulary()?;
    let tokens = padded(&vocabulary, rows)?;
    let sentence_piece = vocabulary.kind == Kind::SentencePiece;
    keys.set("tokenizer.ggml.model", if sentence_piece { "llama" } else { "gpt2" });
    keys.set("tokenizer.ggml.pre", if sentence_piece { "default" } else { pre_tokenizer_name(tokenizer)? });
    keys.set("tokenizer.ggml.tokens", tokens.iter().map(|t| t.text.clone()).collect::<Vec<_>>());
    if sentence_piece {
        keys.set("tokenizer.ggml.scores", tokens.iter().map(|t| t.score).collect::<Vec<_>>());
        keys.set("tokenizer.ggml.add_space_prefix", vocabulary.add_space_prefix);
    } else {
        keys.set("tokenizer.ggml.merges", vocabulary.merges.iter().map(merge).collect::<Vec<_>>());
    }
    keys.set("tokenizer.ggml.token_type", tokens.iter().map(|t| t.kind as i32).collect::<Vec<_>>());
    let unknown = tokens.iter().position(|t| t.kind == TokenKind::Unknown).map(|id| id as u32);
    let special =
        [("bos", tokenizer.bos()), ("eos", tokenizer.eos()), ("unknown", unknown), ("padding", tokenizer.pad())];
    for (name, id) in special {
        if let Some(id) = id {
            keys.set(format!("tokenizer.ggml.{name}_token_id"), id);
        }
    }
    keys.set("tokenizer.ggml.add_bos_token", tokenizer.add_bos());
    keys.set("tokenizer.ggml.add_eos_token", tokenizer.add_eos());
    if let Some(template) = tokenizer.chat_template() {
        keys.set("tokenizer.chat_template", template);
    }
    Ok(())
}

/// One token for every row of the embedding table.
fn padded(vocabulary: &Vocabulary, rows: usize) -> Result<Vec<Token>, ExportError> {
    let used = vocabulary.tokens.len();
    if used > rows {
        return Err(ExportError::Vocabulary { tokens: used, rows });
    }
    let unused = |id| Token { text: format!("[PAD{id}]"), kind: TokenKind::Unused, score: 0.0 };
    Ok(vocabulary.tokens.iter().cloned().chain((used..rows).map(unused)).collect())
}

/// A pair joined by a space; a space within a part is written as byte-level tokenizers do.
fn merge((a, b): &(String, String)) -> String {
    format!("{} {}", a.replace(' ', "Ġ"), b.replace(' ', "Ġ"))
}
