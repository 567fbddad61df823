"""Makes similarity.json: how similar the states of layers are, from transformers and numpy in float64.

    python make_similarity.py        (writes beside itself; needs torch, transformers and numpy)

For each checkpoint, the rows of tokens.json are cut into prompts of some tokens and responses of the rest, of different lengths. `base` is
the same model with other weights of its feed-forwards (each weight times 1 + 0.3 sin of its index), which the test makes too. By
layer (from 1), of the states that predict response tokens: `cosine_to_last` and `cosine_to_base`, means over all tokens; `cka_to_last` and
`cka_to_base`, linear CKA ||Y^T X||_F^2 / (||X^T X||_F ||Y^T Y||_F) of the centred states of all tokens. `derivatives`: those of `cka_to_last`
with respect to how often each response counts, by finite differences, [layer][response].
"""

import json
from pathlib import Path

import numpy
import torch
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
CUTS = [(3, 20), (7, 9), (2, 31), (4, 14)]  # tokens of the prompt, and of the response


def layer_states(model, responses):
    """[response][layer] -> states [tokens, hidden] that predict response tokens."""
    found = []
    for prompt, response in responses:
        rows = []
        hook = lambda _module, _inputs, output: rows.append((output[0] if isinstance(output, tuple) else output))
        handles = [layer.register_forward_hook(hook) for layer in model.model.layers]
        with torch.no_grad():
            model(torch.tensor([prompt + response]))
        for handle in handles:
            handle.remove()
        states = [(row[0] if row.dim() == 3 else row).numpy() for row in rows]
        found.append([state[len(prompt) - 1 : -1] for state in states])
    return found


def cosine(x, y):
    return float(((x * y).sum(1) / (numpy.linalg.norm(x, axis=1) * numpy.linalg.norm(y, axis=1))).mean())


def cka(x, y, weights):
    """Of positions that count `weights` times."""
    root = numpy.sqrt(weights)[:, None]
    x = root * (x - numpy.average(x, axis=0, weights=weights))
    y = root * (y - numpy.average(y, axis=0, weights=weights))
    norm = lambda a, b: numpy.linalg.norm(b.T @ a)
    return norm(x, y) ** 2 / (norm(x, x) * norm(y, y))


def similarity(model, tokens):
    cut = lambda row, prompt, response: (row[:prompt], row[prompt : prompt + response])
    responses = [cut(tokens[index % len(tokens)], *lengths) for index, lengths in enumerate(CUTS)]
    own = layer_states(model, responses)
    with torch.no_grad():
        for layer in model.model.layers:
            for linear in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
                index = torch.arange(linear.weight.numel(), dtype=torch.float64).reshape(linear.weight.shape)
                linear.weight.mul_(1 + 0.3 * torch.sin(index))
    base = layer_states(model, responses)
    layers = len(own[0])
    whole = lambda states, layer: numpy.concatenate([response[layer] for response in states])
    lengths = [len(response[0]) for response in own]

    def counted(x, y, response=None, step=0.0):
        counts = [1.0 + (step if index == response else 0.0) for index in range(len(lengths))]
        return float(cka(x, y, numpy.repeat(counts, lengths)))

    result = {name: [] for name in ("cosine_to_last", "cka_to_last", "cosine_to_base", "cka_to_base", "derivatives")}
    for layer in range(layers):
        x, last, z = whole(own, layer), whole(own, layers - 1), whole(base, layer)
        result["cosine_to_last"].append(cosine(x, last))
        result["cka_to_last"].append(counted(x, last))
        result["cosine_to_base"].append(cosine(x, z))
        result["cka_to_base"].append(counted(x, z))
        slope = lambda r: (counted(x, last, r, 1e-5) - counted(x, last, r, -1e-5)) / 2e-5
        result["derivatives"].append([slope(r) for r in range(len(lengths))])
    return {"responses": [{"prompt": p, "response": r} for p, r in responses]} | result


def main():
    torch.set_num_threads(1)
    lines = []
    for folder in sorted(path.parent for path in HERE.glob("*/tokens.json")):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        tokens = json.loads((folder / "tokens.json").read_text())
        lines.append(json.dumps({"fixture": folder.name} | similarity(model, tokens)))
    (HERE / "similarity.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


main()
