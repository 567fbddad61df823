"""Makes `algorithms.json`: advantages, losses, entropy gradients and reward shaping of the RL algorithms.

    python make_algorithms.py        (writes beside itself; needs torch only)

Everything is computed in float64 by torch and its autograd. Log-probs, entropies, hidden states and unembeddings are
multiples of a power of two, so they are the same numbers in float32. Lists per token are ragged: one list per response,
as long as the response. Where no other dimension is said, a list has one number per response, in order.

`advantages`: list of batches.
    name
    groups                   list of {rewards [n], lengths [n]}; n differs between groups
    grpo                     list per group of [n]: (R - mean) / (std + 1e-6), std unbiased; group of one: mean 0, std 1
    dr-grpo                  the same shape: R - mean; group of one: R
    rloo                     the same shape: R - mean of the others; group of one: R
    reinforce++              the same shape: R whitened over all response tokens of the batch: each response counts as
                             often as it has tokens; (x - mean) / sqrt(var + 1e-8), var unbiased. Each token's return is
                             the reward at the last token with discount 1, so every token of a response has one value
    reinforce++-baseline     the same shape: R - group mean (group of one: R), then whitened in the same way
    Means are exact; verl adds 1e-8 to the token count that it divides by.

`batches`: object of named mini-batches.
    lengths [n], advantages [n]
    log_probs, old_log_probs, ref_log_probs, entropies      ragged

`losses`: list of cases, each on one of those mini-batches.
    batch                    its name
    ratio                    "token": exp(clamp(logp - old, -20, 20)) of each token
                             "sequence" (GSPO, arXiv 2507.18071): s = exp(mean over the response of logp - old), for all
                             tokens of the response. Computed as verl does it: per token exp(min(l, 10)) with
                             l = logp - sg(logp) + sg(mean), sg stopping the gradient. There is no clamp at -20 or 20,
                             neither on the tokens before the mean nor on the mean, and none from below. Below 10 both
                             its value and its gradient are those of s itself (checked here); above 10 the value is
                             exp(10) and the gradient 0.
    clip_low, clip_high      surrogate = max(-A r, -A clip(r, 1 - clip_low, 1 + clip_high))
    dual_clip                number or null; where A < 0: min(surrogate, -A dual_clip). Null for "sequence", as in verl
    aggregation              "token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"; the
                             last divides each sequence's sum by `norm_length`
    norm_length              number: a fixed response limit (Dr. GRPO); null: the longest response of the mini-batch
    kl, beta                 "k1", "k2", "k3" or null; beta * aggregate(kl) is added. x = logp, y = ref:
                             k1 = x - y; k2 = (x - y)^2 / 2; k3 = clamp(e^t - t - 1, -10, 10), t = clamp(y - x, -20, 20)
    entropy_coef             entropy_coef * aggregate(entropy) is subtracted
    loss                     the sum of the three, with one aggregation for all
    policy_loss, kl_loss, entropy     the three aggregates, without their coefficients; null where not used
    d_log_probs              ragged: d loss / d logp, the entropies held fixed
    d_entropies              ragged: d loss / d entropy, or null where entropy_coef is 0
    clip_fraction            share of all response tokens with -A clip(r) > -A r
    dual_clip_fraction       share of all response tokens bounded by the dual clip
    Every clamp has gradient 1 inside and 0 outside. None is tested on its bounds, where versions of torch differ: all
    values keep a distance (checked here). Some losses are of size exp(20), some derivatives of size exp(-20): compare
    relative to the value, and zeros exactly.

`logits`: list of cases; the policy is softmax(hidden unembedding^T / temperature).
    name
    hidden [T, d], unembedding [V, d], tokens [T], temperature
    a [T], b [T]             objective = sum_t a_t logp_t + b_t H_t
    log_probs [T], entropies [T]              logp and H (nats) at the temperature: those that the objective is of
    log_probs_at_1 [T], entropies_at_1 [T]    the same at temperature 1
    objective, d_hidden [T, d], d_unembedding [V, d]

`overlong`: list of {limit, buffer, factor, lengths, penalties}: what is added to the reward of a response of that
    length (DAPO's soft punishment): min(0, -(length - (limit - buffer)) / buffer * factor). Lengths stay within the
    limit, where this and the paper's formula (with factor 1) agree.

`dynamic_sampling`: {limit, buffer, factor, groups}, groups a list of
    {rewards [n], lengths [n], shaped_rewards [n], kept, kept_by_shaped}
    A group is kept if its rewards are not all equal, or if it has only one response (as in verl; the DAPO paper has no
    groups of one). `kept` looks at the rewards before the penalty (verl's `acc`), `kept_by_shaped` after it (its
    `seq_final_reward`).
"""

import json
import math
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
AGGREGATIONS = [  # aggregation, norm_length
    ("token-mean", None), ("seq-mean-token-mean", None), ("seq-mean-token-sum", None),
    ("seq-mean-token-sum-norm", 16), ("seq-mean-token-sum-norm", None),
]
KINK_DISTANCE = 1e-6  # no value may come nearer to a place where the loss has a kink

torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)


def main():
    out = {
        "advantages": make_advantages(),
        "batches": {name: ragged_batch(b) for name, b in BATCHES.items()},
        "losses": make_losses(),
        "logits": make_logits(),
        "overlong": make_overlong(),
        "dynamic_sampling": make_dynamic_sampling(),
    }
    path = HERE / "algorithms.json"
    path.write_text("{\n" + ",\n".join(f"  {json.dumps(k)}: {lines(v)}" for k, v in out.items()) + "\n}\n")
    print(f"{path.name}: {path.stat().st_size} bytes, {len(out['losses'])} losses")


def lines(value):
    """One line per entry."""
    if isinstance(value, list):
        return "[\n" + ",\n".join("    " + dumps(v) for v in value) + "\n  ]"
    return "{\n" + ",\n".join(f"    {json.dumps(k)}: {dumps(v)}" for k, v in value.items()) + "\n  }"


def dumps(value):
    """Shortest decimals that read back as the same float64 (at most 17 digits); no infinities, no negative zeros."""
    return json.dumps(plain(value), allow_nan=False)


def plain(value):
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list):
        return [plain(v) for v in value]
    return value + 0.0 if isinstance(value, float) else value


# ---------------------------------------------------------------------------------------------------------------------
# Advantages


def make_advantages():
    mixed = [  # rewards, lengths
        ([1.0, 0.0, 0.0, 1.0], [3, 11, 7, 2]),
        ([0.0, 0.0, 0.0, 0.0], [5, 1, 16, 9]),
        ([1.0, 1.0, 1.0, 1.0], [4, 4, 8, 1]),
        ([0.25, -0.5, 1.0, 0.7], [13, 6, 2, 10]),
        ([0.1, 0.1, 0.1, -2.5], [1, 12, 3, 5]),
        ([1.0], [6]),
        ([0.0, 1.0], [14, 3]),
    ]
    batches = {
        "mixed": mixed,
        "all-equal": [([1.0, 1.0, 1.0, 1.0], [2, 5, 1, 3]), ([1.0, 1.0, 1.0, 1.0], [4, 1, 1, 6])],
        "groups-of-one": [([0.5], [4]), ([0.0], [1]), ([-1.0], [7])],
    }
    return [{"name": name, **batch_advantages(groups)} for name, groups in batches.items()]


def batch_advantages(groups):
    rewards = [torch.tensor(r) for r, _ in groups]
    lengths = [n for _, n in groups]
    centred = [r - r.mean() if len(r) > 1 else r for r in rewards]
    grpo = [c / ((r.std() if len(r) > 1 else 1.0) + 1e-6) for c, r in zip(centred, rewards)]
    rloo = [torch.stack([leave_one_out(r, i) for i in range(len(r))]) for r in rewards]
    for r, c, a in zip(rewards, centred, rloo):
        if len(r) > 1:
            torch.testing.assert_close(a, c * len(r) / (len(r) - 1), rtol=1e-12, atol=1e-12)
    return {
        "groups": [{"rewards": r, "lengths": n} for r, n in groups],
        "grpo": [a.tolist() for a in grpo],
        "dr-grpo": [a.tolist() for a in centred],
        "rloo": [a.tolist() for a in rloo],
        "reinforce++": whiten_over_tokens(rewards, lengths),
        "reinforce++-baseline": whiten_over_tokens(centred, lengths),
    }


def leave_one_out(rewards, i):
    others = torch.cat([rewards[:i], rewards[i + 1 :]])
    return rewards[i] - others.mean() if len(others) else rewards[i]


def whiten_over_tokens(scores, lengths):
    flat_scores = torch.cat(scores)
    flat_lengths = torch.tensor([n for group in lengths for n in group])
    width = int(flat_lengths.max())
    mask = torch.arange(width) < flat_lengths[:, None]
    # The score sits on the last token; the sum of what is still to come carries it back to every token.
    at_last = torch.zeros(len(flat_scores), width)
    at_last[torch.arange(len(flat_scores)), flat_lengths - 1] = flat_scores
    returns = at_last.flip(-1).cumsum(-1).flip(-1)
    tokens = returns[mask]
    whitened = (returns - tokens.mean()) / torch.sqrt(tokens.var(unbiased=True) + 1e-8)
    for row, m in zip(whitened, mask):
        assert (row[m] == row[0]).all()
    return [part.tolist() for part in whitened[:, 0].split([len(s) for s in scores])]


# ---------------------------------------------------------------------------------------------------------------------
# Mini-batches


def rounded(x, bits):
    return torch.round(x * 2**bits) / 2**bits


def padded(rows, fill):
    width = max(len(r) for r in rows)
    return torch.stack([torch.cat([r, torch.full((width - len(r),), fill)]) for r in rows])


def batch(log_ratios, ref_minus_logp, advantages, seed, bits, top=-0.1):
    """Padding holds ordinary-looking numbers, so that a loss that reads it is wrong."""
    g = torch.Generator().manual_seed(seed)
    d = [torch.as_tensor(r) for r in log_ratios]
    t = [torch.as_tensor(r) for r in ref_minus_logp]
    # Low enough that neither log-prob is above 0.
    logp = [rounded(top - 3 * torch.rand(len(r), generator=g) - torch.clamp(torch.maximum(-r, u), min=0), bits)
            for r, u in zip(d, t)]
    entropies = [rounded(3 * torch.rand(len(r), generator=g), bits) for r in d]
    rows = {
        "log_probs": logp,
        "old_log_probs": [x - rounded(r, bits) for x, r in zip(logp, d)],
        "ref_log_probs": [x + rounded(r, bits) for x, r in zip(logp, t)],
        "entropies": entropies,
    }
    for values in rows.values():
        assert all((r.float().double() == r).all() for r in values)
    lengths = torch.tensor([len(r) for r in d])
    return {
        "lengths": lengths,
        "mask": torch.arange(int(lengths.max())) < lengths[:, None],
        "advantages": torch.tensor(advantages),
        **{name: padded(values, -0.6) for name, values in rows.items()},
    }


def ordinary_batch():
    lengths = [5, 1, 9, 3, 12, 7]
    g = torch.Generator().manual_seed(1)
    d = [0.3 * torch.randn(n, generator=g) for n in lengths]
    d[0][0], d[3][1], d[4][2] = 0.24, 1.2, 2.6  # between the two upper clips; beyond dual clips of 3 and 10
    t = [0.6 * torch.randn(n, generator=g) for n in lengths]
    return batch(d, t, [1.5, -0.75, 0.5, -1.25, -0.5, 0.0], seed=2, bits=16)


def extreme_batch():
    d = [[25.0, -25.0, 0.25, 20.0625, -19.9375], [25.0, -25.0, 20.0625, -20.0625, 19.9375, -19.5, 0.125], [1.5, 2.25],
         [2.5, 1.0, 3.0]]
    # k3's outer bound acts from t about 2.6 up and -11 down, the inner one beyond 20.
    t = [[0.0, 2.5, 2.75, 25.0, -25.0], [-10.5, -11.5, 20.0625, -20.0625, 0.5, -0.5, 19.5], [-3.0, 1.0],
         [0.01, -0.01, 2.0]]
    return batch(d, t, [0.75, -1.5, -0.5, 1.0], seed=3, bits=12)


def sequence_batch():
    """Single tokens far off, also beyond 20, and means near the narrow clip of GSPO."""
    lengths = [6, 4, 9, 5, 1, 8, 3, 7]
    means = [1e-4, 1e-3, -1e-3, -2e-4, 3.5e-4, 2e-3, -1.5e-3, 3.5e-4]
    advantages = [1.0, 1.5, 0.5, -0.75, -1.25, -0.5, -1.0, 0.25]
    g = torch.Generator().manual_seed(4)
    d = [0.2 * torch.randn(n, generator=g) for n in lengths]
    d[2][1], d[2][4], d[5][0], d[5][3] = 25.0, -3.0, -22.0, 1.5
    for row, mean in zip(d, means):
        row[-1] += mean * len(row) - row.sum()
    t = [0.4 * torch.randn(n, generator=g) for n in lengths]
    return batch(d, t, advantages, seed=5, bits=16)


def sequence_extreme_batch():
    d = [[12.0, 11.5, 12.5], [12.0, 13.0], [-12.0, -14.0, -13.0, -12.5], [-30.0, -24.0], [9.5, 9.75],
         [40.0, -19.0, 10.0]]
    t = [[0.1] * len(row) for row in d]
    return batch(d, t, [-1.0, 1.0, 0.5, 1.5, -0.25, -0.5], seed=6, bits=12)


BATCHES = {
    "ordinary": ordinary_batch(),
    "extreme": extreme_batch(),
    "sequence": sequence_batch(),
    "sequence-extreme": sequence_extreme_batch(),
}


def ragged(values, lengths):
    return [row[:n].tolist() for row, n in zip(values, lengths.tolist())]


def ragged_batch(b):
    per_token = ["log_probs", "old_log_probs", "ref_log_probs", "entropies"]
    return {"lengths": b["lengths"].tolist(), "advantages": b["advantages"].tolist(),
            **{name: ragged(b[name], b["lengths"]) for name in per_token}}


# ---------------------------------------------------------------------------------------------------------------------
# Losses


def make_losses():
    ppo = {"ratio": "token", "clip_low": 0.2, "clip_high": 0.2, "dual_clip": None}
    dapo = {**ppo, "clip_high": 0.28}
    gspo = {"ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4, "dual_clip": None}
    gspo_mean = {**gspo, "aggregation": "seq-mean-token-mean", "norm_length": None}
    cases = []

    for name in ["ordinary", "extreme"]:
        for clips in [ppo, dapo, {**dapo, "dual_clip": 10.0}, {**dapo, "clip_low": 0.1, "dual_clip": 3.0}]:
            cases += [case(name, **clips, aggregation=how, norm_length=norm) for how, norm in AGGREGATIONS]
    for how, norm in AGGREGATIONS:
        form = {**ppo, "dual_clip": 10.0, "aggregation": how, "norm_length": norm}
        cases += [case("ordinary", **form, kl=kind, beta=0.04) for kind in ["k1", "k2", "k3"]]
        cases.append(case("ordinary", **form, entropy_coef=0.01))
        combined = {**form, **dapo, "dual_clip": 10.0, "kl": "k3", "beta": 0.05, "entropy_coef": 0.02}
        cases += [case(name, **combined) for name in ["ordinary", "extreme"]]
    extreme = {**ppo, "dual_clip": 10.0, "aggregation": "token-mean", "norm_length": None}
    cases += [case("extreme", **extreme, kl=kind, beta=0.3) for kind in ["k1", "k2", "k3"]]

    cases += [case(name, **gspo_mean) for name in ["ordinary", "sequence", "sequence-extreme"]]
    cases.append(case("ordinary", **{**gspo_mean, "clip_low": 0.2, "clip_high": 0.28}))
    cases.append(case("sequence", **gspo_mean, kl="k3", beta=0.05, entropy_coef=0.02))

    assert any(c["dual_clip_fraction"] > 0 for c in cases)
    narrow = next(c for c in cases if c["batch"] == "sequence")
    assert 0 < narrow["clip_fraction"] < 1
    return cases


def case(name, ratio, clip_low, clip_high, dual_clip, aggregation, norm_length, kl=None, beta=0.0, entropy_coef=0.0):
    b = BATCHES[name]
    mask, adv = b["mask"], b["advantages"][:, None]
    logp = b["log_probs"].clone().requires_grad_(True)
    entropy = b["entropies"].clone().requires_grad_(True)

    def total(token_values):
        return aggregate(token_values, mask, aggregation, norm_length)

    r = (token_ratio if ratio == "token" else sequence_ratio)(logp, b["old_log_probs"], mask)
    surrogate, clipped, dual = clipped_surrogate(r, adv, clip_low, clip_high, dual_clip)
    check_distance(r[mask & (adv != 0)], [1 - clip_low, 1 + clip_high] + [dual_clip] * (dual_clip is not None))
    policy_loss = total(surrogate)
    kl_loss = None if kl is None else total(kl_estimate(logp, b["ref_log_probs"], kl))
    mean_entropy = None if entropy_coef == 0 else total(entropy)

    loss = policy_loss
    if kl_loss is not None:
        loss = loss + beta * kl_loss
    if mean_entropy is not None:
        loss = loss - entropy_coef * mean_entropy
    d_logp, d_entropy = torch.autograd.grad(loss, [logp, entropy], allow_unused=True)
    assert (d_logp[~mask] == 0).all()
    if ratio == "sequence":
        check_distance(mean_log_ratio(logp, b["old_log_probs"], mask), [10.0])
    else:
        check_distance((logp - b["old_log_probs"])[mask], [-20.0, 20.0])
    if kl == "k3":
        t = b["ref_log_probs"] - logp
        check_distance(t[mask], [-20.0, 20.0])
        check_distance((torch.expm1(t) - t)[mask], [10.0])
    if ratio == "sequence" and kl is None:
        check_sequence_form(b, clip_low, clip_high, d_logp)

    tokens = mask.sum()
    return {
        "batch": name, "ratio": ratio, "clip_low": clip_low, "clip_high": clip_high, "dual_clip": dual_clip,
        "aggregation": aggregation, "norm_length": norm_length, "kl": kl, "beta": beta, "entropy_coef": entropy_coef,
        "loss": loss.item(), "policy_loss": policy_loss.item(),
        "kl_loss": None if kl_loss is None else kl_loss.item(),
        "entropy": None if mean_entropy is None else mean_entropy.item(),
        "clip_fraction": ((clipped & mask).sum() / tokens).item(),
        "dual_clip_fraction": ((dual & mask).sum() / tokens).item(),
        "d_log_probs": ragged(d_logp, b["lengths"]),
        "d_entropies": None if d_entropy is None else ragged(d_entropy, b["lengths"]),
    }


def token_ratio(logp, old, mask):
    return torch.exp(torch.clamp(logp - old, -20.0, 20.0))


def mean_log_ratio(logp, old, mask):
    return torch.where(mask, logp - old, 0.0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True)


def sequence_ratio(logp, old, mask):
    log_ratio = logp - logp.detach() + mean_log_ratio(logp, old, mask).detach()
    return torch.exp(torch.clamp(log_ratio, max=10.0))


def clipped_surrogate(r, adv, clip_low, clip_high, dual_clip):
    free, held = -adv * r, -adv * r.clamp(1 - clip_low, 1 + clip_high)
    surrogate = torch.maximum(free, held)
    dual = torch.zeros_like(r, dtype=torch.bool)
    if dual_clip is not None:
        bound = (-adv * dual_clip).expand_as(r)
        dual = (adv < 0) & (bound < surrogate)
        surrogate = torch.where(dual, bound, surrogate)
    return surrogate, held > free, dual


def kl_estimate(x, y, kind):
    if kind == "k1":
        return x - y
    if kind == "k2":
        return (x - y).square() / 2
    t = torch.clamp(y - x, -20.0, 20.0)
    return torch.clamp(torch.expm1(t) - t, -10.0, 10.0)


def aggregate(values, mask, how, norm_length):
    sums = torch.where(mask, values, 0.0).sum(-1)
    lengths = mask.sum(-1)
    if how == "token-mean":
        return sums.sum() / lengths.sum()
    if how == "seq-mean-token-mean":
        return (sums / lengths).mean()
    if how == "seq-mean-token-sum":
        return sums.mean()
    assert how == "seq-mean-token-sum-norm"
    return (sums / (norm_length or lengths.max())).mean()


def check_distance(values, kinks):
    assert all((values - k).abs().min() > KINK_DISTANCE for k in kinks)


def check_sequence_form(b, clip_low, clip_high, d_logp):
    """The gradient of the sequence-level loss itself, without any stopped gradient."""
    logp = b["log_probs"].clone().requires_grad_(True)
    mean = mean_log_ratio(logp, b["old_log_probs"], b["mask"])
    surrogate, _, _ = clipped_surrogate(torch.exp(mean), b["advantages"][:, None], clip_low, clip_high, None)
    (direct,) = torch.autograd.grad(surrogate.mean(), logp)
    below = (mean < 10.0)[:, 0]
    torch.testing.assert_close(d_logp[below], direct[below], rtol=1e-12, atol=1e-15)
    assert (d_logp[~below] == 0).all()


# ---------------------------------------------------------------------------------------------------------------------
# Entropy and log-probs of logits


def make_logits():
    t, d, v, temperature = 6, 5, 11, 0.7
    g = torch.Generator().manual_seed(7)
    hidden = rounded(torch.randn(t, d, generator=g), 10)
    unembedding = rounded(torch.randn(v, d, generator=g), 10)
    tokens = torch.randint(0, v, (t,), generator=g)
    a = rounded(torch.randn(t, generator=g), 10)
    b = rounded(torch.randn(t, generator=g), 10)
    none = torch.zeros(t)
    cases = {
        "both": (hidden, a, b, temperature),
        "log-probs-only": (hidden, a, none, temperature),
        "entropies-only": (hidden, none, b, temperature),
        "both-at-temperature-1": (hidden, a, b, 1.0),
        # Most probabilities are 0 in float32: 0 ln 0 must be 0.
        "peaked": (hidden * 32, a, b, temperature),
    }
    made = [logits_case(name, h, unembedding, tokens, u, w, temp) for name, (h, u, w, temp) in cases.items()]
    assert min(made[-1]["entropies"]) < 1e-6
    return made


def logits_case(name, hidden, unembedding, tokens, a, b, temperature):
    h = hidden.clone().requires_grad_(True)
    e = unembedding.clone().requires_grad_(True)

    def read(logits):
        log_p = torch.log_softmax(logits, dim=-1)
        return log_p.gather(-1, tokens[:, None])[:, 0], -(log_p.exp() * log_p).sum(-1)

    logp, entropy = read(h @ e.T / temperature)
    logp_at_1, entropy_at_1 = read(h @ e.T)
    objective = (a * logp + b * entropy).sum()
    d_hidden, d_unembedding = torch.autograd.grad(objective, [h, e])
    return {
        "name": name, "temperature": temperature, "tokens": tokens.tolist(), "hidden": hidden.tolist(),
        "unembedding": unembedding.tolist(), "a": a.tolist(), "b": b.tolist(), "log_probs": logp.tolist(),
        "entropies": entropy.tolist(), "log_probs_at_1": logp_at_1.tolist(), "entropies_at_1": entropy_at_1.tolist(),
        "objective": objective.item(), "d_hidden": d_hidden.tolist(), "d_unembedding": d_unembedding.tolist(),
    }


# ---------------------------------------------------------------------------------------------------------------------
# Reward shaping and dynamic sampling


def overlong_penalty(length, limit, buffer, factor):
    return min(0.0, -(length - (limit - buffer)) / buffer * factor)


def make_overlong():
    tables = [  # limit, buffer, factor, lengths
        (16, 4, 1.0, [1, 11, 12, 13, 14, 15, 16]),
        (16, 6, 0.5, [1, 9, 10, 11, 13, 16]),
        (16, 16, 1.0, [0, 1, 8, 16]),
        (20480, 4096, 1.0, [16383, 16384, 16385, 18000, 20480]),
    ]
    return [{"limit": limit, "buffer": buffer, "factor": factor, "lengths": lengths,
             "penalties": [overlong_penalty(n, limit, buffer, factor) for n in lengths]}
            for limit, buffer, factor, lengths in tables]


def make_dynamic_sampling():
    limit, buffer, factor = 16, 4, 1.0
    groups = [
        ([1.0, 0.0, 0.0, 1.0], [3, 11, 7, 2]),
        ([0.0, 0.0, 0.0, 0.0], [5, 1, 9, 12]),
        ([1.0, 1.0, 1.0, 1.0], [4, 4, 8, 1]),
        ([1.0, 1.0, 1.0, 1.0], [4, 15, 8, 1]),  # only the penalty tells them apart
        ([1.0, 0.5], [14, 2]),  # the penalty makes them equal
        ([0.1, 0.1, 0.1], [5, 6, 7]),  # their mean is not 0.1 in float64: a computed std is not 0
        ([0.25, 0.5, 0.25], [5, 6, 16]),
        ([1.0], [6]),
        ([0.0], [16]),
    ]

    def kept(rewards):
        return len(rewards) == 1 or max(rewards) > min(rewards)

    made = []
    for rewards, lengths in groups:
        shaped = [r + overlong_penalty(n, limit, buffer, factor) for r, n in zip(rewards, lengths)]
        made.append({"rewards": rewards, "lengths": lengths, "shaped_rewards": shaped, "kept": kept(rewards),
                     "kept_by_shaped": kept(shaped)})
    assert {(m["kept"], m["kept_by_shaped"]) for m in made} == {(a, b) for a in (True, False) for b in (True, False)}
    assert math.isclose(made[3]["shaped_rewards"][1], 0.25)
    return {"limit": limit, "buffer": buffer, "factor": factor, "groups": made}


if __name__ == "__main__":
    main()
