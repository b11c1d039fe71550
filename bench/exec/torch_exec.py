"""The rows of `cargo run --release -p exec --example bench_block`, in PyTorch and transformers, on the CPU.

Run with a Python that has torch and transformers: `python bench/exec/torch_exec.py WHAT [THREADS]`, WHAT as there.
Prints CPU and wall seconds of the best run, and peak memory (what importing torch takes stands beside it).
"""
import resource
import sys
import time

import torch
import torch.nn.functional as F

WHAT = sys.argv[1] if len(sys.argv) > 1 else "block"
torch.set_num_threads(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
torch.manual_seed(0)


def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def bench(name, tokens, runs, run):
    before = peak()
    run()
    best = [1e9, 1e9]
    for _ in range(runs):
        start = time.process_time(), time.perf_counter()
        run()
        best = [min(best[0], time.process_time() - start[0]), min(best[1], time.perf_counter() - start[1])]
    print(f"{name:<16} cpu {best[0]:>9.4f} s  wall {best[1]:>9.4f} s  {tokens / best[1]:>9.1f} tokens/s  "
          f"peak {peak():>7.1f} MiB (before: {before:.1f})", flush=True)


class Block(torch.nn.Module):
    def __init__(self, hidden, heads, kv_heads, head_dim, ffn):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = heads, kv_heads, head_dim
        linear = lambda i, o: torch.nn.Linear(i, o, bias=False)
        self.q, self.k = linear(hidden, heads * head_dim), linear(hidden, kv_heads * head_dim)
        self.v, self.o = linear(hidden, kv_heads * head_dim), linear(heads * head_dim, hidden)
        self.gate, self.up, self.down = linear(hidden, ffn), linear(hidden, ffn), linear(ffn, hidden)
        self.n1, self.n2 = torch.nn.RMSNorm(hidden, eps=1e-5), torch.nn.RMSNorm(hidden, eps=1e-5)

    def forward(self, x, cos, sin):
        b, t, _ = x.shape
        h = self.n1(x)
        q = self.q(h).view(b, t, self.heads, self.head_dim).transpose(1, 2)
        k = self.k(h).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)
        v = self.v(h).view(b, t, self.kv_heads, self.head_dim).transpose(1, 2)

        def turn(x):
            low, high = x.chunk(2, -1)
            return x * cos + torch.cat((-high, low), -1) * sin

        a = F.scaled_dot_product_attention(turn(q), turn(k), v, is_causal=True, enable_gqa=self.heads != self.kv_heads)
        x = x + self.o(a.transpose(1, 2).reshape(b, t, -1))
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


def rotation(tokens, head_dim):
    freq = 1e4 ** (-torch.arange(0, head_dim, 2) / head_dim)
    angle = torch.outer(torch.arange(tokens).float(), freq)
    angle = torch.cat((angle, angle), -1)
    return angle.cos(), angle.sin()


class Decoder(torch.nn.Module):
    def __init__(self, vocab, hidden, layers, *block):
        super().__init__()
        self.embed = torch.nn.Embedding(vocab, hidden)
        self.blocks = torch.nn.ModuleList(Block(hidden, *block) for _ in range(layers))
        self.norm = torch.nn.RMSNorm(hidden, eps=1e-5)

    def forward(self, ids, cos, sin):
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x, cos, sin)
        return F.linear(self.norm(x), self.embed.weight)


@torch.no_grad()
def block():
    model, x, (cos, sin) = Block(576, 9, 3, 64, 1536), torch.randn(8, 512, 576), rotation(512, 64)
    bench("block", 8 * 512, 10, lambda: model(x, cos, sin))


def step():
    model, (cos, sin) = Decoder(4096, 288, 6, 6, 6, 48, 768), rotation(256, 48)
    ids, targets = torch.randint(4096, (8, 256)), torch.randint(4096, (8, 256))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1)

    def run():
        optimizer.zero_grad()
        F.cross_entropy(model(ids, cos, sin).view(-1, 4096), targets.view(-1)).backward()
        optimizer.step()

    bench("step", 8 * 256, 8, run)


def llama(name, config, batch, dtype):
    from transformers import LlamaConfig, LlamaForCausalLM
    model = LlamaForCausalLM(LlamaConfig(tie_word_embeddings=True, **config)).to(dtype).eval()
    if name == "decode":
        ids = torch.ones(1, 1, dtype=torch.long)
        run = lambda: model.generate(ids, max_new_tokens=64, min_new_tokens=64, do_sample=False)
        with torch.no_grad():
            return bench(name, 64, 3, run)
    ids = torch.randint(config["vocab_size"], (batch, 512))

    def run():
        logits = model(ids).logits
        F.cross_entropy(logits.view(-1, config["vocab_size"]).float(), ids.view(-1))

    with torch.no_grad():
        bench(name, batch * 512, 3, run)


SMALL = dict(vocab_size=4096, hidden_size=256, intermediate_size=768, num_hidden_layers=8, num_attention_heads=4,
             num_key_value_heads=2, head_dim=64)
SMOL = dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
            num_key_value_heads=3, head_dim=64)

if WHAT == "step":
    step()
elif WHAT == "block":
    block()
else:
    dtype = torch.bfloat16 if WHAT.endswith("bf16") else torch.float32
    llama(WHAT, SMALL if WHAT.startswith("small") else SMOL, 16 if WHAT.startswith("small") else 4, dtype)
