"""Makes `losses.json`: surrogates, weights, chosen tokens and penalties that other trainers have, with their gradients.

    python make_losses.py       (writes beside itself; needs torch only)

Everything is computed in float64 by torch and its autograd, on the mini-batches of `algorithms.json`.

`losses`: list of cases
    batch                    the name of the mini-batch
    objective                the settings that differ from: surrogate "clip", clip_low = clip_high = 0.2, dual_clip 0,
                             aggregation "token-mean". r = exp(clamp(d, -20, 20)), d = logp - old.
        surrogate            "unclipped" -A r; "cispo" -A sg(clip(r, 1 - clip_low, 1 + clip_high)) logp (MiniMax-M1, eq. 4, 5);
                             "sapo" -A (4 / tau) sigmoid(tau (r - 1)), tau by the sign of A (SAPO, eq. 6);
                             "gmpo" -A exp(min(mean over the response of d', 10)), sgn(A) d' = min(sgn(A) d, sgn(A)
                             clamp(d, -clip_low, clip_high)), for every token of the response (GMPO; verl's geo_mean)
        positive_weight, negative_weight
                             A is multiplied by one of them
        kl_coefficient, kl_estimator = "k3+"
                             k2 - sg(k2) + sg(k3): the value of k3 with the gradient of k2
        top_entropy_share    surrogates are multiplied by (H >= torch.quantile(all H of the mini-batch, 1 - share))
        covariance           cov = (old - mean old) (A - mean A), means over the tokens of the mini-batch. mode "clip" with share
                             1: the surrogates with low < cov < high are multiplied by 0. mode "kl": kl_coefficient |d| is
                             added at the max(1, int(share N)) tokens of the highest cov
    norm_length              as in `algorithms.json`
    loss, d_log_probs        the value, and the derivative with respect to each log-prob
    left_out, penalised      the numbers of tokens

`advantages`: list of {advantage, scale_rewards, groups, expected}. scale_rewards "group": divided by the group's unbiased std +
    1e-6; "batch": by that of all rewards; "none". One reward has std 1. "signed-reward" is 2 R - 1.

`reward_kl`: list of {batch, coefficient, estimator, penalties}: coefficient times the sum over each response's tokens of the
    estimate of KL at x = old, y = ref.

`entropy_target`: {entropy, step, max, start, entropies, applied, coefficients}: step by step.
"""
import json
from pathlib import Path

import torch

from make_algorithms import (AGGREGATIONS, BATCHES, aggregate, check_distance, clipped_surrogate, kl_estimate, ragged,
                             token_ratio)

DEFAULTS = {"surrogate": "clip", "clip_low": 0.2, "clip_high": 0.2, "dual_clip": 0.0, "aggregation": "token-mean"}


def surrogate(s, logp, old, mask, adv):
    d = logp - old
    r = token_ratio(logp, old, mask)
    kind = s["surrogate"]
    if kind == "clip":
        check_distance(r[mask], [1 - s["clip_low"], 1 + s["clip_high"]])
        return clipped_surrogate(r, adv, s["clip_low"], s["clip_high"], s["dual_clip"] or None)[0]
    if kind == "unclipped":
        return -adv * r
    if kind == "cispo":
        weight = torch.clamp(r, 1 - s["clip_low"], 1 + s["clip_high"]).detach()
        return -adv * weight * logp
    if kind == "sapo":
        tau = torch.where(adv > 0, s["sapo"]["positive"], s["sapo"]["negative"])
        return -adv * torch.sigmoid(tau * (r - 1)) * 4 / tau
    assert kind == "gmpo"
    sign = torch.sign(adv)
    held = sign * torch.minimum(sign * d, sign * torch.clamp(d, -s["clip_low"], s["clip_high"]))
    mean = torch.where(mask, held, 0.0).sum(-1, keepdim=True) / mask.sum(-1, keepdim=True)
    check_distance(mean, [10.0])
    return -adv * torch.exp(torch.clamp(mean, max=10.0)).expand_as(d)


def case(name, norm_length=None, **changes):
    s = {**DEFAULTS, "sapo": {"positive": 1.0, "negative": 1.05}, **changes}
    b = BATCHES[name]
    mask, adv, old = b["mask"], b["advantages"][:, None], b["old_log_probs"]
    weights = torch.where(adv > 0, s.get("positive_weight", 1.0), s.get("negative_weight", 1.0))
    adv = adv * weights
    logp = b["log_probs"].clone().requires_grad_(True)
    values = surrogate(s, logp, old, mask, adv)
    kept = torch.ones_like(mask)
    penalised = torch.zeros_like(mask)
    if "top_entropy_share" in s:
        h = b["entropies"]
        threshold = torch.quantile(h[mask], 1 - s["top_entropy_share"])
        kept = h >= threshold
    if "covariance" in s:
        c = s["covariance"]
        all_adv = adv.expand_as(old)
        cov = (old - old[mask].mean()) * (all_adv - all_adv[mask].mean())
        if c["mode"] == "clip":
            assert c["share"] == 1.0
            check_distance(cov[mask], [c["low"], c["high"]])
            kept = kept & ~((cov > c["low"]) & (cov < c["high"]))
        else:
            n = max(1, int(c["share"] * int(mask.sum())))
            threshold = torch.topk(cov[mask], n).values[-1]
            penalised = (cov >= threshold) & mask
            assert int(penalised.sum()) == n
            values = values + torch.where(penalised, c["kl_coefficient"] * (logp - old).abs(), 0.0)
    kept = kept & mask
    values = values * kept if "covariance" not in s or s["covariance"]["mode"] == "clip" else values
    loss = aggregate(values, mask, s["aggregation"], norm_length)
    if s.get("kl_coefficient"):
        assert s["kl_estimator"] == "k3+"
        k2, k3 = (kl_estimate(logp, b["ref_log_probs"], kind) for kind in ["k2", "k3"])
        loss = loss + s["kl_coefficient"] * aggregate(k2 - k2.detach() + k3.detach(), mask, s["aggregation"], norm_length)
    (d_logp,) = torch.autograd.grad(loss, logp)
    return {"batch": name, "objective": {**DEFAULTS, **changes}, "norm_length": norm_length, "loss": loss.item(),
            "d_log_probs": ragged(d_logp, b["lengths"]), "left_out": int((mask & ~kept).sum()),
            "penalised": int(penalised.sum())}


def make_losses():
    cases = []
    for how, norm in AGGREGATIONS:
        for name in ["ordinary", "extreme"]:
            form = {"norm_length": norm, "aggregation": how}
            cases += [
                case(name, surrogate="unclipped", **form),
                case(name, surrogate="cispo", clip_low=1.0, clip_high=4.0, **form),
                case(name, surrogate="cispo", **form),
                case(name, surrogate="sapo", **form),
                case(name, surrogate="sapo", sapo={"positive": 0.7, "negative": 1.4}, **form),
                case(name, surrogate="gmpo", clip_low=0.4, clip_high=0.4, **form),
                case(name, surrogate="gmpo", clip_low=0.1, clip_high=0.3, **form),
                case(name, positive_weight=0.0, **form),
                case(name, negative_weight=0.0, **form),
                case(name, positive_weight=0.1, dual_clip=3.0, **form),
                case(name, kl_coefficient=0.05, kl_estimator="k3+", **form),
                case(name, top_entropy_share=0.2, clip_high=0.28, **form),
                case(name, top_entropy_share=0.55, surrogate="sapo", **form),
                case(name, surrogate="unclipped", **form,
                     covariance={"mode": "clip", "share": 1.0, "low": 0.1, "high": 2.0, "kl_coefficient": 1.0}),
                case(name, surrogate="unclipped", **form,
                     covariance={"mode": "kl", "share": 0.2, "low": 1.0, "high": 5.0, "kl_coefficient": 0.7}),
                case(name, **form,
                     covariance={"mode": "kl", "share": 1e-4, "low": 1.0, "high": 5.0, "kl_coefficient": 1.0}),
            ]
    cases.append(case("sequence-extreme", surrogate="gmpo", clip_low=50.0, clip_high=50.0))
    assert all(0 < c["left_out"] for c in cases if "top_entropy_share" in c["objective"])
    return cases


def make_advantages():
    g = torch.Generator().manual_seed(11)
    groups = [torch.rand(n, generator=g, dtype=torch.float64).tolist() for n in [4, 3, 5]]
    groups += [[1.0, 0.0, 0.0, 1.0], [1.0, 1.0], [0.5]]
    made = []
    for batch in [groups, [[0.75]]]:
        every = torch.tensor(sum(batch, []), dtype=torch.float64)
        for advantage in ["grpo", "dr-grpo", "rloo", "signed-reward"]:
            for scale in ["group", "batch", "none", None]:
                if scale is None and advantage != "signed-reward" or advantage == "signed-reward" and scale is not None:
                    continue
                expected = []
                for group in batch:
                    r = torch.tensor(group, dtype=torch.float64)
                    n = len(group)
                    if advantage == "signed-reward":
                        expected.append((2 * r - 1).tolist())
                        continue
                    if advantage == "rloo":
                        baseline = (r.sum() - r) / (n - 1) if n > 1 else torch.zeros(1, dtype=torch.float64)
                    else:
                        baseline = r.mean() if n > 1 else 0.0
                    std = {"group": r.std() if n > 1 else 1.0, "batch": every.std() if len(every) > 1 else 1.0}
                    divisor = std[scale] + 1e-6 if scale in std else 1.0
                    expected.append(((r - baseline) / divisor).tolist())
                made.append({"advantage": advantage, "scale_rewards": scale, "groups": batch, "expected": expected})
    return made


def make_reward_kl():
    made = []
    for name in ["ordinary", "extreme"]:
        b = BATCHES[name]
        for kind in ["k1", "k2", "k3"]:
            kl = kl_estimate(b["old_log_probs"], b["ref_log_probs"], kind)
            made.append({"batch": name, "coefficient": 0.02, "estimator": kind,
                         "penalties": (0.02 * torch.where(b["mask"], kl, 0.0).sum(-1)).tolist()})
    return made


def make_entropy_target():
    target, step, limit, c = 0.2, 0.005, 0.012, 0.001
    entropies = [0.5, 0.21, 0.2, 0.15, 0.1, 0.19, 0.05, 0.3, 0.4, 0.5, 0.6]
    applied, coefficients = [], []
    for e in entropies:
        applied.append(c if e <= target else 0.0)
        c = min(max(c + step * ((e < target) - (e > target)), 0.0), limit)
        coefficients.append(c)
    return {"entropy": target, "step": step, "max": limit, "start": 0.001, "entropies": entropies, "applied": applied,
            "coefficients": coefficients}


if __name__ == "__main__":
    path = Path(__file__).with_name("losses.json")
    made = {"losses": make_losses(), "advantages": make_advantages(), "reward_kl": make_reward_kl(),
            "entropy_target": make_entropy_target()}
    path.write_text(json.dumps(made) + "\n")
    print(path, path.stat().st_size, "bytes,", len(made["losses"]), "losses")
