"""Makes the checkpoints and values for rope scaling, biases and the Mistral family.

    python make_rope.py             (writes `rope.json` and `variants/` beside itself; needs what make_reference.py needs)

`rope.json`: configs with the frequencies and the attention factor that transformers computes for them at a sequence length.
`variants/*`: tiny random checkpoints with `expected.safetensors`: for each row of `tokens.json`, alone in its batch, the
logits `logits.{row}`; and `greedy`, the tokens that `generate` with a KV cache appends to the first row of `prompts`.
"""

import json
import shutil

import torch
from make_reference import BOS, EOS, HERE, load, randomise, rewrite_config
from safetensors.torch import save_file
from transformers import (
    LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen3Config, Qwen3ForCausalLM,
)
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

NEW_TOKENS = 16
MIN_GAP = 1e-3  # smallest allowed distance between the two best logits of a greedy step


def frequencies(config, length):
    """Of a sequence of `length` tokens, as the rotary embedding has them when it is run on one."""
    rope = LlamaRotaryEmbedding(LlamaConfig(**config))
    rope(torch.zeros(1), torch.arange(length)[None])
    return {"config": config, "length": length, "inv_freq": rope.inv_freq.tolist(), "attention_factor": rope.attention_scaling}


def write_frequencies():
    base = {"model_type": "llama", "vocab_size": 10, "hidden_size": 64, "intermediate_size": 16, "num_hidden_layers": 1,
            "num_attention_heads": 2, "max_position_embeddings": 4096}
    scalings = [
        {"rope_type": "default"},
        {"rope_type": "linear", "factor": 4.0},
        {"rope_type": "dynamic", "factor": 2.5},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
        {"rope_type": "yarn", "factor": 4.0},
        {"rope_type": "yarn", "factor": 1.0, "original_max_position_embeddings": 4096},
        {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 512, "attention_factor": 0.75},
        {"rope_type": "yarn", "factor": 40.0, "original_max_position_embeddings": 4096, "mscale": 0.707,
         "mscale_all_dim": 1.0},
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "beta_fast": 20.0, "beta_slow": 2.0,
         "truncate": False},
        {"rope_type": "yarn", "factor": None, "original_max_position_embeddings": 256},
        {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
         "original_max_position_embeddings": 1024},
    ]
    out = []
    for scaling in scalings:
        old = dict(scaling)
        old["type"] = old.pop("rope_type")
        for layout in [{"rope_theta": 500000.0, "rope_scaling": old}, {"rope_parameters": {"rope_theta": 500000.0, **scaling}}]:
            for length in [100, 4096, 5000, 16384]:
                # transformers changes the dictionaries that it is given.
                out.append(frequencies(json.loads(json.dumps({**base, **layout})), length))
                out[-1]["config"] = {**base, **layout}
    (HERE / "rope.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in out) + "\n]\n")
    print(f"rope.json: {len(out)} cases")


SIZES = dict(
    vocab_size=48, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
    tie_word_embeddings=False, bos_token_id=BOS, eos_token_id=EOS,
)


def llama_linear_biases():
    return LlamaForCausalLM(LlamaConfig(
        **SIZES, attention_bias=True, mlp_bias=True, max_position_embeddings=256,
        rope_parameters={"rope_type": "linear", "factor": 4.0, "rope_theta": 100.0},
    )), None


def llama_dynamic():
    scaling = {"type": "dynamic", "factor": 2.0}
    return LlamaForCausalLM(LlamaConfig(
        **SIZES, head_dim=12, max_position_embeddings=16,
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 100.0},
    )), {"rope_theta": 100.0, "rope_scaling": scaling}


def qwen3_yarn_biases():
    yarn = {"factor": 4.0, "original_max_position_embeddings": 16}
    return Qwen3ForCausalLM(Qwen3Config(
        **SIZES, head_dim=16, attention_bias=True, max_position_embeddings=64, use_sliding_window=False,
        rope_parameters={"rope_type": "yarn", "rope_theta": 100.0, **yarn},
    )), {"rope_theta": 100.0, "rope_scaling": {"rope_type": "yarn", "type": "yarn", **yarn}, "sliding_window": 4}


def mistral():
    return MistralForCausalLM(MistralConfig(
        **SIZES, head_dim=10, sliding_window=None, max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 100.0},
    )), None


def mistral_yarn():
    return MistralForCausalLM(MistralConfig(
        **SIZES, sliding_window=None, max_position_embeddings=64,
        rope_parameters={"rope_type": "yarn", "rope_theta": 100.0, "factor": 8.0, "original_max_position_embeddings": 8,
                         "mscale": 1.5, "mscale_all_dim": 0.5, "beta_fast": 4.0, "truncate": False},
    )), None


@torch.no_grad()
def write_variant(name, maker, seed):
    folder = HERE / "variants" / name
    folder.mkdir(parents=True)
    model, older_layout = maker()
    randomise(model, seed)
    model.generation_config.eos_token_id = EOS
    model.save_pretrained(folder)
    if older_layout is not None:
        rewrite_config(folder, ["rope_parameters", "layer_types"], older_layout)
    if name.startswith("mistral"):
        # null is not written, but the default without it is a window of 4096.
        rewrite_config(folder, [], {"sliding_window": None})
    g = torch.Generator().manual_seed(seed)
    rows = [torch.randint(3, SIZES["vocab_size"], (length,), generator=g).tolist() for length in [40, 12]]
    logits = {f"logits.{i}": load(folder)(input_ids=torch.tensor([row])).logits[0].contiguous() for i, row in enumerate(rows)}
    for _ in range(100):
        prompt = torch.randint(3, SIZES["vocab_size"], (10,), generator=g)
        out = load(folder).generate(
            prompt[None], max_new_tokens=NEW_TOKENS, do_sample=False, use_cache=True, eos_token_id=None, pad_token_id=0,
            output_logits=True, return_dict_in_generate=True,
        )
        best = torch.stack(out.logits)[:, 0].topk(2).values
        tokens = out.sequences[0, 10:]
        if (best[:, 0] - best[:, 1]).min() > MIN_GAP and len(set(tokens.tolist())) >= 4:
            break
    else:
        raise AssertionError("no prompt without a near tie")
    (folder / "tokens.json").write_text(json.dumps({"rows": rows, "prompt": prompt.tolist(), "greedy": tokens.tolist()}) + "\n")
    save_file(logits, folder / "expected.safetensors")
    print(name, f"logit std {logits['logits.0'].std():.2f}", tokens.tolist())


def main():
    write_frequencies()
    shutil.rmtree(HERE / "variants", ignore_errors=True)
    makers = [llama_linear_biases, llama_dynamic, qwen3_yarn_biases, mistral, mistral_yarn]
    for k, maker in enumerate(makers):
        write_variant(maker.__name__.replace("_", "-"), maker, seed=500 + k)


if __name__ == "__main__":
    main()
