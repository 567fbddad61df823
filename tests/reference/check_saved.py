"""Checks that transformers loads what bupo saved, and that it computes the same.

    python check_saved.py ORIGINAL SAVED        (needs torch and transformers)

Both folders are loaded by AutoModelForCausalLM, AutoConfig, GenerationConfig and AutoTokenizer. Every weight must be equal bit for
bit in the dtype it is stored in, and logits on random tokens must be equal. Exits with 1 at the first difference.
"""

import sys
from pathlib import Path

import torch
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig


def stored(folder):
    tensors = {}
    for path in sorted(Path(folder).glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            for name in file.keys():
                assert name not in tensors, f"{name} is stored twice"
                tensors[name] = file.get_tensor(name)
    return tensors


def main(original, saved):
    ours, theirs = stored(saved), stored(original)
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())
    for name, tensor in theirs.items():
        assert ours[name].dtype == tensor.dtype, (name, ours[name].dtype, tensor.dtype)
        assert torch.equal(ours[name].view(torch.uint8), tensor.view(torch.uint8)), name
    models = [AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32) for folder in (original, saved)]
    configs = [AutoConfig.from_pretrained(folder).to_dict() for folder in (original, saved)]
    for config in configs:
        config.pop("_name_or_path", None)
    assert configs[0] == configs[1]
    if (Path(original) / "generation_config.json").exists():
        generation = [GenerationConfig.from_pretrained(folder).to_dict() for folder in (original, saved)]
        assert generation[0] == generation[1]
    if (Path(original) / "tokenizer.json").exists():
        tokenizers = [AutoTokenizer.from_pretrained(folder) for folder in (original, saved)]
        text = "17+8-5= \\boxed{20} and ünïcödé"
        assert tokenizers[0](text)["input_ids"] == tokenizers[1](text)["input_ids"]
        assert tokenizers[0].chat_template == tokenizers[1].chat_template
    torch.manual_seed(0)
    tokens = torch.randint(0, configs[0]["vocab_size"], (2, 17))
    with torch.no_grad():
        logits = [model(tokens).logits for model in models]
    assert torch.equal(logits[0], logits[1])
    print(f"{len(ours)} tensors equal bit for bit, logits equal: {saved}")


if __name__ == "__main__":
    main(*sys.argv[1:])
