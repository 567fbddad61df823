"""Makes `presets.json`: the whole losses of OISD and DSRL on a model, with their gradients.

    python make_presets.py       (writes beside itself; needs torch and transformers)

Everything is computed in float64 by torch and its autograd, on `qwen3-tied/rollouts.jsonl`; d = logp - old at `temperature`, rollout i has
the advantage [1, -0.5, 0.25][i % 3], and every loss is the mean over all response tokens of max(-A r, -A clip(r, 0.8, 1.2)), r = exp(d).

`oisd` adds the token's advantage times JS(p || q) = (KL(p || m) + KL(q || m)) / 2, m = (p + q) / 2, with q the full policy, detached, and
    p = softmax(norm_final(H^3) E_u^T / temperature), of the stream after layer 3 (arXiv 2605.29089, as docs/algorithms.md has it)
`dsrl` is of the responses without their prompts: the model reads the response alone, and its first token, which nothing precedes, has no
    loss; tokens of advantages above 0 have loss 0 and are counted (arXiv 2604.14142, its first phase)

Each has temperature, old_log_probs (by rollout; in dsrl of the tokens after the first, none for responses of one token), loss, divergence
    (the mean JS, 0 in dsrl), grad_norm, and first_moments as in `critic.json`: AdamW's, of gradients that are not clipped.
"""
import json
from pathlib import Path

import torch

from make_critic import FOLDER, moments_by_parameter
from make_reference import load, token_surrogate

ADVANTAGES = [1.0, -0.5, 0.25]
OFFSETS = [-0.1, 0.3, 0.05, -0.35]


def logits_of(model, ids, start, n, temperature, layer=None):
    """Logits of the full policy, and of a layer's, at the states that predict the response."""
    kept = []
    hook = lambda _m, _a, out: kept.append(out[0] if isinstance(out, tuple) else out)
    handle = model.model.layers[(layer or 1) - 1].register_forward_hook(hook)
    full = model(input_ids=torch.tensor([ids]), use_cache=False).logits
    handle.remove()
    of_layer = model.lm_head(model.model.norm(kept[0])) if layer else full
    return [x.reshape(-1, x.shape[-1])[start : start + n] / temperature for x in (full, of_layer)]


def js(log_p, log_q):
    log_m = ((log_p.exp() + log_q.exp()) / 2).log()
    return ((log_p.exp() * (log_p - log_m)).sum(-1) + (log_q.exp() * (log_q - log_m)).sum(-1)) / 2


def case(name, rollouts, temperature):
    model = load(FOLDER).double()
    tokens = sum(len(r["response"]) - (name == "dsrl") for r in rollouts)
    loss, divergence, old_log_probs = 0.0, 0.0, []
    for i, r in enumerate(rollouts):
        prompt, response = (r["response"][:1], r["response"][1:]) if name == "dsrl" else (r["prompt"], r["response"])
        if not response:
            old_log_probs.append([])
            continue
        layer = 3 if name == "oisd" else None
        full, inner = logits_of(model, prompt + response, len(prompt) - 1, len(response), temperature, layer)
        log_q = torch.log_softmax(full, -1)
        log_probs = log_q.gather(-1, torch.tensor(response)[:, None])[:, 0]
        offsets = torch.tensor([OFFSETS[(i + t) % 4] for t in range(len(response))], dtype=torch.float64)
        old = (log_probs.detach() + offsets).float().double()
        a = ADVANTAGES[i % 3]
        surrogate, _ = token_surrogate(log_probs, old, torch.tensor(a, dtype=torch.float64), 0.2, 0.2, 10.0)
        if name == "dsrl" and a > 0:
            surrogate = surrogate * 0
        loss = loss + surrogate.sum() / tokens
        if name == "oisd":
            values = js(torch.log_softmax(inner, -1), log_q.detach())
            loss, divergence = loss + (a * values).sum() / tokens, divergence + values.sum().item() / tokens
        old_log_probs.append(old.tolist())
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9, foreach=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, foreach=False)
    optimizer.step()
    print(name, loss.item(), divergence, norm.item())
    return {"temperature": temperature, "old_log_probs": old_log_probs, "loss": loss.item(), "divergence": divergence,
            "grad_norm": norm.item(), "first_moments": moments_by_parameter(model, optimizer)}


if __name__ == "__main__":
    rollouts = [json.loads(line) for line in (FOLDER / "rollouts.jsonl").read_text().splitlines()]
    out = {name: case(name, rollouts, 0.9) for name in ["oisd", "dsrl"]}
    text = ",\n".join(f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in out.items())
    Path(__file__).with_name("presets.json").write_text("{\n" + text + "\n}\n")
