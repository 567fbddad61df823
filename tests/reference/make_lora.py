"""Adapters of PEFT with their logits and gradients.

    python make_lora.py        (reads the checkpoints beside itself, writes lora/; needs torch, transformers, peft, safetensors)

For each adapter a folder of that name, as PEFT saves it, with random A and B, and `expected.safetensors`, float32, on the rows of the
checkpoint's tokens.json:

- `logits`: of the model with the adapter; `merged`: of the model that `merge_and_unload` gives.
- `full.NAME`, `layer.2.NAME`: the gradient of the mean log-prob of the next tokens with respect to the adapter's tensor NAME (as in
  adapter_model.safetensors), under the full policy and under layer 2's (no norm). Tensors without a gradient are left out.

    python make_lora.py check MODEL ADAPTER TOKENS.json TRACE.safetensors

checks that PEFT loads the adapter folder ADAPTER onto the model folder MODEL and gives the logits of TRACE.safetensors, which
`bupo trace` wrote.
"""

import json
import sys
from pathlib import Path

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

HERE = Path(__file__).resolve().parent
INTERNAL_LAYER = 2
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    "qwen3-all": ("qwen3-tied", dict(r=4, lora_alpha=8, target_modules=ALL)),
    "qwen2-some": (
        "qwen2-untied-sharded-bf16",
        dict(r=3, lora_alpha=5, use_rslora=True, target_modules=["q_proj", "v_proj", "down_proj"]),
    ),
    "llama-layers": ("llama3-scaled", dict(r=2, lora_alpha=4, target_modules=ALL, layers_to_transform=[1])),
}

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    ).eval()


def log_probs(model, ids, layer, unembed):
    kept = []
    inner = model.base_model.model.model
    module = inner.layers[layer - 1] if layer else inner.norm
    handle = module.register_forward_hook(lambda _m, _a, out: kept.append(out[0] if isinstance(out, tuple) else out))
    model(input_ids=ids, use_cache=False)
    handle.remove()
    log_p = torch.log_softmax(kept[0] @ unembed.T, -1)[:, :-1]
    return log_p.gather(-1, ids[:, 1:, None])[..., 0]


def make():
    for number, (name, (base, settings)) in enumerate(ADAPTERS.items()):
        torch.manual_seed(17 + number)
        model = peft.get_peft_model(load(HERE / base), peft.LoraConfig(task_type="CAUSAL_LM", **settings))
        model.base_model.model.config._name_or_path = base
        for config in model.peft_config.values():
            config.base_model_name_or_path = base
        trained = {n.replace(".default", ""): p for n, p in model.named_parameters() if p.requires_grad}
        for tensor in trained.values():
            tensor.data.normal_(0.0, 0.3)
        folder = HERE / "lora" / name
        model.save_pretrained(folder)
        (folder / "README.md").unlink(missing_ok=True)
        ids = torch.tensor(json.loads((HERE / base / "tokens.json").read_text()))
        expected = {"logits": model(input_ids=ids, use_cache=False).logits.detach()}
        unembed = model.base_model.model.lm_head.weight.detach()
        for key, layer in [("full", None), (f"layer.{INTERNAL_LAYER}", INTERNAL_LAYER)]:
            mean = log_probs(model, ids, layer, unembed).mean()
            grads = torch.autograd.grad(mean, list(trained.values()), allow_unused=True)
            expected.update({f"{key}.{n}": g for n, g in zip(trained, grads) if g is not None})
        expected["merged"] = model.merge_and_unload()(input_ids=ids, use_cache=False).logits.detach()
        save_file({n: t.contiguous().clone() for n, t in expected.items()}, folder / "expected.safetensors")


def check(base, adapter, tokens, trace):
    model = peft.PeftModel.from_pretrained(load(base), adapter).eval()
    ids = torch.tensor(json.loads(Path(tokens).read_text()))
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits
        with model.disable_adapter():
            plain = model(input_ids=ids, use_cache=False).logits
    ours = load_file(trace)["logits"]
    difference, change = (ours - expected).abs().max().item(), (plain - expected).abs().max().item()
    print(f"logits differ by {difference:.2e} at most; the adapter changes them by {change:.2e}")
    assert difference < 1e-4 * max(1.0, expected.abs().max().item()) and change > 10 * difference


if __name__ == "__main__":
    check(*sys.argv[2:]) if sys.argv[1:2] == ["check"] else make()
