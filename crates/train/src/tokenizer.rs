//! A byte-level BPE tokenizer, trained on text with the GPT-2 split (llama.cpp knows it as `gpt-2`).

use tokenizers::models::bpe::{BPE, BpeTrainerBuilder};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, DecoderWrapper, NormalizerWrapper, PostProcessorWrapper, PreTokenizerWrapper};
use tokenizers::{TokenizerBuilder, TokenizerImpl};

/// The one special token: begins and ends a document; its id is 0.
pub const END_OF_TEXT: &str = "<|endoftext|>";

/// Why a tokenizer could not be trained.
#[derive(Debug, thiserror::Error)]
#[error("tokenizer of {vocab} tokens: {why}")]
pub struct TokenizerError {
    vocab: usize,
    why: String,
}

/// Trains a tokenizer of `vocab` tokens and returns its `tokenizer.json`.
pub fn train_bpe<'a>(text: impl Iterator<Item = &'a str> + Send, vocab: usize) -> Result<String, TokenizerError> {
    let error = |e: tokenizers::Error| TokenizerError { vocab, why: e.to_string() };
    if vocab < 257 {
        return Err(TokenizerError { vocab, why: "byte-level BPE needs 256 bytes and one special token".into() });
    }
    let mut trainer = BpeTrainerBuilder::new()
        .vocab_size(vocab)
        .show_progress(false)
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END_OF_TEXT, true)])
        .build();
    let mut tokenizer = byte_level(BPE::default()).map_err(error)?;
    tokenizer.train(&mut trainer, text).map_err(error)?;
    tokenizer.to_string(false).map_err(error)
}

type Impl = TokenizerImpl<BPE, NormalizerWrapper, PreTokenizerWrapper, PostProcessorWrapper, DecoderWrapper>;

fn byte_level(model: BPE) -> Result<Impl, tokenizers::Error> {
    let byte_level = ByteLevel::new(false, true, true);
    TokenizerBuilder::new()
        .with_model(model)
        .with_normalizer(None::<NormalizerWrapper>)
        .with_pre_tokenizer(Some(PreTokenizerWrapper::from(byte_level)))
        .with_post_processor(None::<PostProcessorWrapper>)
        .with_decoder(Some(DecoderWrapper::from(byte_level)))
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_any_text() {
        let text = "the cat sat on the mat; the cat sat still. ".repeat(20);
        let json = train_bpe(text.split_inclusive('.'), 300).unwrap();
        let tokenizer: tokenizers::Tokenizer = json.parse().unwrap();
        assert_eq!(tokenizer.token_to_id(END_OF_TEXT), Some(0));
        for sample in ["the cat", " naïve — 東京\n\n\t!", ""] {
            let ids = tokenizer.encode(sample, false).unwrap();
            assert_eq!(tokenizer.decode(ids.get_ids(), false).unwrap(), sample);
        }
        assert!(tokenizer.encode("the cat sat", false).unwrap().len() < 6);
        assert!(train_bpe(std::iter::empty(), 100).is_err());
    }
}
