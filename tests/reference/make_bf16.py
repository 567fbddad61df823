"""How far bf16 takes transformers from float32: the measure for how far it may take us.

    python make_bf16.py        (reads the checkpoints beside itself, writes bf16.json; needs torch, transformers)

Of each checkpoint, loaded in float32 and again in bfloat16 (eager attention), on the rows of its tokens.json:

- `log_probs.full`, `log_probs.layer.{l}`: the root of the mean square of the difference of the next tokens' log-probs. The unembedding
  is computed in float64 from the states of either, so that what differs is the layers.
- `gradient.full`, `gradient.layer.{l}`: the norm of the difference of the gradients of the mean log-prob with respect to the layers'
  projections, over the norm of the float32 one.
"""

import json
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).resolve().parent
FIXTURES = ["qwen3-tied", "qwen2-untied-sharded-bf16", "llama3-scaled", "qwen3-untied-f16"]
INTERNAL_LAYER = 2

torch.set_num_threads(1)
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()


def load(folder, dtype):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=dtype, attn_implementation="eager", local_files_only=True
    ).eval()


def log_probs(model, ids, layer, unembed):
    """[batch, seq - 1] of the full policy, or of a layer's without a norm."""
    kept = []
    module = model.model.layers[layer - 1] if layer else model.model.norm
    handle = module.register_forward_hook(lambda _m, _a, out: kept.append(out[0] if isinstance(out, tuple) else out))
    model.model(input_ids=ids, use_cache=False)
    handle.remove()
    log_p = torch.log_softmax(kept[0].double() @ unembed.double().T, -1)[:, :-1]
    return log_p.gather(-1, ids[:, 1:, None])[..., 0]


def gradient(model, values):
    parameters = [p for name, p in model.named_parameters() if name.endswith("proj.weight")]
    grads = torch.autograd.grad(values.mean(), parameters, allow_unused=True)
    return torch.cat([g.double().flatten() for g in grads if g is not None])


def main():
    out = {}
    for name in FIXTURES:
        exact, rounded = load(HERE / name, torch.float32), load(HERE / name, torch.bfloat16)
        ids = torch.tensor(json.loads((HERE / name / "tokens.json").read_text()))
        unembed = exact.lm_head.weight.detach()
        out[name] = {}
        for key, layer in [("full", None), (f"layer.{INTERNAL_LAYER}", INTERNAL_LAYER)]:
            a, b = log_probs(exact, ids, layer, unembed), log_probs(rounded, ids, layer, unembed)
            out[name][f"log_probs.{key}"] = (a - b).square().mean().sqrt().item()
            g, h = gradient(exact, a), gradient(rounded, b)
            out[name][f"gradient.{key}"] = ((g - h).norm() / g.norm()).item()
    body = ",\n".join(f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in out.items())
    (HERE / "bf16.json").write_text("{\n" + body + "\n}\n")


if __name__ == "__main__":
    main()
