//! Every kernel against a naive reference in f64, in f32 and f64, over odd sizes; every gradient against finite
//! differences in f64; every result the same at any number of threads.

mod common;

use common::{cast, check_grad, close, noise, same_at_any_thread_count};
use kernels::*;

fn product_case<R: Real>(m: usize, n: usize, k: usize, bound: f64) {
    let (a, b, c) = (noise(m * k, 1), noise(k * n, 2), noise(m * n, 3));
    for (turn_a, turn_b, write) in
        [(false, false, Write::Set), (false, true, Write::Add), (true, false, Write::Add), (true, true, Write::Set)]
    {
        let mut want = vec![0.0; m * n];
        for (i, want) in want.iter_mut().enumerate() {
            let (row, col) = (i / n, i % n);
            let at_a = |p| if turn_a { a[p * m + row] } else { a[row * k + p] };
            let at_b = |p| if turn_b { b[col * k + p] } else { b[p * n + col] };
            let sum: f64 = (0..k).map(|p| at_a(p) * at_b(p)).sum();
            *want = 0.5 * sum + if write == Write::Add { c[i] } else { 0.0 };
        }
        let (a, b, mut c) = (cast::<R>(&a), cast::<R>(&b), cast::<R>(&c));
        let a = if turn_a { MatRef::new(&a, k, m).t() } else { MatRef::new(&a, m, k) };
        let b = if turn_b { MatRef::new(&b, n, k).t() } else { MatRef::new(&b, k, n) };
        matmul(R::from_f64(0.5), a, b, MatMut::new(&mut c, m, n), write);
        close(&format!("product {m}x{n}x{k} {turn_a} {turn_b}"), &c, &want, bound);
    }
}

#[test]
fn products_equal_the_reference() {
    for (m, n, k) in [(1, 1, 1), (1, 70, 33), (3, 5, 0), (5, 31, 300), (14, 32, 16), (17, 33, 257), (270, 129, 65)] {
        product_case::<f32>(m, n, k, 1e-5);
        product_case::<f64>(m, n, k, 1e-13);
    }
}

#[test]
fn linear_layers_equal_their_products() {
    let (t, i, o) = (19, 23, 37);
    let (x, w, b, dy) = (noise(t * i, 1), noise(o * i, 2), noise(o, 3), noise(t * o, 4));
    let mut y = vec![0.0; t * o];
    linear(&x, &w, Some(&b), &mut y, i, o);
    let want: Vec<f64> =
        (0..t * o).map(|at| b[at % o] + (0..i).map(|p| x[at / o * i + p] * w[at % o * i + p]).sum::<f64>()).collect();
    close("linear", &y, &want, 1e-13);
    let run = |x: &[f64], w: &[f64], b: &[f64]| {
        let mut y = vec![0.0; t * o];
        linear(x, w, Some(b), &mut y, i, o);
        y
    };
    let (mut dx, mut dw, mut db) = (vec![0.0; t * i], vec![0.0; o * i], vec![0.0; o]);
    linear_grad_input(&dy, &w, &mut dx, i, o, Write::Set);
    linear_grad_weight(&dy, &x, &mut dw, i, o, Write::Add);
    linear_grad_bias(&dy, &mut db);
    check_grad("linear dx", &x, &dx, &dy, |x| run(x, &w, &b));
    check_grad("linear dw", &w, &dw, &dy, |w| run(&x, w, &b));
    check_grad("linear db", &b, &db, &dy, |b| run(&x, &w, b));
}

/// Attention as in the textbook, one query and head at a time.
fn naive_attention(rule: &Attention, q: &[f64], k: &[f64], v: &[f64]) -> Vec<f64> {
    let (d, group) = (rule.head_dim, rule.query_heads / rule.kv_heads);
    let mut out = vec![0.0; q.len()];
    for (at, out) in out.chunks_exact_mut(d).enumerate() {
        let (token, head) = (at / rule.query_heads, at % rule.query_heads);
        let (batch, position) = (token / rule.queries, rule.keys - rule.queries + token % rule.queries);
        let key = |j: usize| ((batch * rule.keys + j) * rule.kv_heads + head / group) * d;
        let seen = |j: usize| (!rule.causal || j <= position) && rule.window.is_none_or(|w| j + w > position);
        let score = |j: usize| {
            let s = rule.scale * (0..d).map(|e| q[at * d + e] * k[key(j) + e]).sum::<f64>();
            let s = rule.softcap.map_or(s, |cap| cap * (s / cap).tanh());
            if seen(j) { s.exp() } else { 0.0 }
        };
        let weights: Vec<f64> = (0..rule.keys).map(score).collect();
        let total: f64 = weights.iter().sum();
        for (e, out) in out.iter_mut().enumerate() {
            *out = weights.iter().enumerate().map(|(j, w)| w / total * v[key(j) + e]).sum();
        }
    }
    out
}

/// Shapes and rules of every kind: grouped heads, caches, windows, caps, lengths around the block sizes.
fn attention_rules() -> Vec<Attention> {
    let plain = Attention::causal(2, 7, 4, 8);
    vec![
        plain,
        Attention { kv_heads: 2, keys: 12, ..plain },
        Attention { causal: false, keys: 9, ..plain },
        Attention { window: Some(3), softcap: Some(0.7), kv_heads: 1, ..plain },
        Attention { queries: 1, keys: 131, query_heads: 6, kv_heads: 2, head_dim: 20, ..plain },
        Attention { window: Some(50), kv_heads: 3, ..Attention::causal(1, 150, 9, 16) },
        Attention { batch: 1, queries: 1, keys: 1, query_heads: 2, kv_heads: 2, head_dim: 48, ..plain },
        Attention { window: Some(40), causal: false, ..Attention::causal(1, 230, 1, 8) },
    ]
}

fn run_attention<R: Real>(rule: &Attention, q: &[f64], k: &[f64], v: &[f64]) -> (Vec<R>, Vec<R>) {
    let (mut out, mut lse) = (vec![R::ZERO; q.len()], vec![R::ZERO; rule.lse_len()]);
    attention(rule, &cast::<R>(q), &cast::<R>(k), &cast::<R>(v), &mut out, Some(&mut lse));
    (out, lse)
}

#[test]
fn attention_equals_the_reference() {
    for rule in attention_rules() {
        let (q, k, v) = (noise(rule.query_len(), 1), noise(rule.key_len(), 2), noise(rule.key_len(), 3));
        let want = naive_attention(&rule, &q, &k, &v);
        close(&format!("{rule:?}"), &run_attention::<f64>(&rule, &q, &k, &v).0, &want, 1e-13);
        close(&format!("{rule:?}"), &run_attention::<f32>(&rule, &q, &k, &v).0, &want, 2e-6);
    }
}

#[test]
fn attention_gradients_equal_finite_differences() {
    for rule in attention_rules() {
        let (q, k, v) = (noise(rule.query_len(), 1), noise(rule.key_len(), 2), noise(rule.key_len(), 3));
        let dout = noise(q.len(), 4);
        let (out, lse) = run_attention::<f64>(&rule, &q, &k, &v);
        let (mut dq, mut dk, mut dv) = (vec![9.0; q.len()], vec![9.0; k.len()], vec![9.0; v.len()]);
        let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
        attention_grad(&rule, saved, &dout, &mut dq, &mut dk, &mut dv);
        check_grad(&format!("dq of {rule:?}"), &q, &dq, &dout, |q| run_attention(&rule, q, &k, &v).0);
        check_grad(&format!("dk of {rule:?}"), &k, &dk, &dout, |k| run_attention(&rule, &q, k, &v).0);
        check_grad(&format!("dv of {rule:?}"), &v, &dv, &dout, |v| run_attention(&rule, &q, &k, v).0);

        let (out, lse) = run_attention::<f32>(&rule, &q, &k, &v);
        let [q, k, v, dout] = [&q, &k, &v, &dout].map(|x| cast::<f32>(x));
        let (mut fq, mut fk, mut fv) = (vec![9.0; q.len()], vec![9.0; k.len()], vec![9.0; v.len()]);
        let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
        attention_grad(&rule, saved, &dout, &mut fq, &mut fk, &mut fv);
        for (fast, exact) in [(fq, dq), (fk, dk), (fv, dv)] {
            close(&format!("f32 gradient of {rule:?}"), &fast, &exact, 1e-5);
        }
    }
}

#[test]
fn attention_survives_extreme_scores() {
    let rule = Attention { scale: 1.0, ..Attention::causal(1, 3, 1, 8) };
    let q: Vec<f64> = noise(24, 1).iter().map(|x| x * 300.0).collect();
    let v = noise(24, 2);
    close("huge scores", &run_attention::<f32>(&rule, &q, &q, &v).0, &naive_big(&q, &v), 1e-5);
}

/// With scores this far apart, attention picks the largest.
fn naive_big(q: &[f64], v: &[f64]) -> Vec<f64> {
    let dot = |i: usize, j: usize| (0..8).map(|e| q[i * 8 + e] * q[j * 8 + e]).sum::<f64>();
    let best = |i: usize| (0..=i).max_by(|&a, &b| dot(i, a).total_cmp(&dot(i, b))).unwrap_or(0);
    (0..3).flat_map(|i| v[best(i) * 8..][..8].to_vec()).collect()
}

#[test]
fn rms_norm_and_its_gradient() {
    let (rows, width) = (131, 37);
    let (x, w, dy) = (noise(rows * width, 1), noise(width, 2), noise(rows * width, 3));
    fn run<R: Real>(x: &[f64], w: &[f64], rows: usize) -> (Vec<R>, Vec<R>) {
        let (mut y, mut inv) = (vec![R::ZERO; x.len()], vec![R::ZERO; rows]);
        rms_norm(&cast::<R>(x), &cast::<R>(w), R::ONE, R::from_f64(1e-5), &mut y, &mut inv);
        (y, inv)
    }
    let want: Vec<f64> = (0..x.len())
        .map(|i| {
            let row = &x[i / width * width..][..width];
            let mean = row.iter().map(|x| x * x).sum::<f64>() / width as f64;
            x[i] / (mean + 1e-5).sqrt() * (1.0 + w[i % width])
        })
        .collect();
    let (y, inv) = run::<f64>(&x, &w, rows);
    close("RMSNorm", &y, &want, 1e-13);
    close("RMSNorm f32", &run::<f32>(&x, &w, rows).0, &want, 1e-6);
    let (mut dx, mut dw) = (vec![1.0; x.len()], vec![0.0; width]);
    rms_norm_grad(&x, &w, 1.0, &inv, &dy, &mut dx, Some(&mut dw), Write::Add);
    dx.iter_mut().for_each(|dx| *dx -= 1.0);
    check_grad("RMSNorm dx", &x, &dx, &dy, |x| run(x, &w, rows).0);
    check_grad("RMSNorm dw", &w, &dw, &dy, |w| run(&x, w, rows).0);
}

#[test]
fn layer_norm_and_its_gradient() {
    let (rows, width) = (70, 21);
    let (x, w, b, dy) = (noise(rows * width, 1), noise(width, 2), noise(width, 3), noise(rows * width, 4));
    let run = |x: &[f64], w: &[f64], b: &[f64]| {
        let (mut y, mut stats) = (vec![0.0; x.len()], vec![[0.0; 2]; rows]);
        layer_norm(x, w, Some(b), 1e-5, &mut y, &mut stats);
        (y, stats)
    };
    let want: Vec<f64> = (0..x.len())
        .map(|i| {
            let row = &x[i / width * width..][..width];
            let mean = row.iter().sum::<f64>() / width as f64;
            let var = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            (x[i] - mean) / (var + 1e-5).sqrt() * w[i % width] + b[i % width]
        })
        .collect();
    let (y, stats) = run(&x, &w, &b);
    close("LayerNorm", &y, &want, 1e-13);
    let (mut dx, mut dw, mut db) = (vec![9.0; x.len()], vec![0.0; width], vec![0.0; width]);
    layer_norm_grad(&x, &w, &stats, &dy, &mut dx, Some(&mut dw), Some(&mut db), Write::Set);
    check_grad("LayerNorm dx", &x, &dx, &dy, |x| run(x, &w, &b).0);
    check_grad("LayerNorm dw", &w, &dw, &dy, |w| run(&x, w, &b).0);
    check_grad("LayerNorm db", &b, &db, &dy, |b| run(&x, &w, b).0);
}

#[test]
fn rope_turns_pairs_and_turns_back() {
    let shape = RopeShape { heads: 3, head_dim: 10, rotary_dim: 6 };
    let (cos, sin) = rope_tables::<f64>(5..9, &[1.0, 0.1, 0.01], 1.25);
    let x = noise(8 * 30, 1);
    let mut y = x.clone();
    rope(&mut y, shape, &cos, &sin, Rotation::Forward);
    let want: Vec<f64> = (0..x.len())
        .map(|i| {
            let (token, e) = (i / 30, i % 10);
            let angle = |e: usize| (5 + token % 4) as f64 * [1.0, 0.1, 0.01][e];
            match e {
                0..3 => 1.25 * (x[i] * angle(e).cos() - x[i + 3] * angle(e).sin()),
                3..6 => 1.25 * (x[i] * angle(e - 3).cos() + x[i - 3] * angle(e - 3).sin()),
                _ => x[i],
            }
        })
        .collect();
    close("RoPE", &y, &want, 1e-13);
    let dy = noise(x.len(), 2);
    let mut dx = dy.clone();
    rope(&mut dx, shape, &cos, &sin, Rotation::Backward);
    check_grad("RoPE", &x, &dx, &dy, |x| {
        let mut y = x.to_vec();
        rope(&mut y, shape, &cos, &sin, Rotation::Forward);
        y
    });
}

#[test]
fn activations_and_their_gradients() {
    let x: Vec<f64> = noise(301, 1).iter().map(|x| 6.0 * x).collect();
    let (up, dy) = (noise(301, 2), noise(301, 3));
    let tanh_form =
        |x: f64| x / 2.0 * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh());
    let cases: [(Activation, &dyn Fn(f64) -> f64); 4] = [
        (Activation::Silu, &|x| x / (1.0 + (-x).exp())),
        (Activation::Gelu, &|x| x / 2.0 * (1.0 + Real::erf(x / 2f64.sqrt()))),
        (Activation::GeluTanh, &tanh_form),
        (Activation::Relu, &|x| x.max(0.0)),
    ];
    for (kind, exact) in cases {
        let want: Vec<f64> = x.iter().map(|&x| exact(x)).collect();
        let mut y = vec![0f32; x.len()];
        activate(kind, &cast::<f32>(&x), &mut y);
        close(&format!("{kind:?}"), &y, &want, 1e-6);
        let (mut dx, mut dgate, mut dup) = (vec![9.0; 301], vec![9.0; 301], vec![9.0; 301]);
        activate_grad(kind, &x, &dy, &mut dx, Write::Set);
        check_grad(&format!("{kind:?}"), &x, &dx, &dy, |x| {
            let mut y = vec![0.0; x.len()];
            activate(kind, x, &mut y);
            y
        });
        gated_grad(kind, &x, &up, &dy, &mut dgate, &mut dup);
        let run = |x: &[f64], up: &[f64]| {
            let mut y = vec![0.0; x.len()];
            gated(kind, x, up, &mut y);
            y
        };
        check_grad(&format!("{kind:?} gate"), &x, &dgate, &dy, |x| run(x, &up));
        check_grad(&format!("{kind:?} up"), &up, &dup, &dy, |up| run(&x, up));
    }
}

#[test]
fn softmax_and_its_gradient() {
    let (rows, cols) = (3, 301);
    let (x, dy) = (noise(rows * cols, 1), noise(rows * cols, 2));
    let run = |x: &[f64]| {
        let mut y = x.to_vec();
        softmax_rows(&mut y, cols);
        y
    };
    let y = run(&x);
    for (y, x) in y.chunks_exact(cols).zip(x.chunks_exact(cols)) {
        let total: f64 = x.iter().map(|x| x.exp()).sum();
        close("softmax", y, &x.iter().map(|x| x.exp() / total).collect::<Vec<_>>(), 1e-14);
    }
    let mut dx = vec![9.0; x.len()];
    softmax_rows_grad(&y, &dy, &mut dx, cols);
    check_grad("softmax", &x, &dx, &dy, run);
    let mut log = cast::<f32>(&x);
    log_softmax_rows(&mut log, cols);
    close("log-softmax", &log, &y.iter().map(|y| y.ln()).collect::<Vec<_>>(), 1e-6);
}

#[test]
fn losses_and_their_gradients() {
    let (rows, vocab) = (4, 523);
    let (p, q) = (noise(rows * vocab, 1), noise(rows * vocab, 2));
    let targets = [7, IGNORE, 522, 0];
    let nll = |x: &[f64]| {
        let mut losses = vec![0.0; rows];
        cross_entropy(x, &targets, vocab, &mut losses);
        losses
    };
    let total = |x: &[f64], row: usize| x[row * vocab..][..vocab].iter().map(|x| x.exp()).sum::<f64>().ln();
    let want: Vec<f64> = (0..rows)
        .map(|r| if targets[r] == IGNORE { 0.0 } else { total(&q, r) - q[r * vocab + targets[r] as usize] })
        .collect();
    close("cross-entropy", &nll(&q), &want, 1e-13);
    let (mut grad, mut losses) = (q.clone(), vec![9.0; rows]);
    cross_entropy_grad(&mut grad, &targets, vocab, 0.5, &mut losses);
    close("cross-entropy beside its gradient", &losses, &want, 1e-13);
    check_grad("cross-entropy", &q, &grad, &[0.5; 4], nll);
    let mut fast = cast::<f32>(&q);
    cross_entropy_grad(&mut fast, &targets, vocab, 0.5, &mut losses);
    close("cross-entropy f32", &losses, &want, 1e-6);
    close("cross-entropy gradient f32", &fast, &grad, 1e-6);

    let kl = |q: &[f64]| {
        let mut losses = vec![0.0; rows];
        kl_divergence(&p, q, vocab, &mut losses);
        losses
    };
    let want: Vec<f64> = (0..rows)
        .map(|r| {
            let (np, nq) = (total(&p, r), total(&q, r));
            let pairs = p[r * vocab..][..vocab].iter().zip(&q[r * vocab..][..vocab]);
            pairs.map(|(p, q)| (p - np).exp() * (p - np - q + nq)).sum()
        })
        .collect();
    close("KL", &kl(&q), &want, 1e-13);
    let mut grad = q.clone();
    kl_divergence_grad(&p, &mut grad, vocab, 0.5, &mut losses);
    close("KL beside its gradient", &losses, &want, 1e-13);
    check_grad("KL", &q, &grad, &[0.5; 4], kl);
    let mut itself = vec![0.0; rows];
    kl_divergence(&cast::<f32>(&p), &cast::<f32>(&p), vocab, &mut itself);
    assert!(itself.iter().all(|&x| x == 0.0), "KL of a row with itself");
}

#[test]
fn adamw_follows_the_formula() {
    let settings = AdamW { lr: 0.01, beta1: 0.9, beta2: 0.95, eps: 1e-8, weight_decay: 0.1, grad_scale: 0.5 };
    let (mut w, grad) = (noise(50, 1), noise(50, 2));
    let (mut m, mut v) = (noise(50, 3), noise(50, 4).iter().map(|x| x * x).collect::<Vec<_>>());
    let want: Vec<f64> = (0..50)
        .map(|i| {
            let g = 0.5 * grad[i];
            let (m, v) = (0.9 * m[i] + 0.1 * g, 0.95 * v[i] + 0.05 * g * g);
            let (m, v) = (m / (1.0 - 0.9f64.powi(3)), v / (1.0 - 0.95f64.powi(3)));
            w[i] - 0.01 * 0.1 * w[i] - 0.01 * m / (v.sqrt() + 1e-8)
        })
        .collect();
    let mut fast = (cast::<f32>(&w), cast::<f32>(&m), cast::<f32>(&v));
    adamw(&settings, 3, &mut w, &grad, &mut m, &mut v);
    close("AdamW", &w, &want, 1e-13);
    adamw(&settings, 3, &mut fast.0, &cast(&grad), &mut fast.1, &mut fast.2);
    close("AdamW f32", &fast.0, &want, 1e-6);
    close("AdamW f32 second moment", &fast.2, &v, 1e-6);
}

#[test]
fn elementwise_kernels() {
    let (a, b) = (noise(77, 1), noise(77, 2));
    let mut y = vec![1.0; 77];
    add(&a, &b, &mut y);
    add_assign(&mut y, &a);
    mul(&a, &b, &mut y, Write::Add);
    scale(3.0, &b, &mut y, Write::Add);
    let want: Vec<f64> = a.iter().zip(&b).map(|(a, b)| 2.0 * a + b + a * b + 3.0 * b).collect();
    close("elementwise", &y, &want, 1e-14);
    assert!((sum_squares(&a) - a.iter().map(|a| a * a).sum::<f64>()).abs() < 1e-12);
}

#[test]
fn results_do_not_depend_on_threads() {
    let rule = Attention { kv_heads: 2, ..Attention::causal(2, 300, 4, 24) };
    let [q, k, v] =
        [(rule.query_len(), 1), (rule.key_len(), 2), (rule.key_len(), 3)].map(|(n, s)| cast::<f32>(&noise(n, s)));
    same_at_any_thread_count("attention", || {
        let (mut out, mut lse) = (vec![0.0; q.len()], vec![0.0; rule.lse_len()]);
        attention(&rule, &q, &k, &v, &mut out, Some(&mut lse));
        let (mut dq, mut dk, mut dv) = (vec![0.0; q.len()], vec![0.0; k.len()], vec![0.0; v.len()]);
        let saved = AttentionSaved { q: &q, k: &k, v: &v, out: &out, lse: &lse };
        attention_grad(&rule, saved, &q, &mut dq, &mut dk, &mut dv);
        [out, lse, dq, dk, dv].concat()
    });
    let (x, w) = (cast::<f32>(&noise(600 * 300, 1)), cast::<f32>(&noise(700 * 300, 2)));
    let half: Vec<half::bf16> = w.iter().map(|&w| half::bf16::from_f32(w)).collect();
    same_at_any_thread_count("products", || {
        let (mut y, mut z, mut dw) = (vec![0.0; 600 * 700], vec![0.0; 600 * 700], vec![0.0; 700 * 300]);
        linear(&x, &w, None, &mut y, 300, 700);
        linear_bf16(&x, &PackedBf16::pack(&half, 700, 300), None, &mut z);
        linear_grad_weight(&y, &x, &mut dw, 300, 700, Write::Set);
        [y, z, dw].concat()
    });
    same_at_any_thread_count("norm gradient", || {
        let (mut y, mut inv, mut dx, mut dw) = (vec![0.0; x.len()], vec![0.0; 600], x.clone(), vec![0.0; 300]);
        rms_norm(&x, &w[..300], 0.0, 1e-5, &mut y, &mut inv);
        rms_norm_grad(&x, &w[..300], 0.0, &inv, &y, &mut dx, Some(&mut dw), Write::Set);
        [y, dx, dw].concat()
    });
}
