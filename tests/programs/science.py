"""Programs with derivatives, routing, graphs of nodes, and Python of all kinds."""

import collections
import contextlib
import dataclasses


def neural_ode(run):
    """Runge-Kutta in a Python loop, step sizes that depend on errors, an adjoint by `Function`."""
    m, nn = run.m, run.m.nn
    net = run.fill(nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)))
    optimizer = m.optim.Adam(net.parameters(), lr=0.01)

    def rk4(f, y, h):
        k1 = f(y)
        k2 = f(y + h / 2 * k1)
        k3 = f(y + h / 2 * k2)
        k4 = f(y + h * k3)
        return y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)

    @run.compile
    def fixed(y, target, steps):
        path = [y]
        for _ in range(steps):
            path.append(rk4(net, path[-1], 1.0 / steps))
        loss = (m.stack(path)[-1] - target).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    @run.compile
    @m.no_grad()
    def adaptive(y, h=0.5):
        t, taken = 0.0, 0
        while t < 1.0:
            h = min(h, 1.0 - t)
            full, half = rk4(net, y, h), rk4(net, rk4(net, y, h / 2), h / 2)
            if m.linalg.vector_norm(full - half) > 1e-5:
                h = h / 2
                continue
            t, y, taken = t + h, half, taken + 1
        return y, taken

    for steps in (3, 3, 3, 4, 5, 6):
        run.note(fixed(run.floats(4, 2), run.floats(4, 2), steps))
    run.note(net, adaptive(run.floats(3, 2)), adaptive(run.floats(3, 2) * 2))


def physics(run):
    """A PINN: derivatives by the inputs inside of the loss, points that are drawn anew."""
    m, nn = run.m, run.m.nn
    net = run.fill(
        nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 1))
    )
    optimizer = m.optim.Adam(net.parameters(), lr=0.01)

    def grad(y, x):
        return m.autograd.grad(y, x, m.ones_like(y), create_graph=True)[0]

    @run.compile
    def step(x, t):
        x.requires_grad_()
        t.requires_grad_()
        u = net(m.cat([x, t], 1))
        u_t, u_x = grad(u, t), grad(u, x)
        u_xx = grad(u_x, x)
        residual = u_t + u * u_x - 0.01 / m.pi * u_xx
        start = net(m.cat([x, m.zeros_like(t)], 1)) + m.sin(m.pi * x)
        loss = residual.pow(2).mean() + start.pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss, u_xx.detach()

    for n in (6, 6, 6, 4, 5):
        run.note(step(run.floats(n, 1), run.floats(n, 1).abs()))
    func = __import__(f"{m.__name__}.func", fromlist=["hessian"])

    @run.compile
    def laplacian(points):
        hessian = func.hessian(lambda p: net(p).squeeze())
        return func.vmap(lambda p: hessian(p).diagonal().sum())(points)

    for n in (3, 3, 2):
        run.note(laplacian(run.floats(n, 2)))
    run.note(net)


def experts(run):
    """A mixture of experts: where tokens go depends on values; some experts get none."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional

    class MoE(nn.Module):
        def __init__(self, d=6, n=4, k=2):
            super().__init__()
            self.gate = nn.Linear(d, n, bias=False)
            self.experts = nn.ModuleList(
                nn.Sequential(nn.Linear(d, 8), nn.SiLU(), nn.Linear(8, d)) for _ in range(n)
            )
            self.n, self.k = n, k

        def forward(self, x):
            B, T, d = x.shape
            x = x.reshape(-1, d)
            weights, chosen = m.topk(self.gate(x).softmax(-1), self.k, dim=-1)
            weights = weights / weights.sum(-1, keepdim=True)
            out = m.zeros_like(x)
            load = F.one_hot(chosen, self.n).permute(2, 1, 0)
            for i, expert in enumerate(self.experts):
                rank, token = m.where(load[i])
                if token.numel() == 0:
                    continue
                y = expert(x[None, token].reshape(-1, d)) * weights[token, rank, None]
                out.index_add_(0, token, y.to(x.dtype))
            return out.reshape(B, T, d), m.bincount(chosen.flatten(), minlength=self.n)

    moe = run.fill(MoE())
    optimizer = m.optim.AdamW(moe.parameters(), lr=0.01, eps=1e-3)

    @run.compile
    def step(x):
        out, counts = moe(x)
        loss = (out - x).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss, counts, [p.grad is None for p in moe.parameters()]

    for n in (2, 2, 1, 2, 1):
        run.note(step(run.floats(n, 3, 6)))
    run.note(moe)


def graph_network(run):
    """Messages scattered over edges, degrees, pooling by graph, other numbers of nodes each time."""
    m, nn = run.m, run.m.nn

    class Layer(nn.Module):
        def __init__(self, cin, cout):
            super().__init__()
            self.message, self.root, self.att = (
                nn.Linear(cin, cout),
                nn.Linear(cin, cout),
                nn.Linear(cout, 1),
            )

        def forward(self, x, edges):
            source, target = edges
            h = self.message(x)[source]
            score = nn.functional.leaky_relu(self.att(h).squeeze(-1), 0.2)
            top = m.full((len(x),), -1e9).scatter_reduce(0, target, score.detach(), "amax")
            weight = (score - top[target]).exp()
            total = m.zeros(len(x)).scatter_add(0, target, weight)
            h = h * (weight / (total[target] + 1e-9)).unsqueeze(-1)
            return m.zeros(len(x), h.size(1)).index_add(0, target, h) + self.root(x)

    net = nn.ModuleList([Layer(3, 6), Layer(6, 2)])
    run.fill(net)
    optimizer = m.optim.Adam(net.parameters(), lr=0.02, eps=1e-3)

    @run.compile
    def step(x, edges, batch, y):
        h = net[0](x, edges).relu()
        h = net[1](h, edges)
        pooled = m.zeros(2, 2).index_add_(0, batch, h)
        mean = pooled / m.bincount(batch, minlength=2).clamp(min=1).unsqueeze(1)
        biggest = m.zeros(2, 2).scatter_reduce_(
            0, batch[:, None].expand(-1, 2), h, "amax", include_self=False
        )
        loss = nn.functional.cross_entropy(mean + biggest, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for nodes, edges in ((5, 8), (6, 9), (5, 8), (7, 4), (4, 11)):
        batch = (m.arange(nodes) > nodes // 2).long()
        run.note(step(run.floats(nodes, 3), run.ints(nodes, 2, edges), batch, run.ints(2, 2)))
    run.note(net)


def ensembles(run):
    """Stacked models under `vmap`, gradients for each sample, clipped and made noisy."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional
    func = __import__(f"{m.__name__}.func", fromlist=["vmap"])
    nets = [run.fill(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3))) for _ in range(3)]
    params, buffers = func.stack_module_state(nets)

    def call(params, buffers, x):
        return func.functional_call(nets[0], (params, buffers), (x,))

    @run.compile
    def predict(x):
        out = func.vmap(call, in_dims=(0, 0, None))(params, buffers, x)
        return out.mean(0), out.var(0), out.argmax(-1).mode(0).values

    @run.compile
    def train(x, y):
        def loss(p):
            out = func.vmap(call, in_dims=(0, 0, 0))(p, buffers, x)
            return F.cross_entropy(out.flatten(0, 1), y.flatten())

        grads, value = func.grad_and_value(loss)(params)
        with m.no_grad():
            for k in params:
                params[k] -= 0.1 * grads[k]
        return value

    one = {k: v.detach() for k, v in nets[0].named_parameters()}

    @run.compile
    def private(x, y, noise):
        def loss(p, x, y):
            out = func.functional_call(nets[0], p, (x.unsqueeze(0),))
            return F.cross_entropy(out, y.unsqueeze(0))

        each = func.vmap(func.grad(loss), in_dims=(None, 0, 0))(one, x, y)
        norms = m.stack([g.flatten(1).norm(dim=1) for g in each.values()]).norm(dim=0)
        scale = (0.5 / (norms + 1e-6)).clamp(max=1.0)
        for k, g in each.items():
            one[k] = one[k] - 0.1 * (m.einsum("n,n...->...", scale, g) / len(x) + noise)
        return norms

    for n in (5, 5, 4, 5):
        run.note(predict(run.floats(n, 4)), train(run.floats(3, n, 4), run.ints(3, 3, n)))
        run.note(private(run.floats(n, 4), run.ints(3, n), 0.01))
    run.note(params, one)


def orders(run):
    """Sorts, quantiles, top-k, einsums, cumulative sums, windows: code heavy with statistics."""
    m = run.m

    @run.compile
    def nucleus(logits, p):
        best, places = m.sort(logits, descending=True, dim=-1)
        drop = best.softmax(-1).cumsum(-1) > p
        drop[..., 1:] = drop[..., :-1].clone()
        drop[..., 0] = 0
        drop = drop.scatter(1, places, drop)
        logits[drop] = float("-inf")
        return logits.softmax(-1)

    @run.compile
    def robust(x, q):
        low, high = m.quantile(x, m.tensor([q, 1 - q]), dim=0)
        middle = x.median(dim=0).values
        spread = (x - middle).abs().median(dim=0, keepdim=True)[0]
        z = m.where((x > low) & (x < high), (x - middle) / (spread + 1e-6), m.zeros_like(x))
        return z, m.histc(z, 4, -2, 2), x.flatten().kthvalue(3), m.cov(z.T), m.corrcoef(x.T)

    @run.compile
    def bilinear(q, k, v, w):
        scores = m.einsum("bhid,de,bhje->bhij", q, w, k)
        scores = scores.tril().masked_fill(scores == 0, -1e4)
        out = m.einsum("bhij,bhjd->bihd", scores.softmax(-1), v)
        first, second = m.tensordot(out, w, dims=([3], [0])).chunk(2, dim=1)
        return out, m.baddbmm(first[:, 0], first[:, 0] @ w, w.expand(len(q), -1, -1)), second

    @run.compile
    def windows(x):
        frames = x.unfold(-1, 4, 2) * m.hann_window(4)
        return (
            frames,
            m.logcumsumexp(frames, -1),
            m.diff(x),
            x.argsort(stable=True),
            m.unique(x.round()),
        )

    for n in (6, 6, 5, 7):
        run.note(nucleus(run.floats(2, n), 0.7), robust(run.floats(n, 3), 0.2))
        q, k, v = (run.floats(2, 2, n, 3) for _ in range(3))
        run.note(bilinear(q, k, v, run.floats(3, 3)), windows(run.floats(2, n + 2)))


def parametrized(run):
    """Weight norm, spectral norm, orthogonal matrices, a mask by `parametrize`, switched to eval."""
    m, nn = run.m, run.m.nn
    P = nn.utils.parametrizations
    parametrize = nn.utils.parametrize

    class Symmetric(nn.Module):
        def forward(self, x):
            return x.triu() + x.triu(1).transpose(-1, -2)

    net = run.fill(nn.Sequential(*(nn.Linear(4, 4) for _ in range(4))))
    P.weight_norm(net[0])
    P.spectral_norm(net[1])
    with m.no_grad():
        norm = net[1].parametrizations.weight[0]
        norm._u.copy_(m.full((4,), 0.5))
        norm._v.copy_(m.full((4,), 0.5))
    parametrize.register_parametrization(net[2], "weight", Symmetric())
    P.orthogonal(net[3], orthogonal_map="cayley")
    optimizer = m.optim.SGD(net.parameters(), lr=0.1)

    @run.compile
    def step(x):
        with parametrize.cached() if net.training else contextlib.nullcontext():
            loss = net(x).pow(2).mean() + net[2].weight.abs().sum() * 1e-2
        optimizer.zero_grad()
        if net.training:
            loss.backward()
            optimizer.step()
        return loss

    for i in range(7):
        net.train(i != 4)
        run.note(step(run.floats(3, 4)))
    run.note(list(net.parameters()), norm._u)
    parametrize.remove_parametrizations(net[2], "weight")
    net.eval()
    run.note(net(run.floats(2, 4)), step(run.floats(3, 4)))


def python(run):
    """Everything else that functions are made of: and what they raise, midway, and again."""
    m = run.m

    @dataclasses.dataclass
    class Batch:
        x: object
        extra: dict
        names: tuple = ()

    Out = collections.namedtuple("Out", "total parts")
    log = []

    @run.compile
    def structured(batch, *args, scale=1.0, **kwargs):
        parts = {k: v * scale for k, v in {**batch.extra, **kwargs}.items()}
        for a in args:
            parts[f"arg{len(parts)}"] = a + batch.x
        log.append(tuple(parts))
        batch.extra["seen"] = batch.x.sum()
        return Out(sum(v.sum() for v in parts.values()), parts)

    @run.compile
    def stream(x):
        for i in range(4):
            x = x * 2 + i
            yield x, i
            if x.sum() > 60:
                return

    @run.compile
    def fragile(x, fail):
        state.add_(1)
        y = x * state
        log.append(len(log))
        if fail == 1:
            raise ValueError("midway")
        if fail == 2:
            raise KeyboardInterrupt
        if fail == 3:
            return y.view(7, 7)
        if fail == 4:
            return m.eye(3)[x.long()]
        return y.relu()

    class Square(m.autograd.Function):
        @staticmethod
        def forward(ctx, x, power):
            ctx.save_for_backward(x)
            ctx.power = power
            return x**power

        @staticmethod
        def backward(ctx, grad):
            (x,) = ctx.saved_tensors
            log.append(ctx.power)
            return ctx.power * x ** (ctx.power - 1) * grad, None

    inner = run.compile(lambda x: Square.apply(x, 2).cumsum(0))

    @run.compile
    def nested(x):
        return inner(inner(x * 0.5) + 1)

    def counter():
        n, total = 0, m.zeros(2)

        def count(x):
            nonlocal n, total
            n += 1
            total = total + x
            return total / n

        return run.compile(count)

    state = m.zeros(1)
    for i in range(5):
        b = Batch(run.floats(3), {"a": run.floats(2), "b": run.floats(3)})
        run.note(structured(b, run.floats(3), scale=i * 0.5, c=run.floats(1)), b.extra)
        run.note(structured(b), list(stream(run.floats(2, 2).abs())))
        x = run.floats(6).requires_grad_()
        nested(x).sum().backward()
        run.note(x.grad)
    for fail in (0, 1, 0, 2, 0, 3, 0, 4, 0, 0):
        with contextlib.suppress(KeyboardInterrupt):
            run.fails(fragile, run.floats(4) * 9 + 30, fail)
        run.note(state)
    run.note(fragile(run.floats(4), 0))
    first, second = counter(), counter()
    for _ in range(4):
        run.note(first(run.floats(2)), second(run.floats(2)))
    run.note(log)
