"""Makes `correction.json`: losses corrected for the engine that sampled, with their gradients.

    python make_correction.py       (writes beside itself; needs torch only)

Everything is computed in float64 by torch and its autograd, on the mini-batches of `algorithms.json`. The trainer's log-probs
of the full policy before the step are their `old_log_probs`; the engine's are their `ref_log_probs`.

A list of cases:
    batch                    the name of the mini-batch
    mode, max                the correction. d = trainer - engine; the ratio is exp(clamp(d, -20, 20)) of each token, or
                             exp(clamp(sum of d over the response, -20, 20)) for the modes that begin with "sequence".
                             The weight, through which no gradient flows, is min(ratio, max); for "sequence-mask" it is 0
                             where the ratio is above max
    ratio, clip_low, clip_high, dual_clip, aggregation, norm_length, kl, beta
                             as in `algorithms.json`; the surrogate of each token is multiplied by its weight, the KL
                             penalty is not. For "sequence" the surrogate is that of s = exp(min(mean log ratio, 10)),
                             differentiated as it is
    loss, d_log_probs        the value, and the derivative with respect to each log-prob
    ratio_mean, ratio_std, cut
                             mean, standard deviation (of the population) and share above max of the ratios of all tokens
"""
import json
from pathlib import Path

import torch

from make_algorithms import (AGGREGATIONS, BATCHES, aggregate, check_distance, clipped_surrogate, kl_estimate,
                             mean_log_ratio, ragged, token_ratio)


def importance(trainer, engine, mask, mode, limit):
    d = torch.where(mask, trainer - engine, 0.0)
    if mode.startswith("sequence"):
        d = d.sum(-1, keepdim=True).expand_as(d)
    ratio = torch.exp(torch.clamp(d, -20.0, 20.0))
    check_distance(ratio[mask], [limit])
    weight = ratio.masked_fill(ratio > limit, 0.0) if mode == "sequence-mask" else ratio.clamp(max=limit)
    return ratio, weight


def case(name, mode, limit, ratio, dual_clip, aggregation, norm_length, kl=None, beta=0.0):
    b = BATCHES[name]
    mask, adv = b["mask"], b["advantages"][:, None]
    clip_low, clip_high = (0.2, 0.28) if ratio == "token" else (3e-4, 4e-4)
    ratios, weights = importance(b["old_log_probs"], b["ref_log_probs"], mask, mode, limit)
    logp = b["log_probs"].clone().requires_grad_(True)
    if ratio == "token":
        r = token_ratio(logp, b["old_log_probs"], mask)
    else:
        r = torch.exp(torch.clamp(mean_log_ratio(logp, b["old_log_probs"], mask), max=10.0)).expand_as(logp)
    surrogate, _, _ = clipped_surrogate(r, adv, clip_low, clip_high, dual_clip)
    loss = aggregate(surrogate * weights, mask, aggregation, norm_length)
    if kl is not None:
        loss = loss + beta * aggregate(kl_estimate(logp, b["ref_log_probs"], kl), mask, aggregation, norm_length)
    (d_logp,) = torch.autograd.grad(loss, logp)
    tokens = ratios[mask]
    return {
        "batch": name, "mode": mode, "max": limit, "ratio": ratio, "clip_low": clip_low, "clip_high": clip_high,
        "dual_clip": dual_clip, "aggregation": aggregation, "norm_length": norm_length, "kl": kl, "beta": beta,
        "loss": loss.item(), "d_log_probs": ragged(d_logp, b["lengths"]),
        "ratio_mean": tokens.mean().item(), "ratio_std": tokens.std(unbiased=False).item(),
        "cut": (tokens > limit).double().mean().item(),
    }


def make():
    cases = []
    for mode in ["token-truncate", "sequence-truncate", "sequence-mask"]:
        for name in ["ordinary", "extreme"]:
            for limit in [1.25, 2.0, 3.0]:
                cases.append(case(name, mode, limit, "token", 10.0, "token-mean", None))
        for how, norm in AGGREGATIONS:
            cases.append(case("ordinary", mode, 2.0, "token", 10.0, how, norm, kl="k3", beta=0.05))
        cases.append(case("sequence", mode, 2.0, "sequence", None, "seq-mean-token-mean", None))
    assert any(0 < c["cut"] < 1 for c in cases)
    return cases


if __name__ == "__main__":
    path = Path(__file__).with_name("correction.json")
    path.write_text(json.dumps(make()) + "\n")
    print(path.name, len(make()), "cases")
