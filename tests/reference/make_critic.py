"""Makes `critic.json`: generalised advantage estimation, value losses with their gradients, and whole PPO updates.

    python make_critic.py       (writes beside itself; needs torch and transformers)

Everything is computed in float64 by torch and its autograd.

`gae`: list of {gamma, lambda, responses, whitened, explained_variance}. A response is {rewards, values, advantages, returns}, one number
    per token; values are float32. As in TRL and verl: delta_t = r_t + gamma V_{t+1} - V_t with V = 0 after the last token,
    A_t = delta_t + gamma lambda A_{t+1}, returns = A + V; whitened over all tokens, (A - mean) / sqrt(unbiased variance + 1e-8), by
    response. explained_variance = 1 - var(returns - values) / var(returns).

`value_losses`: list of {clip, old, returns, values, loss, d_values, clipped}. The loss is the sum over tokens of
    0.5 max((v - R)^2, (clamp(v, old - clip, old + clip) - R)^2), without a clip if it is 0; clipped counts tokens with the second larger.

`head`: {states, parameters, d_values, values, d_parameters, d_states}: values = states w + b, parameters = w and then b; the derivatives
    are of the sum of d_values times values.

`updates`: list of cases, two updates each with all rollouts of `qwen3-tied/rollouts.jsonl` as one mini-batch, old log-probs and values
    before the first
    policy, critic                  the sites; the critic's states are those of its layer after the final norm
    detached, value_coefficient     otherwise the policy's loss has value_coefficient times the value loss, a mean over tokens
    gamma, lambda, clip_value, lr, critic_lr
    parameters                      of the head before the first update
    values, advantages              before the first update, by rollout; whitened
    steps                           by update: loss (of the policy), grad_norm, clip_fraction, value_loss, value_grad_norm,
                                    value_clip_fraction, and head, the head's parameters after it
    first_moments                   AdamW's first moments after the first update, by parameter: the norm, and the sum of
                                    sin(i + 1) m_i; null for a parameter without a gradient
    Gradients of model and head are each scaled by min(1, 1 / (norm + 1e-6)); AdamW with (0.9, 0.999), 1e-8 and decay 0.01.
"""
import json
import math
from pathlib import Path

import torch

from make_reference import HERE, load, token_surrogate

FOLDER = HERE / "qwen3-tied"


def rounded(x):
    return torch.round(x.double() * 1024) / 1024


def gae(rewards, values, gamma, lam):
    """TRL's loop, of one response."""
    last, advantages = 0.0, []
    for t in reversed(range(len(rewards))):
        next_value = values[t + 1] if t + 1 < len(rewards) else 0.0
        delta = rewards[t] + gamma * next_value - values[t]
        last = delta + gamma * lam * last
        advantages.append(last)
    advantages = torch.stack(advantages[::-1])
    return advantages, advantages + values


def whiten(x):
    return (x - x.mean()) * torch.rsqrt(x.var(unbiased=True) + 1e-8)


def gae_case(g, lengths, gamma, lam):
    responses, all_advantages, all_returns, all_values = [], [], [], []
    for length in lengths:
        rewards, values = rounded(0.2 * torch.randn(length, generator=g)), rounded(torch.randn(length, generator=g))
        rewards[-1] += torch.randint(0, 2, (1,), generator=g).item()
        advantages, returns = gae(rewards, values, gamma, lam)
        responses.append({"rewards": rewards.tolist(), "values": values.tolist(), "advantages": advantages.tolist(),
                          "returns": returns.tolist()})
        all_advantages.append(advantages), all_returns.append(returns), all_values.append(values)
    whitened = whiten(torch.cat(all_advantages)).split(lengths)
    returns, values = torch.cat(all_returns), torch.cat(all_values)
    return {"gamma": gamma, "lambda": lam, "responses": responses, "whitened": [w.tolist() for w in whitened],
            "explained_variance": (1 - (returns - values).var() / returns.var()).item()}


def value_loss(values, old, returns, clip):
    plain = (values - returns) ** 2
    held = torch.clamp(values, old - clip, old + clip) if clip else values
    clipped = (held - returns) ** 2
    return 0.5 * torch.max(plain, clipped).sum(), (clipped > plain).sum()


def value_loss_case(g, clip):
    old, returns = rounded(torch.randn(40, generator=g)), rounded(torch.randn(40, generator=g))
    values = rounded(old + 0.5 * torch.randn(40, generator=g)).requires_grad_(True)
    values.data[0] = old[0]  # as in a first update
    loss, clipped = value_loss(values, old, returns, clip)
    (d,) = torch.autograd.grad(loss, values)
    assert not clip or 5 < clipped < 35
    return {"clip": clip, "old": old.tolist(), "returns": returns.tolist(), "values": values.tolist(), "loss": loss.item(),
            "d_values": d.tolist(), "clipped": clipped.item()}


def head_case(g):
    states = rounded(torch.randn(9, 6, generator=g)).requires_grad_(True)
    parameters = rounded(torch.randn(7, generator=g)).requires_grad_(True)
    d_values = rounded(torch.randn(9, generator=g))
    values = states @ parameters[:-1] + parameters[-1]
    d_parameters, d_states = torch.autograd.grad((d_values * values).sum(), [parameters, states])
    return {"states": states.tolist(), "parameters": parameters.tolist(), "d_values": d_values.tolist(),
            "values": values.tolist(), "d_parameters": d_parameters.tolist(), "d_states": d_states.tolist()}


def layer_of(site, model):
    return model.config.num_hidden_layers if site == "full" else int(site.split(":")[1])


def response_outputs(model, rollout, policy, critic):
    """Log-probs of the response's tokens at the policy's site, and the critic's states that predict them."""
    kept = {}
    handles = [layer.register_forward_hook(lambda _m, _a, out, i=i: kept.__setitem__(i + 1, out[0] if isinstance(out, tuple) else out))
               for i, layer in enumerate(model.model.layers)]
    ids = torch.tensor([rollout["prompt"] + rollout["response"]])
    model.model(input_ids=ids, use_cache=False)
    [handle.remove() for handle in handles]
    state = kept[layer_of(policy, model)]
    logits = model.lm_head(model.model.norm(state) if policy == "full" else state)[0]
    start, n = len(rollout["prompt"]) - 1, len(rollout["response"])
    targets = torch.tensor(rollout["response"])
    log_probs = torch.log_softmax(logits, -1)[start : start + n].gather(-1, targets[:, None])[:, 0]
    return log_probs, model.model.norm(kept[layer_of(critic, model)])[0, start : start + n]


def moments_by_parameter(model, optimizer):
    """AdamW's first moments by parameter: the norm, and the sum of sin(i + 1) m_i; None for one that was not stepped."""
    out = {}
    for name, p in model.named_parameters():
        m = optimizer.state[p]["exp_avg"].flatten() if p in optimizer.state else None
        wave = torch.sin(torch.arange(1, p.numel() + 1, dtype=torch.float64))
        out[name] = None if m is None else [m.norm().item(), (wave * m).sum().item()]
    return out


def update_case(g, rollouts, policy, critic, detached, value_coefficient, lam):
    gamma, clip_value, lr, critic_lr = 0.99, 0.2, 3e-3, 2e-2
    model = load(FOLDER).double()
    parameters = rounded(0.2 * torch.randn(model.config.hidden_size + 1, generator=g))
    head = parameters.clone().requires_grad_(True)
    optimizer, head_optimizer = (
        torch.optim.AdamW(ps, lr=rate, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, foreach=False)
        for ps, rate in [(list(model.parameters()), lr), ([head], critic_lr)])
    with torch.no_grad():
        outputs = [response_outputs(model, r, policy, critic) for r in rollouts]
        old_log_probs = [log_probs for log_probs, _ in outputs]
        old_values = [states @ head[:-1] + head[-1] for _, states in outputs]
        advantages, returns = [], []
        for r, values in zip(rollouts, old_values):
            rewards = torch.zeros(len(values), dtype=torch.float64)
            rewards[-1] = r["reward"]
            a, b = gae(rewards, values, gamma, lam)
            advantages.append(a), returns.append(b)
        lengths = [len(a) for a in advantages]
        advantages = whiten(torch.cat(advantages)).split(lengths)
    tokens, steps, first_moments = sum(lengths), [], None
    for _ in range(2):
        optimizer.zero_grad(set_to_none=True), head_optimizer.zero_grad(set_to_none=True)
        policy_loss, critic_loss, clipped, value_clipped = 0.0, 0.0, 0, 0
        for r, old, values, a, target in zip(rollouts, old_log_probs, old_values, advantages, returns):
            log_probs, states = response_outputs(model, r, policy, critic)
            surrogate, stats = token_surrogate(log_probs, old, a, 0.2, 0.2, 10.0)
            edge = min((stats["ratio"] - k).abs().min().item() for k in (0.8, 1.2, 10.0))
            new = (states.detach() if detached else states) @ head[:-1] + head[-1]
            loss, count = value_loss(new, values, target, clip_value)
            edge = min([edge] + ((new - values).abs() - clip_value).abs().tolist())
            assert edge > 1e-5, edge
            policy_loss, critic_loss = policy_loss + surrogate.sum() / tokens, critic_loss + loss / tokens
            clipped, value_clipped = clipped + stats["clipped"].sum().item(), value_clipped + count.item()
        (head_gradient,) = torch.autograd.grad(critic_loss, head, retain_graph=True)
        (policy_loss if detached else policy_loss + value_coefficient * critic_loss).backward()
        head.grad = head_gradient
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False)
        head_norm = torch.nn.utils.clip_grad_norm_([head], 1.0, foreach=False)
        optimizer.step(), head_optimizer.step()
        if first_moments is None:
            first_moments = moments_by_parameter(model, optimizer)
        steps.append({"loss": policy_loss.item(), "grad_norm": norm.item(), "clip_fraction": clipped / tokens,
                      "value_loss": critic_loss.item(), "value_grad_norm": head_norm.item(),
                      "value_clip_fraction": value_clipped / tokens, "head": head.tolist()})
    assert steps[0]["clip_fraction"] == 0 and steps[1]["clip_fraction"] > 0 and steps[1]["value_clip_fraction"] > 0
    print(policy, critic, detached, [{k: v for k, v in s.items() if k != "head"} for s in steps])
    return {"policy": policy, "critic": critic, "detached": detached, "value_coefficient": value_coefficient,
            "gamma": gamma, "lambda": lam, "clip_value": clip_value, "lr": lr, "critic_lr": critic_lr,
            "parameters": parameters.tolist(), "values": [v.tolist() for v in old_values],
            "advantages": [a.tolist() for a in advantages], "steps": steps, "first_moments": first_moments}


if __name__ == "__main__":
    g = torch.Generator().manual_seed(13)
    rollouts = [json.loads(line) for line in (FOLDER / "rollouts.jsonl").read_text().splitlines()]
    out = {
        "gae": [gae_case(g, lengths, gamma, lam)
                for lengths, gamma, lam in [([5, 1, 8], 1.0, 1.0), ([5, 1, 8], 1.0, 0.95), ([3, 12], 0.9, 0.5),
                                            ([7, 2, 2], 0.99, 0.0), ([1, 1], 1.0, 0.95)]],
        "value_losses": [value_loss_case(g, clip) for clip in [0.0, 0.2, 0.5]],
        "head": head_case(g),
        "updates": [update_case(g, rollouts, "full", "full", True, None, 1.0),
                    update_case(g, rollouts, "layer:2", "full", True, None, 0.95),
                    update_case(g, rollouts, "layer:2", "layer:1", True, None, 0.95),
                    update_case(g, rollouts, "full", "full", False, 0.5, 0.95),
                    update_case(g, rollouts, "full", "layer:3", False, 0.5, 0.95)],
    }
    assert all(math.isfinite(x) for case in out["updates"] for step in case["steps"] for x in step["head"])
    body = ",\n".join(f"  {json.dumps(k)}: " + (json.dumps(v) if isinstance(v, dict) else "[\n" + ",\n".join(
        "    " + json.dumps(c) for c in v) + "\n  ]") for k, v in out.items())
    Path(__file__).with_name("critic.json").write_text("{\n" + body + "\n}\n")
