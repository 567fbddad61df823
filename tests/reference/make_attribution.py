"""Makes attribution.json: direct logit attribution, from transformers in float64.

    python make_attribution.py        (writes beside itself; needs torch and transformers)

For each checkpoint, the first row of tokens.json and a token for each of its positions (the row's next token; after the last, the
most probable one): `logits`, the model's own; and what was added to them, `added`: `embed`, `attn:l`, `ffn:l` (l from 1), lists by
position. With the root mean square of the final state frozen, the final norm is linear and is applied to every contribution. The
script checks that this is the model's norm of the final state and that the contributions add up to the model's logits; norms of
transformers compute in float32. `probable` are the most probable tokens, for the attribution without a token.
"""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent


def contributions(model, tokens):
    """Name -> contribution [seq, hidden] to the stream, and the logits [seq, vocab] of one forward pass."""
    found = {}

    def keep(name):
        def hook(_module, _inputs, output):
            found[name] = (output[0] if isinstance(output, tuple) else output)[0].detach()

        return hook

    handles = [model.model.embed_tokens.register_forward_hook(keep("embed"))]
    for l, layer in enumerate(model.model.layers, 1):
        handles.append(layer.self_attn.register_forward_hook(keep(f"attn:{l}")))
        handles.append(layer.mlp.register_forward_hook(keep(f"ffn:{l}")))
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0]
    for handle in handles:
        handle.remove()
    return found, logits


def attribution(model, tokens):
    parts, logits = contributions(model, tokens)
    probable = logits.argmax(-1)
    chosen = torch.cat([torch.tensor(tokens[1:]), probable[-1:]])
    last = sum(parts.values())
    root = (last.pow(2).mean(-1, keepdim=True) + model.model.norm.variance_epsilon).sqrt()
    linear = lambda part: part / root * model.model.norm.weight
    with torch.no_grad():
        assert torch.allclose(linear(last), model.model.norm(last), rtol=1e-5, atol=1e-5)
        rows = model.lm_head.weight[chosen]
        added = {name: (linear(part) * rows).sum(-1) for name, part in parts.items()}
    logit = logits.gather(1, chosen[:, None])[:, 0]
    assert torch.allclose(sum(added.values()), logit, rtol=1e-5, atol=1e-5)
    rounded = lambda values: [float(f"{float(value):.9g}") for value in values]
    return {
        "tokens": tokens,
        "chosen": chosen.tolist(),
        "probable": probable.tolist(),
        "logits": rounded(logit),
        "added": {name: rounded(values) for name, values in added.items()},
    }


def main():
    torch.set_num_threads(1)
    lines = []
    for folder in sorted(path.parent for path in HERE.glob("*/tokens.json")):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        tokens = json.loads((folder / "tokens.json").read_text())[0]
        lines.append(json.dumps({"fixture": folder.name} | attribution(model, tokens)))
    (HERE / "attribution.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


main()
