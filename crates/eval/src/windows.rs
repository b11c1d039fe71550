//! Text cut into windows, and which of its tokens each window scores.
//!
//! [`Protocol::Llama`] as `tools/perplexity` of llama.cpp (2026-09); [`Protocol::Strided`] as the page on perplexity of
//! the `transformers` documentation, but with every scored token counted once (that page weighs a window by one token
//! less than it scores).

use crate::EvalError;
use plan::Protocol;
use std::ops::Range;

/// A window: what the model reads, and which rows of its logits are scored against which tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Ids that the model reads.
    pub ids: Vec<u32>,
    /// Rows of logits that are scored; row `i` against token `i + 1` of the window.
    pub rows: Range<usize>,
    /// What comes after each of `rows`.
    pub targets: Vec<u32>,
}

/// Cuts the ids of a text. `bos` is the id that the model puts before a text, if it does; `ids` come without it.
pub fn windows(ids: &[u32], bos: Option<u32>, protocol: Protocol) -> Result<Vec<Window>, EvalError> {
    let text: Vec<u32> = bos.into_iter().chain(ids.iter().copied()).collect();
    let cut = match protocol {
        Protocol::Llama { context } => llama(&text, bos, context),
        Protocol::Strided { context, stride } if (1..=context).contains(&stride) => strided(&text, context, stride),
        Protocol::Strided { context, stride } => return Err(EvalError::Stride { context, stride }),
    };
    if cut.is_empty() {
        return Err(EvalError::TooShort { tokens: text.len(), context: protocol.context() });
    }
    Ok(cut)
}

fn llama(text: &[u32], bos: Option<u32>, context: usize) -> Vec<Window> {
    let rows = context / 2..context.saturating_sub(1);
    if rows.is_empty() {
        return Vec::new();
    }
    let window = |chunk: &[u32]| {
        let mut ids = chunk.to_vec();
        ids[0] = bos.unwrap_or(ids[0]);
        Window { ids, rows: rows.clone(), targets: chunk[rows.start + 1..].to_vec() }
    };
    text.chunks_exact(context).map(window).collect()
}

fn strided(text: &[u32], context: usize, stride: usize) -> Vec<Window> {
    let mut cut = Vec::new();
    let (mut begin, mut scored) = (0, 0);
    while scored < text.len() {
        let end = text.len().min(begin + context);
        // The first token of a window has nothing before it.
        let first = scored.max(begin + 1);
        if first < end {
            let rows = first - 1 - begin..end - 1 - begin;
            cut.push(Window { ids: text[begin..end].to_vec(), rows, targets: text[first..end].to_vec() });
        }
        scored = end;
        begin += stride;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(windows: &[Window]) -> Vec<u32> {
        windows.iter().flat_map(|w| w.targets.clone()).collect()
    }

    #[test]
    fn llama_scores_the_second_half_after_bos() {
        let ids: Vec<u32> = (10..29).collect();
        let cut = windows(&ids, Some(1), Protocol::Llama { context: 8 }).unwrap();
        assert_eq!(cut.len(), 2);
        assert_eq!(cut[0].ids, [1, 10, 11, 12, 13, 14, 15, 16]);
        assert_eq!(cut[1].ids, [1, 18, 19, 20, 21, 22, 23, 24]);
        assert_eq!((cut[1].rows.clone(), cut[1].targets.clone()), (4..7, vec![22, 23, 24]));
        assert_eq!(windows(&ids, None, Protocol::Llama { context: 8 }).unwrap()[1].ids[0], 18);
    }

    #[test]
    fn strided_windows_score_every_token_once() {
        let ids: Vec<u32> = (0..23).collect();
        let cut = windows(&ids, None, Protocol::Strided { context: 8, stride: 3 }).unwrap();
        assert_eq!(scored(&cut), (1..23).collect::<Vec<_>>());
        assert_eq!((cut[1].ids.clone(), cut[1].rows.clone()), ((3..11).collect(), 4..7));
        let apart = windows(&ids, None, Protocol::Strided { context: 8, stride: 8 }).unwrap();
        assert_eq!(scored(&apart), (1..23).filter(|t| t % 8 != 0).collect::<Vec<_>>());
    }

    #[test]
    fn every_row_predicts_the_token_after_it() {
        let ids: Vec<u32> = (0..40).collect();
        for protocol in [Protocol::Llama { context: 9 }, Protocol::Strided { context: 9, stride: 4 }] {
            for window in windows(&ids, None, protocol).unwrap() {
                let next: Vec<u32> = window.rows.clone().map(|row| window.ids[row] + 1).collect();
                assert_eq!(next, window.targets, "{protocol:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_cut_is_an_error() {
        assert!(matches!(windows(&[1, 2], None, Protocol::Llama { context: 8 }), Err(EvalError::TooShort { .. })));
        assert!(matches!(
            windows(&[1], None, Protocol::Strided { context: 8, stride: 4 }),
            Err(EvalError::TooShort { .. })
        ));
        assert!(matches!(
            windows(&[1, 2], None, Protocol::Strided { context: 8, stride: 9 }),
            Err(EvalError::Stride { .. })
        ));
        assert!(matches!(windows(&[1, 2, 3], None, Protocol::Llama { context: 0 }), Err(EvalError::TooShort { .. })));
    }
}
