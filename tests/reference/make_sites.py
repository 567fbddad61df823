"""Makes `sites.json`: losses that are divergences of an internal policy from the full policy, with their gradients.

    python make_sites.py       (writes beside itself; needs torch only)

Everything is computed in float64 by torch and its autograd. p = softmax(states unembedding^T / temperature) and q, the full policy, the
same of full_states. The loss is the sum over states of weights times
    kl            sum of p (ln p - ln q)
    reverse-kl    sum of q (ln q - ln p)
    js            (sum of p (ln p - ln m) + sum of q (ln q - ln m)) / 2, m = (p + q) / 2
with q detached or not. All inputs are multiples of a power of two, so that they are the same numbers in float32.

`states`, `full_states` [T, d], `unembedding` [V, d], `weights` [T], and the list `cases`:
    divergence, temperature, detached
    values                                          [T]
    d_states, d_full_states, d_unembedding          the loss's gradients; d_full_states is null if q is detached
"""
import json
from pathlib import Path

import torch

T, D, V = 7, 5, 13


def rounded(x):
    return torch.round(x.double() * 1024) / 1024


def case(states, full_states, unembedding, weights, divergence, temperature, detached):
    h, f, e = (x.clone().requires_grad_(True) for x in (states, full_states, unembedding))
    log_p = torch.log_softmax(h @ e.T / temperature, -1)
    full = (f.detach() @ e.detach().T) if detached else f @ e.T
    log_q = torch.log_softmax(full / temperature, -1)
    p, q = log_p.exp(), log_q.exp()
    if divergence == "kl":
        values = (p * (log_p - log_q)).sum(-1)
    elif divergence == "reverse-kl":
        values = (q * (log_q - log_p)).sum(-1)
    else:
        log_m = ((p + q) / 2).log()
        values = ((p * (log_p - log_m)).sum(-1) + (q * (log_q - log_m)).sum(-1)) / 2
    inputs = [h, e] if detached else [h, e, f]
    d = torch.autograd.grad((weights * values).sum(), inputs)
    return {"divergence": divergence, "temperature": temperature, "detached": detached, "values": values.tolist(),
            "d_states": d[0].tolist(), "d_unembedding": d[1].tolist(),
            "d_full_states": None if detached else d[2].tolist()}


if __name__ == "__main__":
    g = torch.Generator().manual_seed(5)
    states, full_states = rounded(torch.randn(T, D, generator=g)), rounded(1.5 * torch.randn(T, D, generator=g))
    full_states[1] = states[1]  # equal policies
    full_states[2] *= 16  # a sharp one
    unembedding, weights = rounded(torch.randn(V, D, generator=g)), rounded(torch.randn(T, generator=g))
    cases = [case(states, full_states, unembedding, weights, divergence, temperature, detached)
             for divergence in ["kl", "reverse-kl", "js"] for temperature in [1.0, 0.7] for detached in [True, False]]
    out = {"states": states.tolist(), "full_states": full_states.tolist(), "unembedding": unembedding.tolist(),
           "weights": weights.tolist(), "cases": cases}
    path = Path(__file__).with_name("sites.json")
    path.write_text(json.dumps(out) + "\n")
    print(path.name, path.stat().st_size, "bytes")
