//! Causal attention, over cached keys and values where there is a cache. The forward keeps the log-sum-exp of each query
//! for the backward.

use super::Rule;
use crate::backward::Backward;
use crate::forward::Forward;
use crate::served::cached;
use crate::{Data, Error, Scalar, Tensor};
use graph::ops::Attention;
use kernels::AttentionSaved;
use std::sync::Arc;

/// The kernel's description of this attention.
fn rule(op: &Attention, batch: usize, queries: usize, keys: usize) -> kernels::Attention {
    kernels::Attention {
        batch,
        queries,
        keys,
        query_heads: op.heads,
        kv_heads: op.kv_heads,
        head_dim: op.head_dim,
        scale: f64::from(op.scale),
        causal: true,
        window: op.window,
        softcap: op.softcap.map(f64::from),
    }
}

/// Sequences, and tokens of each.
fn sizes<R>(q: &Tensor<R>) -> (usize, usize) {
    let tokens = q.shape().iter().rev().nth(1).copied().unwrap_or(1);
    (q.rows().checked_div(tokens).unwrap_or(0), tokens)
}

/// Keys or values as the cache of a server has them.
fn in_cache<R: Scalar>(x: Arc<Tensor<R>>, scale: Option<f32>) -> Result<Arc<Tensor<R>>, Error> {
    let Some(scale) = scale else { return Ok(x) };
    Ok(Arc::new(Tensor::new(x.shape().to_vec(), cached(scale, x.data()))?))
}

impl<R: Scalar> Rule<R> for Attention {
    fn forward(&self, cx: &mut Forward<'_, R>) -> Result<Vec<Data<R>>, Error> {
        let q = cx.float(0)?;
        let scales = cx.weights.store().run.cache.get(&self.slot).copied();
        let k = in_cache(cx.float(1)?, scales.map(|scales| scales.key))?;
        let v = in_cache(cx.float(2)?, scales.map(|scales| scales.value))?;
        let (batch, tokens) = sizes(&q);
        let mut y = cx.pool.tensor(q.shape().to_vec());
        let Some(cache) = &mut cx.cache else {
            let rule = rule(self, batch, tokens, tokens);
            let mut lse = cx.pool.take(rule.lse_len());
            kernels::attention(&rule, q.data(), k.data(), v.data(), y.data_mut(), Some(&mut lse));
            cx.save(lse);
            return Ok(vec![y.into()]);
        };
        let keys = cache.len() + tokens;
        cache.append(self.slot, k.data(), v.data());
        let rule = rule(self, 1, tokens, keys);
        let span = tokens * q.width();
        for (sample, (q, y)) in q.data().chunks_exact(span).zip(y.data_mut().chunks_exact_mut(span)).enumerate() {
            let (k, v) = cache.read(self.slot, sample, keys);
            kernels::attention(&rule, q, k, v, y, None);
        }
        Ok(vec![y.into()])
    }

    fn backward(&self, cx: &mut Backward<'_, R>) -> Result<(), Error> {
        let (q, k, v, out) = (cx.input(0)?, cx.input(1)?, cx.input(2)?, cx.output(0)?);
        let (dy, lse) = (cx.grad(0)?, cx.saved()?);
        let (batch, tokens) = sizes(&q);
        let saved = AttentionSaved { q: q.data(), k: k.data(), v: v.data(), out: out.data(), lse: &lse };
        let mut grads = [&q, &k, &v].map(|x| cx.pool.tensor(x.shape().to_vec()));
        let [dq, dk, dv] = &mut grads;
        let rule = rule(self, batch, tokens, tokens);
        kernels::attention_grad(&rule, saved, dy.data(), dq.data_mut(), dk.data_mut(), dv.data_mut());
        grads.into_iter().enumerate().for_each(|(input, grad)| cx.add_grad(input, grad));
        cx.pool.give(lse);
        cx.recycle(dy);
        Ok(())
    }

    fn keeps_input(&self, _input: usize) -> bool {
        true
    }

    fn keeps_outputs(&self) -> bool {
        true
    }
}
