"""Makes tuned_lens.safetensors and tuned_lens.json: a tuned lens and what fits it, from transformers in float64.

    python make_tuned_lens.py        (writes beside itself; needs torch and transformers)

`tuned_lens.safetensors` is a random lens of qwen3-tied, with the names of the package tuned-lens: `{i}.weight`, `{i}.bias` of the state
after i layers, h becoming h + h W^T + b (arXiv 2303.08112, equation 8). `tuned_lens.json`: `prompt`, `response`; for every i
`losses`, the means over the response's tokens of KL(full || lens); of layers 1 and above, `entropy` and `reverse_kl` by token; and
`gradients`, those of `losses[i]` by `{i}.weight` and `{i}.bias`, flattened. Norms of transformers compute in float32.
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
PROMPT, RESPONSE = [5, 17, 80, 3], [44, 9, 120, 61, 7, 2]


def rounded(values):
    return [float(f"{float(value):.9g}") for value in values.flatten()]


def main():
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(HERE / "qwen3-tied", dtype=torch.float64, attn_implementation="eager").eval()
    width, layers = model.config.hidden_size, model.config.num_hidden_layers
    generator = torch.Generator().manual_seed(3)
    lens = {}
    for i in range(layers):
        lens[f"{i}.weight"] = torch.randn(width, width, generator=generator) * 0.05
        lens[f"{i}.bias"] = torch.randn(width, generator=generator) * 0.05
    save_file(lens, HERE / "tuned_lens.safetensors")
    lens = {name: value.double().requires_grad_() for name, value in lens.items()}
    positions = slice(len(PROMPT) - 1, len(PROMPT) + len(RESPONSE) - 1)
    with torch.no_grad():
        out = model(torch.tensor([PROMPT + RESPONSE]), output_hidden_states=True)
    full = out.logits[0, positions].log_softmax(-1)
    losses, entropy, reverse_kl = [], [], []
    for i in range(layers):
        state = out.hidden_states[i][0, positions]
        translated = state + state @ lens[f"{i}.weight"].T + lens[f"{i}.bias"]
        logs = model.lm_head(model.model.norm(translated)).log_softmax(-1)
        kl = (full.exp() * (full - logs)).sum(-1)
        kl.mean().backward()
        losses.append(float(kl.detach().mean()))
        entropy.append(rounded(-(logs.exp() * logs).sum(-1).detach()))
        reverse_kl.append(rounded(kl.detach()))
    case = {
        "prompt": PROMPT,
        "response": RESPONSE,
        "losses": losses,
        "entropy": entropy[1:],
        "reverse_kl": reverse_kl[1:],
        "gradients": {name: rounded(value.grad) for name, value in lens.items()},
    }
    (HERE / "tuned_lens.json").write_text(json.dumps(case) + "\n")


main()
