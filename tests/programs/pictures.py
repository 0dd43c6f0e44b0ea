"""Programs on pictures: classifiers, and what makes pictures."""

import copy
import io
import math


def vae(run):
    """Mean and variance, noise that is given, other batch sizes, a closure over a weight that grows."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional

    class VAE(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc1, self.mean, self.logvar = nn.Linear(12, 8), nn.Linear(8, 3), nn.Linear(8, 3)
            self.fc3, self.fc4 = nn.Linear(3, 8), nn.Linear(8, 12)

        def encode(self, x):
            h = F.relu(self.fc1(x))
            return self.mean(h), self.logvar(h)

        def reparameterize(self, mu, logvar, noise):
            std = m.exp(0.5 * logvar)
            return noise.mul(std).add_(mu) if self.training else mu

        def decode(self, z):
            return m.sigmoid(self.fc4(F.relu(self.fc3(z))))

        def forward(self, x, noise):
            mu, logvar = self.encode(x.view(-1, 12))
            return self.decode(self.reparameterize(mu, logvar, noise)), mu, logvar

    model = run.fill(VAE())
    optimizer = m.optim.Adam(model.parameters(), lr=1e-2)
    history, beta = [], 0.0

    def step(x, noise):
        optimizer.zero_grad()
        recon, mu, logvar = model(x, noise)
        bce = F.binary_cross_entropy(recon, x.view(-1, 12), reduction="sum")
        kld = -0.5 * m.sum(1 + logvar - mu.pow(2) - logvar.exp())
        loss = bce + beta * kld
        loss.backward()
        history.append(loss.detach() / len(x))
        optimizer.step()
        return {"bce": bce, "kld": kld, "beta": beta}

    step = run.compile(step)
    for epoch in range(3):
        beta = epoch / 2
        for batch in (5, 5, 5, 2):
            run.note(step(run.floats(batch, 1, 3, 4).sigmoid(), run.floats(batch, 3)))
    model.eval()
    with m.no_grad():
        run.note(model, history, run.compile(model.decode)(run.floats(4, 3)).view(4, 1, 3, 4))


def dcgan(run):
    """Two optimizers, detached fakes, labels that are filled in place, weights set by `apply`."""
    m, nn = run.m, run.m.nn
    G = nn.Sequential(
        nn.ConvTranspose2d(4, 8, 3, 1, 0, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(True),
        nn.ConvTranspose2d(8, 2, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    D = nn.Sequential(
        nn.Conv2d(2, 6, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(6, 8, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(8, 1, 3, 1, 0, bias=False),
        nn.Sigmoid(),
    )

    def weights_init(module):
        if module.__class__.__name__.find("BatchNorm") != -1:
            nn.init.constant_(module.weight.data, 0.9)
            nn.init.constant_(module.bias.data, 0)

    for net in (G, D):
        run.fill(net).apply(weights_init)
    criterion = nn.BCELoss()
    optimizers = [m.optim.Adam(n.parameters(), lr=2e-3, betas=(0.5, 0.999)) for n in (D, G)]

    def step(real, noise):
        D.zero_grad()
        label = m.full((real.size(0),), 1.0, dtype=m.float)
        output = D(real).view(-1)
        real_error = criterion(output, label)
        real_error.backward()
        D_x = output.mean().item()
        fake = G(noise)
        label.fill_(0.0)
        output = D(fake.detach()).view(-1)
        fake_error = criterion(output, label)
        fake_error.backward()
        optimizers[0].step()
        G.zero_grad()
        label.fill_(1.0)
        output = D(fake).view(-1)
        error = criterion(output, label)
        error.backward()
        optimizers[1].step()
        return D_x, real_error + fake_error, error, output.mean()

    step = run.compile(step)
    for batch in (4, 4, 4, 3):
        run.note(step(run.floats(batch, 2, 6, 6), run.floats(batch, 4, 1, 1)))
    run.note(G, D, [optimizers[0].state_dict()["state"][0]["step"]])


def diffusion(run):
    """A UNet with embeddings of time, an average of its weights, samples drawn step by step."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional
    T = 6

    def timestep_embedding(t, dim):
        half = dim // 2
        freqs = m.exp(-math.log(10000) * m.arange(half, dtype=m.float32) / half)
        args = t[:, None].float() * freqs[None]
        return m.cat([m.cos(args), m.sin(args)], dim=-1)

    class Res(nn.Module):
        def __init__(self, cin, cout):
            super().__init__()
            self.norm1, self.conv1 = nn.GroupNorm(2, cin), nn.Conv2d(cin, cout, 3, padding=1)
            self.emb = nn.Linear(8, 2 * cout)
            self.norm2, self.conv2 = nn.GroupNorm(2, cout), nn.Conv2d(cout, cout, 3, padding=1)
            self.skip = nn.Conv2d(cin, cout, 1) if cin != cout else nn.Identity()

        def forward(self, x, emb):
            h = self.conv1(F.silu(self.norm1(x)))
            scale, shift = self.emb(emb)[..., None, None].chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
            return self.skip(x) + self.conv2(F.silu(h))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            self.time = nn.Sequential(nn.Linear(8, 8), nn.SiLU(), nn.Linear(8, 8))
            self.stem = nn.Conv2d(1, 4, 3, padding=1)
            self.down, self.mid, self.up = Res(4, 4), Res(4, 8), Res(12, 4)
            self.pool, self.attn = nn.AvgPool2d(2), nn.MultiheadAttention(8, 2, batch_first=True)
            self.out = nn.Conv2d(4, 1, 1)

        def forward(self, x, t):
            emb = self.time(timestep_embedding(t, 8))
            h0 = self.down(self.stem(x), emb)
            h = self.mid(self.pool(h0), emb)
            B, C, H, W = h.shape
            s = h.flatten(2).permute(0, 2, 1)
            h = h + self.attn(s, s, s, need_weights=False)[0].permute(0, 2, 1).view(B, C, H, W)
            h = F.interpolate(h, scale_factor=2, mode="nearest")
            return self.out(self.up(m.cat([h, h0], dim=1), emb))

    model = run.fill(UNet())
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    betas = m.linspace(1e-2, 0.2, T)
    alphas = 1.0 - betas
    bars = m.cumprod(alphas, dim=0)
    optimizer = m.optim.AdamW(model.parameters(), lr=2e-3, eps=1e-3)

    @run.compile
    def step(x, t, noise):
        a = bars[t].view(-1, 1, 1, 1)
        loss = F.mse_loss(model(a.sqrt() * x + (1 - a).sqrt() * noise, t), noise)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        with m.no_grad():
            for p, q in zip(ema.parameters(), model.parameters()):
                p.lerp_(q, 0.1)
        return loss

    @run.compile
    @m.no_grad()
    def sample(x, noises):
        for i in reversed(range(T)):
            t = m.full((x.shape[0],), i, dtype=m.long)
            eps = ema(x, t)
            x = (x - betas[i] / (1 - bars[i]).sqrt() * eps) / alphas[i].sqrt()
            if i > 0:
                x = x + betas[i].sqrt() * noises[i]
        return x.clamp(-1, 1)

    for _ in range(4):
        run.note(step(run.floats(3, 1, 4, 4), run.ints(T, 3), run.floats(3, 1, 4, 4)))
    run.note(sample(run.floats(2, 1, 4, 4), run.floats(T, 2, 1, 4, 4)), ema)


def residual(run):
    """Bottlenecks with a state saved, loaded into a deep copy, and training switched on and off."""
    m, nn = run.m, run.m.nn

    class Bottleneck(nn.Module):
        expansion = 2

        def __init__(self, cin, width, stride=1, downsample=None):
            super().__init__()
            self.conv1, self.bn1 = nn.Conv2d(cin, width, 1, bias=False), nn.BatchNorm2d(width)
            self.conv2 = nn.Conv2d(width, width, 3, stride, 1, groups=2, bias=False)
            self.bn2 = nn.BatchNorm2d(width)
            self.conv3 = nn.Conv2d(width, width * self.expansion, 1, bias=False)
            self.bn3 = nn.BatchNorm2d(width * self.expansion)
            self.relu, self.downsample = nn.ReLU(inplace=True), downsample

        def forward(self, x):
            identity = x
            out = self.relu(self.bn1(self.conv1(x)))
            out = self.relu(self.bn2(self.conv2(out)))
            out = self.bn3(self.conv3(out))
            if self.downsample is not None:
                identity = self.downsample(x)
            out += identity
            return self.relu(out)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.inplanes = 4
            self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
            self.bn1, self.maxpool = nn.BatchNorm2d(4), nn.MaxPool2d(3, 2, 1)
            self.layer1, self.layer2 = self._make(4, 1, 1), self._make(6, 2, 2)
            self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(12, 5)
            for mod in self.modules():
                if isinstance(mod, nn.Conv2d):
                    nn.init.kaiming_normal_(mod.weight, mode="fan_out", nonlinearity="relu")
                elif isinstance(mod, (nn.BatchNorm2d, nn.GroupNorm)):
                    nn.init.constant_(mod.weight, 1)

        def _make(self, planes, blocks, stride):
            out = planes * Bottleneck.expansion
            down = nn.Sequential(
                nn.Conv2d(self.inplanes, out, 1, stride, bias=False), nn.BatchNorm2d(out)
            )
            layers = [Bottleneck(self.inplanes, planes, stride, down)]
            layers += [Bottleneck(out, planes) for _ in range(1, blocks)]
            self.inplanes = out
            return nn.Sequential(*layers)

        def forward(self, x):
            x = self.maxpool(m.relu(self.bn1(self.conv1(x))))
            x = self.layer2(self.layer1(x))
            return self.fc(m.flatten(self.avgpool(x), 1))

    net = run.compile(run.fill(Net()))
    optimizer = m.optim.SGD(
        net.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True
    )
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    schedule = m.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=8)

    def epoch(net, sizes):
        net.train()
        for n in sizes:
            x, y = run.floats(n, 3, 8, 8), run.ints(5, n)
            optimizer.zero_grad()
            loss = criterion(net(x), y)
            loss.backward()
            optimizer.step()
            schedule.step()
            run.note(loss.item(), schedule.get_last_lr())
        net.eval()
        with m.no_grad():
            run.note(net(run.floats(3, 3, 8, 8)), net.training, net.bn1.running_mean)

    epoch(net, (4, 4, 4))
    file = io.BytesIO()
    m.save({"net": net.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = m.load(file)
    epoch(net, (4, 2))
    twin = copy.deepcopy(net)
    net.load_state_dict(saved["net"])
    optimizer.load_state_dict(saved["optimizer"])
    epoch(net, (4, 3))
    twin.eval()
    net.eval()
    x = run.floats(2, 3, 8, 8)
    run.note(twin(x), net(x), list(net.state_dict())[:3], len(list(twin.parameters())))


def mobile(run):
    """Depthwise convolutions, squeeze and excitation, hard swish, stochastic depth by given masks."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional

    class Squeeze(nn.Module):
        def __init__(self, c):
            super().__init__()
            self.fc1, self.fc2 = nn.Conv2d(c, 2, 1), nn.Conv2d(2, c, 1)

        def forward(self, x):
            s = self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1)), inplace=True))
            return F.hardsigmoid(s, inplace=True) * x

    def conv_bn(cin, cout, k=1, s=1, groups=1, act=nn.Hardswish):
        layers = [
            nn.Conv2d(cin, cout, k, s, k // 2, groups=groups, bias=False),
            nn.BatchNorm2d(cout),
        ]
        return nn.Sequential(*layers, *([act(inplace=True)] if act else []))

    class Inverted(nn.Module):
        def __init__(self, cin, cout, expand, k, stride):
            super().__init__()
            self.use_res, e = stride == 1 and cin == cout, cin * expand
            self.block = nn.Sequential(
                conv_bn(cin, e), conv_bn(e, e, k, stride, e), Squeeze(e), conv_bn(e, cout, act=None)
            )

        def forward(self, x, keep):
            out = self.block(x)
            return x + out * keep.view(-1, 1, 1, 1) if self.use_res else out

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = conv_bn(3, 4, 3, 2)
            self.blocks = nn.ModuleList([Inverted(4, 4, 2, 3, 1), Inverted(4, 6, 3, 5, 2)])
            self.head = nn.Sequential(
                nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.SiLU(), nn.Linear(6, 3)
            )

        def forward(self, x, keep):
            x = self.stem(x)
            for block in self.blocks:
                x = block(x, keep)
            return self.head(x)

    model = run.fill(Net()).to(memory_format=m.channels_last)
    optimizer = m.optim.RMSprop(model.parameters(), lr=1e-3, alpha=0.9, momentum=0.9, eps=1e-2)
    averaged = m.optim.swa_utils.AveragedModel(model)
    if run.is_compiled:
        model.compile()

    def accuracy(output, target, topk=(1, 2)):
        with m.no_grad():
            _, pred = output.topk(max(topk), 1, True, True)
            correct = pred.t().eq(target.view(1, -1).expand_as(pred.t()))
            return [correct[:k].reshape(-1).float().sum(0, keepdim=True) for k in topk]

    accuracy = run.compile(accuracy)

    for n, size in ((3, 8), (3, 8), (2, 8), (3, 12), (3, 8)):
        x = run.floats(n, 3, size, size).contiguous(memory_format=m.channels_last)
        y = run.ints(3, n)
        out = model(x, (run.floats(n) > -0.5).float() / 0.8)
        loss = F.cross_entropy(out, y, weight=m.tensor([1.0, 2.0, 0.5]))
        optimizer.zero_grad(set_to_none=False)
        loss.backward()
        optimizer.step()
        averaged.update_parameters(model)
        run.note(loss, accuracy(out, y))
    loader = [run.floats(3, 3, 8, 8) for _ in range(2)]
    keep = m.ones(3)
    with m.no_grad():
        averaged.train()
        for x in loader:
            averaged(x, keep)
        averaged.eval()
        run.note(averaged(loader[0], keep), averaged.n_averaged)


def convnext(run):
    """Layer scale, permutes for LayerNorm, a depthwise 7x7, `trunc_normal_`, a polynomial schedule."""
    m, nn = run.m, run.m.nn

    class LayerNorm2d(nn.LayerNorm):
        def forward(self, x):
            x = x.permute(0, 2, 3, 1)
            x = nn.functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
            return x.permute(0, 3, 1, 2)

    class Block(nn.Module):
        def __init__(self, dim):
            super().__init__()
            self.dwconv, self.norm = (
                nn.Conv2d(dim, dim, 7, padding=3, groups=dim),
                nn.LayerNorm(dim),
            )
            self.pwconv1, self.act, self.pwconv2 = (
                nn.Linear(dim, 4 * dim),
                nn.GELU(),
                nn.Linear(4 * dim, dim),
            )
            self.gamma = nn.Parameter(1e-2 * m.ones(dim))

        def forward(self, x):
            y = self.dwconv(x).permute(0, 2, 3, 1)
            y = self.gamma * self.pwconv2(self.act(self.pwconv1(self.norm(y))))
            return x + y.permute(0, 3, 1, 2)

    model = run.fill(
        nn.Sequential(
            nn.Conv2d(3, 4, 2, 2), LayerNorm2d(4), Block(4), nn.Conv2d(4, 6, 2, 2), Block(6)
        )
    )
    head = run.fill(nn.Linear(6, 2))
    nn.init.trunc_normal_(nn.Parameter(m.empty(3, 3)), std=0.02)
    params = [{"params": model.parameters()}, {"params": head.parameters(), "lr": 0.1}]
    optimizer = m.optim.SGD(params, lr=0.02)
    schedule = m.optim.lr_scheduler.PolynomialLR(optimizer, 5, power=2.0)

    @run.compile
    def step(x, y, mix):
        y = nn.functional.one_hot(y, 2).float()
        x, y = mix * x + (1 - mix) * x.flip(0), mix * y + (1 - mix) * y.roll(1, 0)
        logits = head(model(x).mean([-2, -1]))
        loss = m.sum(-y * logits.log_softmax(-1), -1).mean()
        optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_([*model.parameters(), *head.parameters()], 0.5)
        optimizer.step()
        return loss, norm

    for mix in (1.0, 0.7, 0.3, 0.9):
        run.note(step(run.floats(3, 3, 8, 8), run.ints(2, 3), mix))
        schedule.step()
    run.note(model, head, schedule.get_last_lr())


def vit(run):
    """Patches, a class token, positions resized for larger pictures, checkpointed blocks."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional
    checkpoint = __import__(f"{m.__name__}.utils.checkpoint", fromlist=["checkpoint"]).checkpoint
    d = 12

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm1, self.norm2 = nn.LayerNorm(d, eps=1e-6), nn.LayerNorm(d, eps=1e-6)
            self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
            self.mlp = nn.Sequential(
                nn.Linear(d, 2 * d), nn.GELU(approximate="tanh"), nn.Linear(2 * d, d)
            )

        def forward(self, x):
            B, N, C = x.shape
            qkv = self.qkv(self.norm1(x)).reshape(B, N, 3, 3, C // 3).permute(2, 0, 3, 1, 4)
            q, k, v = qkv.unbind(0)
            attn = ((q * (C // 3) ** -0.5) @ k.transpose(-2, -1)).softmax(dim=-1)
            x = x + self.proj((attn @ v).transpose(1, 2).reshape(B, N, C))
            return x + self.mlp(self.norm2(x))

    class ViT(nn.Module):
        def __init__(self):
            super().__init__()
            self.patch = nn.Conv2d(3, d, 4, 4)
            self.cls_token = nn.Parameter(m.zeros(1, 1, d))
            self.pos_embed = nn.Parameter(m.zeros(1, 5, d))
            self.blocks = nn.ModuleList([Block() for _ in range(2)])
            self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, 4)

        def positions(self, h, w):
            if h == w == 2:
                return self.pos_embed
            grid = self.pos_embed[:, 1:].reshape(1, 2, 2, d).permute(0, 3, 1, 2)
            grid = F.interpolate(grid, size=(h, w), mode="bicubic", align_corners=False)
            return m.cat([self.pos_embed[:, :1], grid.flatten(2).transpose(1, 2)], 1)

        def forward(self, x):
            x = self.patch(x)
            B, _, h, w = x.shape
            x = x.flatten(2).transpose(1, 2)
            x = m.cat((self.cls_token.expand(B, -1, -1), x), dim=1) + self.positions(h, w)
            for block in self.blocks:
                x = checkpoint(block, x, use_reentrant=False) if self.training else block(x)
            return self.head(self.norm(x)[:, 0])

    model = run.fill(ViT())
    optimizer = m.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-3)
    schedule = m.optim.lr_scheduler.SequentialLR(
        optimizer,
        [
            m.optim.lr_scheduler.LinearLR(optimizer, 0.1, total_iters=2),
            m.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4),
        ],
        milestones=[2],
    )

    @run.compile
    def step(x, y):
        loss = F.cross_entropy(model(x), y, label_smoothing=0.05)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        return loss

    for n, size in ((3, 8), (3, 8), (3, 12), (3, 8), (2, 8)):
        run.note(
            step(run.floats(n, 3, size, size), run.ints(4, n)), optimizer.param_groups[0]["lr"]
        )
    model.eval()
    with m.inference_mode():
        infer = run.compile(model)
        run.note(infer(run.floats(1, 3, 8, 8)), infer(run.floats(2, 3, 12, 8)), model)
