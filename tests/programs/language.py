"""Programs on sequences of tokens."""

import math
import random


def gpt(run):
    """nanoGPT: accumulation, clipping, a schedule, then generation with a cache that grows."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional
    d, heads, vocab, block = 16, 2, 11, 12

    class Attention(nn.Module):
        def __init__(self):
            super().__init__()
            self.qkv = nn.Linear(d, 3 * d, bias=False)
            self.out = nn.Linear(d, d)

        def forward(self, x, cache=None):
            B, T, C = x.size()
            q, k, v = self.qkv(x).split(d, dim=2)
            q, k, v = (t.view(B, T, heads, C // heads).transpose(1, 2) for t in (q, k, v))
            if cache is not None:
                if "k" in cache:
                    k = m.cat([cache["k"], k], dim=2)
                    v = m.cat([cache["v"], v], dim=2)
                cache["k"], cache["v"] = k, v
            y = F.scaled_dot_product_attention(q, k, v, is_causal=T > 1)
            return self.out(y.transpose(1, 2).contiguous().view(B, T, C))

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.ln_1, self.ln_2 = nn.LayerNorm(d), nn.LayerNorm(d)
            self.attn = Attention()
            self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

        def forward(self, x, cache=None):
            x = x + self.attn(self.ln_1(x), cache)
            return x + self.mlp(self.ln_2(x))

    class GPT(nn.Module):
        def __init__(self):
            super().__init__()
            self.wte, self.wpe = nn.Embedding(vocab, d), nn.Embedding(block, d)
            self.h = nn.ModuleList([Block() for _ in range(2)])
            self.ln_f = nn.LayerNorm(d)
            self.head = nn.Linear(d, vocab, bias=False)
            self.wte.weight = self.head.weight

        def forward(self, idx, targets=None, caches=None):
            past = caches[0]["k"].size(2) if caches and "k" in caches[0] else 0
            pos = m.arange(past, past + idx.size(1), dtype=m.long, device=idx.device)
            x = self.wte(idx) + self.wpe(pos)
            for i, block in enumerate(self.h):
                x = block(x, None if caches is None else caches[i])
            x = self.ln_f(x)
            if targets is None:
                return self.head(x[:, [-1], :]), None
            logits = self.head(x)
            loss = F.cross_entropy(
                logits.view(-1, logits.size(-1)), targets.reshape(-1), ignore_index=-1
            )
            return logits, loss

    model = run.fill(GPT())
    decay = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = m.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95))

    def rate(it):
        if it < 2:
            return 1e-3 * (it + 1) / 3
        return 1e-4 + 0.5 * (1 + math.cos(math.pi * it / 6)) * 9e-4

    def micro(x, y):
        logits, loss = model(x, y)
        (loss / 2).backward()
        return loss.detach()

    def update():
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return norm

    micro, update = run.compile(micro), run.compile(update)
    for it in range(6):
        for group in optimizer.param_groups:
            group["lr"] = rate(it)
        for _ in range(2):
            tokens = run.ints(vocab, 3, 9)
            run.note(micro(tokens[:, :-1], tokens[:, 1:]))
        run.note(update())
    run.note(model)

    @m.no_grad()
    def generate(idx, n, top_k=4):
        caches = [{}, {}]
        new = idx
        for i in range(n):
            logits, _ = model(new, caches=caches)
            logits = logits[:, -1, :] / 0.8
            best, _ = m.topk(logits, min(top_k, logits.size(-1)))
            logits[logits < best[:, [-1]]] = -float("inf")
            probs = F.softmax(logits, dim=-1)
            new = (probs.cumsum(-1) > uniform[i]).int().argmax(-1, keepdim=True)
            idx = m.cat((idx, new), dim=1)
        return idx

    model.eval()
    uniform = [abs(run.floats(1).item()) % 0.9 for _ in range(12)]
    generate = run.compile(generate)
    for n, start in ((3, 4), (5, 4), (9, 2), (5, 1)):
        run.note(generate(run.ints(vocab, 2, start), n))


def seq2seq(run):
    """Packed sequences of other lengths each time; teacher forcing by Python's random numbers."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional
    rnn = nn.utils.rnn
    vocab, d = 9, 8

    class Encoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(vocab, d, padding_idx=0)
            self.lstm = nn.LSTM(d, d, bidirectional=True, batch_first=True)
            self.fc = nn.Linear(2 * d, d)

        def forward(self, source, lengths):
            packed = rnn.pack_padded_sequence(
                self.embedding(source), lengths, batch_first=True, enforce_sorted=False
            )
            outputs, (h, c) = self.lstm(packed)
            outputs, sizes = rnn.pad_packed_sequence(outputs, batch_first=True)
            h = m.tanh(self.fc(m.cat((h[-2], h[-1]), dim=1)))
            return outputs, sizes, h.unsqueeze(0)

    class Decoder(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(vocab, d)
            self.attention = nn.Linear(d, 2 * d)
            self.gru = nn.GRU(3 * d, d, batch_first=True)
            self.out = nn.Linear(d, vocab)

        def forward(self, token, hidden, memory, mask):
            scores = m.bmm(memory, self.attention(hidden[-1]).unsqueeze(2)).squeeze(2)
            weights = F.softmax(scores.masked_fill(~mask, -1e9), dim=1)
            context = m.bmm(weights.unsqueeze(1), memory)
            out, hidden = self.gru(m.cat((self.embedding(token), context), dim=2), hidden)
            return self.out(out.squeeze(1)), hidden

    encoder, decoder = run.fill(Encoder()), run.fill(Decoder())
    parameters = [*encoder.parameters(), *decoder.parameters()]
    optimizer = m.optim.Adam(parameters, lr=0.01)
    criterion = nn.CrossEntropyLoss(ignore_index=0)

    def step(source, lengths, target, ratio):
        optimizer.zero_grad()
        memory, sizes, hidden = encoder(source, lengths)
        mask = m.arange(memory.size(1))[None, :] < sizes[:, None]
        token = target[:, :1]
        outputs = []
        for t in range(1, target.size(1)):
            logits, hidden = decoder(token, hidden, memory, mask)
            outputs.append(logits)
            teacher = random.random() < ratio
            token = target[:, t : t + 1] if teacher else logits.argmax(1, keepdim=True)
        loss = criterion(m.stack(outputs, dim=1).flatten(0, 1), target[:, 1:].reshape(-1))
        loss.backward()
        nn.utils.clip_grad_value_(parameters, 0.5)
        optimizer.step()
        return loss.item()

    step = run.compile(step)
    for i, longest in enumerate((5, 6, 4, 6, 5)):
        batch = 3 if i < 4 else 2
        lengths = m.tensor([longest, 2, 3][:batch])
        source = run.ints(vocab - 1, batch, longest) + 1
        source = source.masked_fill(m.arange(longest)[None] >= lengths[:, None], 0)
        run.note(step(source, lengths, run.ints(vocab, batch, 5), 0.5))
    run.note(encoder, decoder, encoder.embedding.weight.grad[0])


def bert(run):
    """Masks of padding, batches of other lengths, masked positions picked by a mask, dropout off."""
    m, nn = run.m, run.m.nn
    d, vocab = 16, 13

    class Bert(nn.Module):
        def __init__(self):
            super().__init__()
            self.token = nn.Embedding(vocab, d, padding_idx=0)
            self.segment = nn.Embedding(2, d)
            self.register_buffer("positions", m.arange(32).unsqueeze(0), persistent=False)
            self.place = nn.Embedding(32, d)
            self.norm = nn.LayerNorm(d, eps=1e-12)
            layer = nn.TransformerEncoderLayer(
                d, 2, 32, dropout=0.0, activation="gelu", batch_first=True, norm_first=False
            )
            self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
            self.pool = nn.Linear(d, d)
            self.bias = nn.Parameter(m.zeros(vocab))
            self.pair = nn.Linear(d, 2)

        def forward(self, ids, segments):
            places = self.place(self.positions[:, : ids.shape[1]])
            x = self.norm(self.token(ids) + self.segment(segments) + places)
            x = self.encoder(x, src_key_padding_mask=ids == 0)
            return x @ self.token.weight.T + self.bias, self.pair(self.pool(x[:, 0]).tanh())

    model = run.fill(Bert())
    optimizer = m.optim.AdamW(model.parameters(), lr=3e-3, eps=1e-3)
    warm = m.optim.lr_scheduler.LambdaLR(optimizer, lambda i: min(1.0, (i + 1) / 4))

    @run.compile
    def step(ids, segments, chosen, label):
        labels = ids.clone()
        labels[~chosen] = -100
        inputs = ids.masked_fill(chosen, vocab - 1)
        words, pair = model(inputs, segments)
        loss = nn.functional.cross_entropy(words.transpose(1, 2), labels)
        loss = loss + nn.functional.cross_entropy(pair, label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warm.step()
        right = (words.argmax(-1)[chosen] == ids[chosen]).sum()
        return loss.detach(), right

    for length, batch in ((7, 3), (9, 3), (5, 3), (9, 2), (8, 3), (11, 3)):
        ids = run.ints(vocab - 3, batch, length) + 1
        for row in range(1, batch):
            ids[row, length - row :] = 0
        chosen = (run.floats(batch, length) > 0.5) & (ids != 0)
        chosen[0, 1] = True
        segments = (m.arange(length) > length // 2).long().expand(batch, -1)
        run.note(*step(ids, segments, chosen, run.ints(2, batch)), warm.get_last_lr())
    run.note(model)

    @run.compile
    @m.inference_mode()
    def embed(ids):
        return model(ids, m.zeros_like(ids))[1].softmax(-1)

    model.eval()
    for length in (4, 6, 8, 10):
        run.note(embed(run.ints(vocab - 1, 2, length) + 1))


def lora(run):
    """Weights frozen, adapters trained, merged in place, unmerged, the base unfrozen later."""
    m, nn = run.m, run.m.nn

    class LoRA(nn.Module):
        def __init__(self, base, rank=2):
            super().__init__()
            self.base, self.merged = base, False
            self.A = nn.Parameter(m.zeros(rank, base.in_features))
            self.B = nn.Parameter(m.zeros(base.out_features, rank))

        def forward(self, x):
            y = self.base(x)
            return y if self.merged else y + x @ self.A.t() @ self.B.t() * 0.5

        @m.no_grad()
        def merge(self):
            self.base.weight += self.B @ self.A * 0.5
            self.merged = True

        @m.no_grad()
        def unmerge(self):
            self.base.weight.data -= self.B @ self.A * 0.5
            self.merged = False

    model = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3))
    for i in (0, 2):
        model[i] = LoRA(model[i])
    run.fill(model)
    for name, p in model.named_parameters():
        p.requires_grad_(name.endswith((".A", ".B")))
    optimizer = m.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=0.05)
    x, y = run.floats(6, 5), run.floats(6, 3)

    @run.compile
    def step(x, y):
        loss = (model(x) - y).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    forward = run.compile(model)
    for _ in range(4):
        run.note(step(x, y))
    run.note(forward(x), [p.grad is None for p in model.parameters()])
    before = forward(x)
    for layer in (model[0], model[2]):
        layer.merge()
    run.note(forward(x), m.allclose(forward(x), before, atol=1e-5))
    for layer in (model[0], model[2]):
        layer.unmerge()
    run.note(forward(x))
    for p in model[0].base.parameters():
        p.requires_grad = True
    optimizer.add_param_group({"params": model[0].base.parameters(), "lr": 0.01})
    for _ in range(4):
        run.note(step(x, y))
    model[0].A.requires_grad_(False)
    for _ in range(3):
        run.note(step(x, y))
    run.note(model, [p.grad is None for p in model.parameters()])
