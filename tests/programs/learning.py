"""Programs whose loops are special: agents, meta-learning, penalties, teachers, precision."""

import collections
import copy
import random


def dqn(run):
    """A replay buffer, a target network, exploration by Python's numbers, gradients clamped by hand."""
    m, nn = run.m, run.m.nn
    Transition = collections.namedtuple("Transition", "state action next_state reward")
    policy, target = (nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2)) for _ in range(2))
    run.fill(policy)
    target.load_state_dict(policy.state_dict())
    optimizer = m.optim.Adam(policy.parameters(), lr=0.01, amsgrad=True)
    memory, done = collections.deque(maxlen=12), 0

    @run.compile
    def act(state, eps):
        nonlocal done
        done += 1
        if random.random() > eps:
            with m.no_grad():
                return policy(state).max(1).indices.view(1, 1)
        return m.tensor([[random.randrange(2)]], dtype=m.long)

    @run.compile
    def optimize():
        if len(memory) < 6:
            return None
        batch = Transition(*zip(*random.sample(memory, 6)))
        mask = m.tensor(tuple(s is not None for s in batch.next_state), dtype=m.bool)
        following = m.cat([s for s in batch.next_state if s is not None])
        state, action, reward = m.cat(batch.state), m.cat(batch.action), m.cat(batch.reward)
        values = policy(state).gather(1, action)
        after = m.zeros(6)
        with m.no_grad():
            after[mask] = target(following).max(1).values
        loss = nn.SmoothL1Loss()(values, (after * 0.9 + reward).unsqueeze(1))
        optimizer.zero_grad()
        loss.backward()
        for p in policy.parameters():
            p.grad.data.clamp_(-0.1, 0.1)
        optimizer.step()
        return loss

    for episode in range(2):
        state = run.floats(1, 3)
        for t in range(8):
            action = act(state, 0.5 / (episode + 1))
            following = None if t == 7 else state * 0.9 + action.item() - 0.5
            memory.append(Transition(state, action, following, run.floats(1)))
            state = following
            run.note(action, optimize())
            for p, q in zip(target.parameters(), policy.parameters()):
                p.data.copy_(0.9 * p.data + q.data * 0.1)
    run.note(policy, target, done)


def ppo(run):
    """Advantages by a backward loop, minibatches by a permutation, an early stop by KL, entropy."""
    m, nn = run.m, run.m.nn

    class ActorCritic(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.actor, self.critic = nn.Linear(4, 8), nn.Linear(8, 3), nn.Linear(8, 1)
            nn.init.orthogonal_(self.actor.weight, gain=0.01)

        def forward(self, x):
            h = m.tanh(self.body(x))
            return m.log_softmax(self.actor(h), -1), self.critic(h).squeeze(-1)

    net = run.fill(ActorCritic())
    optimizer = m.optim.Adam(net.parameters(), lr=0.01, eps=1e-5)

    @run.compile
    def advantages(rewards, values, dones, last, gamma=0.99, lam=0.95):
        result, gae = m.zeros_like(rewards), 0.0
        for t in reversed(range(len(rewards))):
            following = last if t == len(rewards) - 1 else values[t + 1]
            alive = 1.0 - dones[t]
            delta = rewards[t] + gamma * following * alive - values[t]
            gae = delta + gamma * lam * alive * gae
            result[t] = gae
        return result, result + values

    @run.compile
    def update(x, action, old, adv, returns):
        adv = (adv - adv.mean()) / (adv.std() + 1e-8)
        for epoch in range(4):  # noqa: B007  (it is returned)
            logp, value = net(x)
            chosen = logp.gather(1, action[:, None]).squeeze(1)
            ratio = (chosen - old).exp()
            surrogate = m.min(ratio * adv, ratio.clamp(0.8, 1.2) * adv).mean()
            entropy = -(logp.exp() * logp).sum(-1).mean()
            loss = -surrogate + 0.5 * (returns - value).pow(2).mean() - 0.01 * entropy
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), max_norm=0.5, error_if_nonfinite=True)
            optimizer.step()
            kl = (old - chosen).mean()
            if kl.item() > 0.02:
                break
        return epoch, loss, kl

    for i in range(4):
        x, action = run.floats(8, 4), run.ints(3, 8)
        with m.no_grad():
            logp, values = net(x)
            old = logp[m.arange(8), action]
        dones = (run.floats(8) > 1).float()
        adv, returns = advantages(run.floats(8), values, dones, values[-1])
        order = m.tensor(random.sample(range(8), 8))
        for start in (0, 4):
            i = order[start : start + 4]
            run.note(update(x[i], action[i], old[i], adv[i], returns[i]))
    run.note(net)


def reinforce(run):
    """An episode whose length depends on values, a list of log probabilities, discounted returns."""
    m, nn = run.m, run.m.nn
    policy = run.fill(nn.Sequential(nn.Linear(2, 6), nn.Dropout(0.0), nn.ReLU(), nn.Linear(6, 2)))
    optimizer = m.optim.Adagrad(policy.parameters(), lr=0.05)
    lengths = []

    @run.compile
    def episode(state, uniform):
        logps, rewards = [], []
        for t in range(12):
            p = policy(state).softmax(-1)
            action = (uniform[t] > p[0]).long()
            logps.append(p[action].log())
            rewards.append(state[0].detach() - action)
            state = (state * 0.8 + action * 0.4 - 0.1).detach()
            if state.norm() < 0.25:
                break
        lengths.append(len(logps))
        returns, R = collections.deque(), 0
        for r in reversed(rewards):
            R = r + 0.9 * R
            returns.appendleft(R)
        returns = m.stack(list(returns))
        if len(returns) > 1:
            returns = (returns - returns.mean()) / (returns.std() + 1e-6)
        loss = m.cat([(-lp * R).reshape(1) for lp, R in zip(logps, returns)]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    for _ in range(6):
        run.note(episode(run.floats(2), run.floats(12).sigmoid()))
    run.note(policy, lengths)


def simclr(run):
    """Contrastive learning: normalised projections, a diagonal that is masked out, a queue of negatives."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional
    net = run.fill(
        nn.Sequential(nn.Linear(6, 8, bias=False), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 4))
    )
    optimizer = m.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, dampening=0.1)
    queue = F.normalize(run.floats(6, 4), dim=1)
    place = 0

    @run.compile
    def step(a, b):
        nonlocal place
        z = F.normalize(net(m.cat([a, b])), dim=1)
        n = len(a)
        sim = z @ z.T / 0.5
        sim.fill_diagonal_(float("-inf")) if not sim.requires_grad else None
        sim = sim.masked_fill(m.eye(2 * n, dtype=m.bool), float("-inf"))
        sim = m.cat([sim, z @ queue.T], dim=1)
        labels = m.cat([m.arange(n, 2 * n), m.arange(n)])
        loss = F.cross_entropy(sim, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with m.no_grad():
            queue[place : place + n] = z[:n]
            place = (place + n) % 6
        return loss, F.cosine_similarity(z[:n], z[n:]).mean()

    for _ in range(6):
        x = run.floats(3, 6)
        run.note(step(x + run.floats(3, 6, scale=0.1), x * 0.9), place)
    run.note(net, queue)


def distillation(run):
    """A teacher without gradients, a student with hooks on its features, a temperature that changes."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional
    teacher = run.fill(nn.Sequential(nn.Linear(5, 12), nn.Dropout(0.5), nn.ELU(), nn.Linear(12, 4)))
    student = run.fill(nn.Sequential(nn.Linear(5, 6), nn.PReLU(), nn.Linear(6, 4)))
    teacher.eval()
    features, grads = {}, []
    student[1].register_forward_hook(lambda mod, args, out: features.update(hidden=out))
    student[2].register_full_backward_hook(lambda mod, gin, gout: grads.append(gout[0].abs().sum()))
    handle = student[0].register_forward_pre_hook(lambda mod, args: (args[0] * 2,))
    student[2].weight.register_hook(lambda g: g * 0.5)
    optimizer = m.optim.Adadelta(student.parameters(), lr=1.0)

    @run.compile
    def step(x, y, T):
        with m.no_grad():
            soft = F.softmax(teacher(x) / T, dim=-1)
        logits = student(x)
        kd = F.kl_div(F.log_softmax(logits / T, dim=-1), soft, reduction="batchmean") * T**2
        loss = 0.7 * kd + 0.3 * F.cross_entropy(logits, y) + 1e-3 * features["hidden"].norm()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    for i in range(7):
        if i == 4:
            handle.remove()
        run.note(step(run.floats(4, 5), run.ints(4, 4), 4.0 if i < 5 else 2.0))
    run.note(student, grads, list(features), features["hidden"])


def maml(run):
    """Inner steps that are differentiated, by `functional_call` and by `func.grad`."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional
    func = __import__(f"{m.__name__}.func", fromlist=["grad"])
    net = run.fill(nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1)))
    meta = m.optim.Adam(net.parameters(), lr=0.01)

    def inner(params, x, y, steps):
        for _ in range(steps):
            loss = F.mse_loss(func.functional_call(net, params, (x,)), y)
            grads = m.autograd.grad(loss, tuple(params.values()), create_graph=True)
            params = {k: p - 0.1 * g for (k, p), g in zip(params.items(), grads)}
        return params

    @run.compile
    def outer(tasks, steps):
        meta.zero_grad()
        losses = []
        for x, y, qx, qy in tasks:
            params = inner(dict(net.named_parameters()), x, y, steps)
            losses.append(F.mse_loss(func.functional_call(net, params, qx), qy))
        m.stack(losses).mean().backward()
        meta.step()
        return [loss.detach() for loss in losses]

    def one(params, x, y):
        def loss(p, x, y):
            return F.mse_loss(func.functional_call(net, p, (x,)), y)

        grads = func.grad(loss)(params, x, y)
        return loss({k: params[k] - 0.1 * grads[k] for k in params}, x, y)

    for steps in (1, 1, 2, 1):
        run.note(outer([tuple(run.floats(4, 1) for _ in range(4)) for _ in range(2)], steps))
    params = {k: p.detach() for k, p in net.named_parameters()}
    batched = run.compile(func.vmap(func.grad_and_value(one), in_dims=(None, 0, 0)))
    for _ in range(3):
        run.note(batched(params, run.floats(3, 4, 1), run.floats(3, 4, 1)))


def wgan_gp(run):
    """A gradient penalty: gradients of gradients, a critic that is trained more often."""
    m, nn = run.m, run.m.nn
    G = run.fill(nn.Sequential(nn.Linear(2, 6), nn.Softplus(), nn.Linear(6, 3)))
    D = run.fill(
        nn.Sequential(nn.Linear(3, 6), nn.LeakyReLU(0.2), nn.LayerNorm(6), nn.Linear(6, 1))
    )
    optG = m.optim.RMSprop(G.parameters(), lr=5e-3, centered=True)
    optD = m.optim.NAdam(D.parameters(), lr=5e-3)

    def penalty(real, fake, eps):
        x = (eps * real + (1 - eps) * fake).requires_grad_(True)
        out = D(x)
        (g,) = m.autograd.grad(
            outputs=out,
            inputs=x,
            grad_outputs=m.ones_like(out),
            create_graph=True,
            retain_graph=True,
            only_inputs=True,
        )
        return ((g.reshape(len(g), -1).norm(2, dim=1) - 1) ** 2).mean() * 10

    @run.compile
    def critic(real, z, eps):
        optD.zero_grad()
        fake = G(z).detach()
        loss = D(fake).mean() - D(real).mean() + penalty(real.data, fake.data, eps)
        loss.backward()
        optD.step()
        return loss.item()

    @run.compile
    def generator(z):
        for p in D.parameters():
            p.requires_grad = False
        optG.zero_grad()
        loss = -D(G(z)).mean()
        loss.backward()
        optG.step()
        for p in D.parameters():
            p.requires_grad = True
        return loss

    for i in range(6):
        run.note(critic(run.floats(4, 3), run.floats(4, 2), run.floats(4, 1).sigmoid()))
        if i % 2:
            run.note(generator(run.floats(4, 2)))
    run.note(G, D)


def precision(run):
    """Autocast and a scaler with steps that overflow, accumulation, unscaled gradients clipped."""
    m, nn, F = run.m, run.m.nn, run.m.nn.functional
    net = run.fill(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.LayerNorm(16), nn.Linear(16, 3)))
    optimizer = m.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    scaler = m.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=2)
    dtypes = []

    @run.compile
    def step(x, y):
        with m.autocast("cpu", dtype=m.bfloat16):
            out = net(x)
            dtypes.append(str(out.dtype).split(".")[-1])
            loss = F.cross_entropy(out.float(), y)
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        return m.isfinite(norm)

    for i in range(7):
        x = run.floats(4, 8)
        x[0, 0] = float("inf") if i == 3 else 1.0
        run.note(step(x, run.ints(3, 4)), scaler.get_scale())
    run.note(dtypes, [round(p.detach().abs().sum().item(), 1) for p in net.parameters()])


def optimizers(run):
    """LBFGS with its closure, rates changed by hand, copies and pickles of a compiled module midway."""
    m, nn = run.m, run.m.nn
    import pickle

    net = run.fill(nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1)))
    x, y = run.floats(8, 3), run.floats(8, 1)
    lbfgs = m.optim.LBFGS(net.parameters(), lr=0.5, max_iter=4, line_search_fn="strong_wolfe")

    @run.compile
    def whole():
        def closure():
            lbfgs.zero_grad()
            loss = nn.functional.mse_loss(net(x), y)
            loss.backward()
            return loss

        return lbfgs.step(closure)

    for _ in range(3):
        run.note(whole())
    twin = pickle.loads(pickle.dumps(net))
    other = copy.deepcopy(run.compile(net))
    run.note(twin(x), other(x))
    for kind, options in (
        (m.optim.SGD, {"momentum": 0.9, "foreach": False}),
        (m.optim.Adam, {"weight_decay": 0.1}),
        (m.optim.RAdam, {}),
        (m.optim.Adamax, {}),
        (m.optim.ASGD, {}),
        (m.optim.Rprop, {}),
    ):
        student = copy.deepcopy(net)
        optimizer = kind(student.parameters(), lr=0.02, **options)

        @run.compile
        def step(x, y, student=student, optimizer=optimizer):
            optimizer.zero_grad(set_to_none=False)
            loss = (student(x) - y).abs().mean()
            loss.backward()
            optimizer.step()
            return loss

        for i in range(6):
            run.note(step(x, y))
            if i == 3:
                for g in optimizer.param_groups:
                    g["lr"] *= 0.5
        run.note(student, [p.grad for p in student.parameters()])
