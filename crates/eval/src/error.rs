//! Why something could not be measured.

/// Why something could not be measured.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum EvalError {
    #[error(
        "the text has {tokens} tokens, fewer than a window of {context} scores; give more text or a shorter context"
    )]
    TooShort { tokens: usize, context: usize },
    #[error("a stride of {stride} does not fit a context of {context}; it must be between 1 and the context")]
    Stride { context: usize, stride: usize },
    #[error(
        "the reference has {reference} ids and the model {model}; they can be compared only if they share a vocabulary"
    )]
    Vocabulary { reference: usize, model: usize },
    #[error("the text has the id {id}, the vocabulary ends at {vocab}; was it made with another model's tokenizer?")]
    Id { id: u32, vocab: usize },
    #[error("the logits of scored token {token} are not finite numbers; the model is damaged")]
    NotANumber { token: usize },
    #[error(transparent)]
    Run(#[from] exec::Error),
}
