"""The rows of `cargo run --release -p kernels --example bench_kernels`, for PyTorch on one CPU thread.

Run with a Python that has torch (2.x): `python bench/kernels/torch_kernels.py`. Prints `name  GFLOP/s` (best of several runs).
"""
import time
import torch
import torch.nn.functional as F

torch.set_num_threads(1)


def best(run, seconds=1.0):
    run()
    times, end = [], time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 3:
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return min(times)


def row(name, flops, seconds):
    print(f"{name:<44}{flops / seconds / 1e9:>10.1f} GFLOP/s{seconds * 1e3:>10.2f} ms", flush=True)


SHAPES = [(4096, 576, 576), (4096, 192, 576), (4096, 1536, 576), (4096, 576, 1536), (2048, 768, 768), (2048, 288, 288),
          (2048, 768, 288), (2048, 288, 768), (2048, 4096, 288), (512, 4096, 4096)]


@torch.no_grad()
def products():
    for dtype, tag in ((torch.float32, "f32"), (torch.bfloat16, "bf16")):
        for m, n, k in SHAPES:
            x, w = torch.randn(m, k, dtype=dtype), torch.randn(n, k, dtype=dtype)
            row(f"{tag} linear {m}x{n}x{k}", 2 * m * n * k, best(lambda: F.linear(x, w)))
    for m, n, k in SHAPES[:1] + SHAPES[4:7]:
        x, w, dy = torch.randn(m, k), torch.randn(n, k), torch.randn(m, n)
        row(f"f32 grad input {m}x{n}x{k}", 2 * m * n * k, best(lambda: dy @ w))
        row(f"f32 grad weight {m}x{n}x{k}", 2 * m * n * k, best(lambda: dy.t() @ x))
    for m in (1, 4, 8):
        x, w = torch.randn(m, 4096, dtype=torch.bfloat16), torch.randn(4096, 4096, dtype=torch.bfloat16)
        row(f"bf16 linear {m}x4096x4096", 2 * m * 4096 * 4096, best(lambda: F.linear(x, w)))
    x, w = torch.randn(1, 4096), torch.randn(4096, 4096)
    row("f32 linear 1x4096x4096", 2 * 4096 * 4096, best(lambda: F.linear(x, w)))


def attention():
    for b, t, hq, hkv, d in ((8, 512, 9, 3, 64), (8, 256, 6, 6, 48), (1, 2048, 9, 3, 64)):
        q = torch.randn(b, t, hq, d).requires_grad_()
        k, v = (torch.randn(b, t, hkv, d).requires_grad_() for _ in range(2))
        flops = 2 * b * hq * t * t * d  # half of two products: the causal triangle

        def forward():
            return F.scaled_dot_product_attention(
                q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True, enable_gqa=hq != hkv)

        name = f"{b}x{t} heads {hq}/{hkv}x{d}"
        with torch.no_grad():
            row(f"f32 attention {name}", flops, best(forward))
        out = forward()
        grad = torch.randn_like(out)
        row(f"f32 attention grad {name}", flops * 5 // 2,
            best(lambda: torch.autograd.grad(out, (q, k, v), grad, retain_graph=True)))


def elementwise():
    gate, up = torch.randn(4096, 1536), torch.randn(4096, 1536)
    row("f32 swiglu 4096x1536 (GB/s)", 12 * gate.numel(), best(lambda: F.silu(gate) * up))
    x, w = torch.randn(4096, 576), torch.randn(576)
    row("f32 rmsnorm 4096x576 (GB/s)", 8 * x.numel(), best(lambda: F.rms_norm(x, (576,), w)))
    logits, target = torch.randn(2048, 4096).requires_grad_(), torch.randint(0, 4096, (2048,))

    def loss():
        torch.autograd.grad(F.cross_entropy(logits, target), logits)

    row("f32 cross entropy + grad 2048x4096 (GB/s)", 8 * logits.numel(), best(loss))


print(f"torch {torch.__version__}, one thread")
products()
attention()
elementwise()
