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
    #[error("the network's first output `{output}` is no row of scores for each sample")]
    NoClasses { output: String },
    #[error("the reference tells {reference} classes apart, the network {network}")]
    Classes { reference: usize, network: usize },
    #[error("{data}: sample {index} has the label {label}, the network tells {classes} classes apart")]
    Label { data: String, index: usize, label: u32, classes: usize },
    #[error("{data} has no labels; name a reference, then the share of samples with the same class is measured")]
    NoLabels { data: String },
    #[error("the scores of sample {sample} are not finite numbers; the model is damaged")]
    Scores { sample: usize },
    #[error(transparent)]
    Run(#[from] exec::Error),
}
