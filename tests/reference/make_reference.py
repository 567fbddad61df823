"""Makes the reference values that the tests compare against.

    python make_reference.py        (writes beside itself; needs torch, transformers, numpy, safetensors)

Everything here comes from the `transformers` models (eager attention, float32) with forward hooks, and from torch's
autograd and AdamW. Layers are 1-based in names such as `entropy.layer.3`; `blocks.0.` is the 0-based hook naming.
Running it twice gives byte-identical files with the same library versions on the same machine.
"""

import json
import math
import platform
import shutil
import struct
from pathlib import Path

import numpy
import safetensors
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

HERE = Path(__file__).resolve().parent
BOS, EOS = 1, 2
INTERNAL_LAYER = 2  # the 1-based layer of every "layer:2" value
NEW_TOKENS = 12
MIN_GAP = 1e-3  # smallest allowed distance between the two best logits of a greedy step

# One thread and no nondeterministic kernels, so that sums are always taken in the same order.
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
transformers.utils.logging.disable_progress_bar()
transformers.utils.logging.set_verbosity_error()


# ---------------------------------------------------------------------------------------------------------------------
# Writing


def write_json(path, value):
    """One line per top-level entry: still readable in a diff, without one line per number."""
    body = ",\n".join(f"  {json.dumps(k)}: {json.dumps(v)}" for k, v in value.items())
    path.write_text("{\n" + body + "\n}\n")


def rows_to_lists(rows):
    return [[float(x) for x in row] for row in rows]


# ---------------------------------------------------------------------------------------------------------------------
# Checkpoints


def randomise(model, seed):
    """Random values everywhere, large enough that every weight matters to the logits.

    Norm weights are not 1 and biases are not 0, so a missing norm or bias shows. Queries and keys are scaled up so that
    attention is far from uniform, and a wrong rotary embedding shows. The two outputs of a layer are scaled up against
    the embedding, or a tied model would only repeat its input token.
    """
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=g)
            if name.endswith(("q_norm.weight", "k_norm.weight")):
                p.copy_(1.5 + 0.2 * noise)
            elif "norm" in name:
                p.copy_(1.0 + 0.2 * noise)
            elif name.endswith(".bias"):
                p.copy_(0.3 * noise)
            elif "embed_tokens" in name or "lm_head" in name:
                p.copy_(0.45 * noise)
            else:
                gain = 1.4 if name.endswith(("q_proj.weight", "k_proj.weight")) else 0.9
                gain = 2.0 if name.endswith(("o_proj.weight", "down_proj.weight")) else gain
                p.copy_(noise * gain / math.sqrt(p.shape[1]))


def save_checkpoint(folder, model, seed, dtype, max_shard_size="50MB"):
    randomise(model, seed)
    model.generation_config.bos_token_id = BOS
    model.generation_config.eos_token_id = EOS
    model.to(dtype).save_pretrained(folder, max_shard_size=max_shard_size)


def load(folder):
    """Loaded from the files on disk, so rounded weights are what the reference uses; computed in float32."""
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", local_files_only=True
    )
    assert all(p.dtype == torch.float32 for p in model.parameters())
    return model.eval()


def rewrite_config(folder, remove, add):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for key in remove:
        config.pop(key, None)
    config.update(add)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def default_inv_freq(theta, head_dim):
    return torch.tensor([theta ** (-2.0 * i / head_dim) for i in range(head_dim // 2)])


def make_qwen3_tied(folder):
    config = Qwen3Config(
        vocab_size=151, hidden_size=40, intermediate_size=72, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, head_dim=14, tie_word_embeddings=True, max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, bos_token_id=BOS, eos_token_id=EOS,
        use_cache=False,
    )
    save_checkpoint(folder, Qwen3ForCausalLM(config), seed=11, dtype=torch.float32)
    assert "rope_parameters" in json.loads((folder / "config.json").read_text())
    assert "lm_head.weight" not in load_file(folder / "model.safetensors")
    model = load(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, default_inv_freq(10000.0, 14))
    return model


def make_qwen2_untied_sharded_bf16(folder):
    config = Qwen2Config(
        vocab_size=133, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=6,
        num_key_value_heads=3, tie_word_embeddings=False, max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 1000000.0}, bos_token_id=BOS, eos_token_id=EOS,
        use_cache=False,
    )
    save_checkpoint(folder, Qwen2ForCausalLM(config), seed=22, dtype=torch.bfloat16, max_shard_size="45KB")
    assert len(list(folder.glob("model-*.safetensors"))) >= 3
    # The layout that checkpoints had before `rope_parameters`. The window is there and must not be used.
    rewrite_config(
        folder,
        remove=["rope_parameters", "dtype", "layer_types", "transformers_version"],
        add={"rope_theta": 1000000.0, "rope_scaling": None, "use_sliding_window": False, "sliding_window": 5,
             "max_window_layers": 1, "torch_dtype": "bfloat16"},
    )
    model = load(folder)
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, default_inv_freq(1000000.0, 8))
    for layer in model.model.layers:
        attn = layer.self_attn
        assert min(attn.q_proj.bias.abs().max(), attn.k_proj.bias.abs().max(), attn.v_proj.bias.abs().max()) > 0.1
    return model


LLAMA3_THETA = 300.0
LLAMA3_SCALING = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                  "original_max_position_embeddings": 64}


def make_llama3_scaled(folder):
    config = LlamaConfig(
        vocab_size=117, hidden_size=36, intermediate_size=64, num_hidden_layers=3, num_attention_heads=3,
        num_key_value_heads=1, head_dim=16, tie_word_embeddings=False, attention_bias=False, mlp_bias=False,
        max_position_embeddings=512, rms_norm_eps=1e-5, rope_parameters={**LLAMA3_SCALING, "rope_theta": LLAMA3_THETA},
        bos_token_id=BOS, eos_token_id=EOS, use_cache=False,
    )
    save_checkpoint(folder, LlamaForCausalLM(config), seed=33, dtype=torch.float32)
    (folder / "config.rope_parameters.json").write_text((folder / "config.json").read_text())
    rewrite_config(
        folder,
        remove=["rope_parameters", "dtype", "transformers_version"],
        add={"rope_theta": LLAMA3_THETA, "rope_scaling": LLAMA3_SCALING, "torch_dtype": "float32"},
    )
    model = load(folder)

    # Some frequencies must fall in each of the three regimes, and both config layouts must mean the same ones.
    plain = default_inv_freq(LLAMA3_THETA, 16).double()
    wavelength = 2 * math.pi / plain
    kept = wavelength < 64 / 4
    divided = wavelength > 64 / 1
    between = ~kept & ~divided
    assert kept.sum() >= 1 and divided.sum() >= 1 and between.sum() >= 1, (kept, between, divided)
    smooth = (64 / wavelength - 1) / (4 - 1)
    scaled = torch.where(kept, plain, torch.where(divided, plain / 8, (1 - smooth) * plain / 8 + smooth * plain))
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, scaled.float())
    # A reader that ignores the scaling must be far off.
    ids = torch.arange(3, 99)[None]
    with torch.no_grad():
        right = model(input_ids=ids, use_cache=False).logits
        model.model.rotary_emb.inv_freq.copy_(plain)
        wrong = model(input_ids=ids, use_cache=False).logits
        model.model.rotary_emb.inv_freq.copy_(scaled)
    assert (right - wrong).abs().max() > 1.0
    model = load(folder)
    newer = LlamaConfig(**json.loads((folder / "config.rope_parameters.json").read_text()))
    other = type(model.model.rotary_emb)(newer)
    assert torch.equal(model.model.rotary_emb.inv_freq, other.inv_freq)
    print(f"  llama3 frequencies: {kept.sum()} kept, {between.sum()} between, {divided.sum()} divided")
    return model


def make_qwen3_untied_f16(folder):
    config = Qwen3Config(
        vocab_size=101, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, head_dim=8, tie_word_embeddings=False, max_position_embeddings=256,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, bos_token_id=BOS, eos_token_id=EOS,
        use_cache=False,
    )
    save_checkpoint(folder, Qwen3ForCausalLM(config), seed=44, dtype=torch.float16)
    return load(folder)


# ---------------------------------------------------------------------------------------------------------------------
# States, entropies, log-probs


def capture(model, ids):
    """Every named state of one forward pass, plus the two normed inputs of each layer.

    Hooks, not `output_hidden_states`: there the last entry is taken after the final norm.
    """
    states, handles = {}, []

    def keep_output(name, module):
        def hook(_module, _args, output):
            states[name] = output[0] if isinstance(output, tuple) else output

        handles.append(module.register_forward_hook(hook))

    def keep_input(name, module):
        def hook(_module, args, kwargs):
            states[name] = args[0] if args else kwargs["hidden_states"]

        handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))

    keep_output("hook_embed", model.model.embed_tokens)
    for i, layer in enumerate(model.model.layers):
        keep_input(f"blocks.{i}.hook_resid_pre", layer)
        keep_output(f"blocks.{i}.normed_in", layer.input_layernorm)
        keep_output(f"blocks.{i}.hook_attn_out", layer.self_attn)
        keep_input(f"blocks.{i}.hook_resid_mid", layer.post_attention_layernorm)
        keep_output(f"blocks.{i}.normed_mid", layer.post_attention_layernorm)
        keep_output(f"blocks.{i}.hook_mlp_out", layer.mlp)
        keep_output(f"blocks.{i}.hook_resid_post", layer)
    keep_output("ln_final.hook_normalized", model.model.norm)
    states["logits"] = model(input_ids=ids, use_cache=False).logits
    for handle in handles:
        handle.remove()
    return states


def log_softmax64(state, unembed):
    return torch.log_softmax(state.double() @ unembed.double().T, dim=-1)


def entropy(state, unembed):
    """Nats, in float64 from the float32 state."""
    log_p = log_softmax64(state, unembed)
    return -(log_p.exp() * log_p).sum(-1).float()


def next_token_log_prob(state, unembed, ids):
    """[batch, seq - 1]: the log-prob of token t + 1 at position t."""
    log_p = log_softmax64(state, unembed)[:, :-1]
    return log_p.gather(-1, ids[:, 1:, None])[..., 0].float()


@torch.no_grad()
def write_expected(folder, model, rows, length, seed):
    vocab = model.config.vocab_size
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(3, vocab, (rows, length), generator=g)
    ids[:, 0] = BOS
    (folder / "tokens.json").write_text(json.dumps(ids.tolist()) + "\n")

    states = capture(model, ids)
    unembed = model.lm_head.weight
    layers = model.config.num_hidden_layers

    # The identities that the captured states must satisfy; a hook in the wrong place breaks one of them.
    total = states["hook_embed"].clone()
    for i in range(layers):
        b = f"blocks.{i}."
        before = "hook_embed" if i == 0 else f"blocks.{i - 1}.hook_resid_post"
        assert torch.equal(states[b + "hook_resid_pre"], states[before])
        assert torch.equal(states[b + "hook_resid_mid"], states[b + "hook_resid_pre"] + states[b + "hook_attn_out"])
        assert torch.equal(states[b + "hook_resid_post"], states[b + "hook_resid_mid"] + states[b + "hook_mlp_out"])
        total += states[b + "hook_attn_out"] + states[b + "hook_mlp_out"]
    torch.testing.assert_close(total, states[f"blocks.{layers - 1}.hook_resid_post"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states["logits"], states["ln_final.hook_normalized"] @ unembed.T, atol=1e-4, rtol=1e-5)

    out = {name: t.clone().contiguous() for name, t in states.items() if ".normed_" not in name}
    out["entropy.embed"] = entropy(states["hook_embed"], unembed)
    out["entropy.full"] = entropy(states["ln_final.hook_normalized"], unembed)
    out["log_probs.full"] = next_token_log_prob(states["ln_final.hook_normalized"], unembed, ids)
    for l in range(1, layers + 1):
        b = f"blocks.{l - 1}."
        out[f"entropy.layer.{l}"] = entropy(states[b + "hook_resid_post"], unembed)
        out[f"entropy.attn.{l}"] = entropy(states[b + "hook_attn_out"], unembed)
        out[f"entropy.ffn.{l}"] = entropy(states[b + "hook_mlp_out"], unembed)
        out[f"entropy.attn_in.{l}"] = entropy(states[b + "normed_in"], unembed)
        out[f"entropy.ffn_in.{l}"] = entropy(states[b + "normed_mid"], unembed)
        out[f"log_probs.layer.{l}"] = next_token_log_prob(states[b + "hook_resid_post"], unembed, ids)
    for name, t in out.items():
        assert t.dtype == torch.float32 and torch.isfinite(t).all(), name
        if name.startswith("entropy."):
            assert t.min() >= 0 and t.max() <= math.log(vocab) + 1e-6, name
    save_file(out, folder / "expected.safetensors")
    mean = {k[8:]: round(v.mean().item(), 2) for k, v in out.items() if k.startswith("entropy.")}
    print(f"  logit std {out['logits'].std():.2f}, ln V {math.log(vocab):.2f}, mean entropies {mean}")


# ---------------------------------------------------------------------------------------------------------------------
# Greedy generation


def policy_logits(model, ids, policy):
    """[batch, seq, vocab], float32. The internal policy takes the raw layer output: no norm before the unembedding."""
    if policy == "full":
        return model(input_ids=ids, use_cache=False).logits
    kept = []
    layer = model.model.layers[INTERNAL_LAYER - 1]
    handle = layer.register_forward_hook(lambda _m, _a, out: kept.append(out))
    model.model(input_ids=ids, use_cache=False)
    handle.remove()
    return model.lm_head(kept[0])


@torch.no_grad()
def greedy(model, prompt, policy):
    """Whole forward pass for every token, one prompt at a time, no cache; EOS does not stop it."""
    ids, log_probs, gap = list(prompt), [], math.inf
    for _ in range(NEW_TOKENS):
        logits = policy_logits(model, torch.tensor([ids]), policy)[0, -1].double()
        best = logits.topk(2)
        gap = min(gap, (best.values[0] - best.values[1]).item())
        token = best.indices[0].item()
        log_probs.append(torch.log_softmax(logits, -1)[token].float().item())
        ids.append(token)
    return ids[len(prompt):], log_probs, gap


def write_generate(folder, model, seed):
    # Each prompt is redrawn until no step is close enough to a tie for rounding to decide it.
    g = torch.Generator().manual_seed(seed)
    policies = ["full", f"layer:{INTERNAL_LAYER}"]
    out = {"prompts": [], **{p: {"tokens": [], "log_probs": []} for p in policies}}
    smallest = math.inf
    for length in [5, 1, 9, 3]:
        for _ in range(100):
            prompt = torch.randint(3, model.config.vocab_size, (length,), generator=g).tolist()
            results = {p: greedy(model, prompt, p) for p in policies}
            # A loop on one token would hide mistakes about positions.
            if all(r[2] > MIN_GAP for r in results.values()) and len(set(results["full"][0])) >= 4:
                break
        else:
            raise AssertionError("no prompt without a near tie")
        out["prompts"].append(prompt)
        for p, (tokens, log_probs, gap) in results.items():
            out[p]["tokens"].append(tokens)
            out[p]["log_probs"].append(log_probs)
            smallest = min(smallest, gap)
    assert smallest > MIN_GAP
    write_json(folder / "generate.json", out)
    print(f"  greedy: smallest gap {smallest:.4f}")


# ---------------------------------------------------------------------------------------------------------------------
# The GRPO objective


def group_advantages(rewards):
    """(R - mean) / (std + 1e-6), std unbiased; for a group of one the mean is 0 and the std 1."""
    r = torch.tensor(rewards, dtype=torch.float64)
    mean, std = (r.mean(), r.std(unbiased=True)) if len(rewards) > 1 else (0.0, 1.0)
    return (r - mean) / (std + 1e-6)


def token_surrogate(logp, old, adv, eps_low, eps_high, dual_clip):
    """Per-token loss. torch.clamp passes gradient 1 inside its bounds and 0 outside; on them versions of torch differ."""
    ratio = torch.exp(torch.clamp(logp - old, -20.0, 20.0))
    unclipped = -adv * ratio
    clipped = -adv * torch.clamp(ratio, 1.0 - eps_low, 1.0 + eps_high)
    surrogate = torch.maximum(unclipped, clipped)
    none = torch.zeros_like(clipped, dtype=torch.bool)
    stats = {"clipped": clipped > unclipped, "dual": none, "ratio": ratio.detach()}
    if dual_clip is not None:
        bound = -adv * dual_clip
        stats["dual"] = (adv < 0) & (surrogate > bound)
        surrogate = torch.where(adv < 0, torch.minimum(surrogate, bound), surrogate)
    return surrogate, stats


def aggregate(token_loss, mask, how):
    token_loss = torch.where(mask.bool(), token_loss, torch.zeros_like(token_loss))
    per_sequence = token_loss.sum(-1)
    if how == "token-mean":
        return per_sequence.sum() / mask.sum()
    if how == "seq-mean-token-mean":
        return (per_sequence / mask.sum(-1)).mean()
    if how == "seq-mean-token-sum":
        return per_sequence.mean()
    if how == "seq-mean-token-sum-norm":
        return per_sequence.sum() / (mask.shape[0] * mask.shape[1])
    raise ValueError(how)


def kl_term(x, y, kind):
    if kind == "k1":
        return x - y
    if kind == "k2":
        return (x - y) ** 2 / 2
    t = torch.clamp(y - x, -20.0, 20.0)
    return torch.clamp(torch.exp(t) - t - 1.0, -10.0, 10.0)


AGGREGATIONS = ["token-mean", "seq-mean-token-mean", "seq-mean-token-sum", "seq-mean-token-sum-norm"]


def write_objective():
    # Each case: d = logp - old per response token, ragged, and one advantage per sequence.
    shapes = {
        "on-policy": ([[0.0, 0.0, 0.0], [0.0], [0.0, 0.0]], [1.0, -0.5, 0.25]),
        "inside-the-clip": ([[0.1, -0.15, 0.05, 0.02], [-0.1, 0.12], [0.17]], [0.7, -1.3, 2.0]),
        "outside-both-sides-both-signs": ([[0.5, -0.6, 0.1], [0.5, -0.6, 0.1, -0.05, 0.3], [1.2]], [1.1, -0.9, 0.0]),
        "dual-clip": ([[3.0, 2.0, 2.5], [3.0, -3.0], [2.31, 2.29, 0.4, 4.0]], [0.8, -0.7, -1.4]),
        "beyond-twenty": ([[25.0, -25.0, 0.3, 19.5], [25.0, -25.0, 19.5, -19.5, 0.1], [-30.0, -0.01]], [0.6, -0.6, 1.5]),
        "one-token": ([[0.15]], [-1.0]),
    }
    options = [
        {"eps_low": 0.2, "eps_high": 0.2, "dual_clip": 10.0},
        {"eps_low": 0.2, "eps_high": 0.28, "dual_clip": 10.0},
        {"eps_low": 0.1, "eps_high": 0.3, "dual_clip": 3.0},
        {"eps_low": 0.2, "eps_high": 0.2, "dual_clip": None},
    ]
    g = torch.Generator().manual_seed(7)
    cases = []
    for name, (d_rows, adv) in shapes.items():
        width = max(len(r) for r in d_rows)
        # The padding holds ordinary-looking numbers, so that a loss that reads it is wrong.
        d = torch.full((len(d_rows), width), 0.7, dtype=torch.float64)
        mask = torch.zeros_like(d)
        for i, r in enumerate(d_rows):
            d[i, : len(r)] = torch.tensor(r, dtype=torch.float64)
            mask[i, : len(r)] = 1.0
        # Multiples of 1/64: the sum `old + d` then loses nothing that matters.
        old = -torch.randint(1, 320, d.shape, generator=g).double() / 64
        for o in options:
            for how in AGGREGATIONS:
                logp = (old + d).requires_grad_(True)
                a = torch.tensor(adv, dtype=torch.float64)[:, None].expand_as(d)
                surrogate, stats = token_surrogate(logp, old, a, **o)
                loss = aggregate(surrogate, mask, how)
                (grad,) = torch.autograd.grad(loss, logp)
                tokens = mask.sum()
                cases.append({
                    "name": name, **o, "aggregation": how, "mask": mask.int().tolist(), "old_log_probs": old.tolist(),
                    "log_probs": logp.tolist(), "advantages": adv, "loss": loss.item(), "grad": grad.tolist(),
                    "clip_fraction": ((stats["clipped"] * mask).sum() / tokens).item(),
                    "dual_clip_fraction": ((stats["dual"] * mask).sum() / tokens).item(),
                })
    assert any(c["dual_clip_fraction"] > 0 for c in cases) and any(c["clip_fraction"] > 0 for c in cases)
    for c in cases:
        assert all(v == 0 for gr, mr in zip(c["grad"], c["mask"]) for v, m in zip(gr, mr) if not m)

    # t = ref - logp. The outer bound of k3 acts from t about 2.6 up and -11 down, the inner one beyond 20.
    t = [0.0, 0.01, -0.01, 0.5, -0.5, 1.5, -2.0, 2.5, 2.7, -8.0, -10.5, -11.5, 19.0, -19.0, 25.0, -25.0, 300.0, -300.0]
    logp0 = torch.tensor([-0.25 * (i % 7) - 0.125 for i in range(len(t))], dtype=torch.float64)
    ref = logp0 + torch.tensor(t, dtype=torch.float64)
    kl = {"log_probs": logp0.tolist(), "ref_log_probs": ref.tolist()}
    for kind in ["k1", "k2", "k3"]:
        x = logp0.clone().requires_grad_(True)
        value = kl_term(x, ref, kind)
        (grad,) = torch.autograd.grad(value.sum(), x)
        kl[kind] = {"value": value.tolist(), "grad": grad.tolist()}

    groups = [[1.0, 0.0], [1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0], [0.0, 0.0], [1.0],
              [0.0], [0.25, 1.0, 0.0, 0.5], [-1.0, 2.5, 0.3]]
    text = "{\n" + '  "cases": [\n' + ",\n".join("    " + json.dumps(c) for c in cases) + "\n  ],\n"
    text += f'  "kl": {json.dumps(kl)},\n  "group_advantages": [\n'
    text += ",\n".join("    " + json.dumps({"rewards": r, "advantages": group_advantages(r).tolist()}) for r in groups)
    (HERE / "objective.json").write_text(text + "\n  ]\n}\n")
    print(f"objective.json: {len(cases)} cases")


# ---------------------------------------------------------------------------------------------------------------------
# GRPO updates


@torch.no_grad()
def write_rollouts(folder, model, seed):
    """Responses sampled from the full policy, ragged. EOS, where it is, is the last token."""
    g = torch.Generator().manual_seed(seed)
    plan = [  # prompt length, response lengths, rewards
        (6, [5, 1, 14], [1.0, 0.0, 0.0]),
        (2, [7, 3, 12, 9], [0.25, 1.0, 0.0, 0.5]),
        (9, [4, 6], [1.0, 1.0]),
        (4, [8], [1.0]),
    ]
    ends_with_eos = {5, 12, 6}
    rollouts = []
    for group, (prompt_len, lengths, rewards) in enumerate(plan):
        prompt = torch.randint(3, model.config.vocab_size, (prompt_len,), generator=g).tolist()
        for length, reward in zip(lengths, rewards):
            response = []
            while len(response) < length:
                logits = policy_logits(model, torch.tensor([prompt + response]), "full")[0, -1].double()
                logits[EOS] = -math.inf
                response.append(torch.multinomial(logits.softmax(-1), 1, generator=g).item())
            if length in ends_with_eos:
                response[-1] = EOS
            rollouts.append({"group": group, "prompt": prompt, "response": response, "reward": reward})
    (folder / "rollouts.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rollouts))
    return rollouts


def response_log_probs(model, rollout, policy):
    """One sequence alone, without padding. The state at position t predicts token t + 1."""
    ids = torch.tensor([rollout["prompt"] + rollout["response"]])
    log_p = torch.log_softmax(policy_logits(model, ids, policy)[0], dim=-1)
    start, n = len(rollout["prompt"]) - 1, len(rollout["response"])
    targets = torch.tensor(rollout["response"])
    return log_p[start : start + n].gather(-1, targets[:, None])[:, 0]


def replay(model, rollouts, policy, lr, steps):
    """`steps` updates, each over all rollouts, against log-probs taken once before the first one."""
    rewards = {}
    for r in rollouts:
        rewards.setdefault(r["group"], []).append(r["reward"])
    advantages = torch.cat([group_advantages(rewards[g]) for g in rewards]).float()
    per_token = [a.expand(len(r["response"])) for a, r in zip(advantages, rollouts)]
    tokens = sum(len(r["response"]) for r in rollouts)

    with torch.no_grad():
        old = [response_log_probs(model, r, policy) for r in rollouts]
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=lr, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01, foreach=False
    )
    updates, edge = [], math.inf
    for _ in range(steps):
        optimizer.zero_grad(set_to_none=True)
        total, clipped, dual = 0.0, 0, 0
        for r, o, a in zip(rollouts, old, per_token):
            surrogate, stats = token_surrogate(response_log_probs(model, r, policy), o, a, 0.2, 0.2, 10.0)
            total = total + surrogate.sum()
            clipped += stats["clipped"].sum().item()
            dual += stats["dual"].sum().item()
            # How near any ratio comes to a place where the loss has a kink.
            live = stats["ratio"][a != 0]
            if len(live):
                edge = min([edge] + [(live - k).abs().min().item() for k in (0.8, 1.2, 10.0)])
        loss = total / tokens
        loss.backward()
        if policy != "full":
            for layer in model.model.layers[INTERNAL_LAYER:]:
                assert all(p.grad is None for p in layer.parameters())
            assert model.model.norm.weight.grad is None
        assert model.lm_head.weight.grad is not None and model.model.embed_tokens.weight.grad is not None
        # Scales by min(1, 1 / (norm + 1e-6)) and returns the norm before that.
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0, foreach=False)
        optimizer.step()
        updates.append({"loss": loss.item(), "grad_norm": norm.item(), "clip_fraction": clipped / tokens,
                        "dual_clip_fraction": dual / tokens})
    return updates, {n: p.detach().clone() for n, p in model.named_parameters()}, edge


def write_replay(folder, rollouts, policy, name, lr, steps, store_parameters):
    before = {n: p.detach().clone() for n, p in load(folder).named_parameters()}
    updates, after, edge = replay(load(folder), rollouts, policy, lr, steps)

    # The same updates from weights moved by about one float32 rounding, and with the sequences taken in reverse: how
    # far apart two correct float32 implementations may be expected to end.
    nudged = load(folder)
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in nudged.parameters():
            p.mul_(1 + 6e-8 * torch.randn(p.shape, generator=g))
    nudged_updates, nudged_after, _ = replay(nudged, rollouts[::-1], policy, lr, steps)
    difference = torch.cat([(after[n] - nudged_after[n]).abs().flatten() for n in after])
    sensitivity = {
        "parameter_max_abs": difference.max().item(),
        "parameter_mean_abs": difference.mean().item(),
        "share_above_1e-5": (difference > 1e-5).double().mean().item(),
        "loss_abs": [abs(a["loss"] - b["loss"]) for a, b in zip(updates, nudged_updates)],
        "grad_norm_rel": [abs(a["grad_norm"] / b["grad_norm"] - 1) for a, b in zip(updates, nudged_updates)],
    }
    assert [u["clip_fraction"] for u in updates] == [u["clip_fraction"] for u in nudged_updates]
    assert [u["dual_clip_fraction"] for u in updates] == [u["dual_clip_fraction"] for u in nudged_updates]

    untouched = [n for n in after if torch.equal(before[n], after[n])]
    if policy == "full":
        assert untouched == []
    else:
        above = tuple(f"model.layers.{i}." for i in range(INTERNAL_LAYER, 99)) + ("model.norm.",)
        assert set(untouched) == {n for n in after if n.startswith(above)}
    record = {"policy": policy, "lr": lr, "updates": updates, "float32_sensitivity": sensitivity}
    write_json(folder / f"replay.{name}.json", record)
    if store_parameters:
        save_file({n: p.contiguous() for n, p in after.items()}, folder / f"replay.{name}.safetensors")
    moved = max((after[n] - before[n]).abs().max().item() for n in after)
    print(f"  replay.{name}: largest move {moved:.2e}, nearest kink {edge:.1e}, {len(untouched)} of {len(after)} untouched")
    for u in updates:
        print("   ", json.dumps(u))
    print("    sensitivity", json.dumps(sensitivity))
    return updates


# ---------------------------------------------------------------------------------------------------------------------


def check_written():
    total = 0
    for path in sorted(p for p in HERE.rglob("*") if p.is_file() and "__pycache__" not in p.parts):
        size = path.stat().st_size
        total += size
        if path.suffix == ".safetensors":
            assert all(torch.isfinite(t).all() for t in load_file(path).values()), path
            header = struct.unpack("<Q", path.read_bytes()[:8])[0]
            json.loads(path.read_bytes()[8 : 8 + header])
        elif path.suffix == ".json":
            json.loads(path.read_text())
        print(f"  {size:8d}  {path.relative_to(HERE)}")
    print(f"  {total:8d}  in all")
    assert total < 3 * 2**20


def main():
    versions = {
        "torch": torch.__version__, "transformers": transformers.__version__, "safetensors": safetensors.__version__,
        "numpy": numpy.__version__, "python": platform.python_version(),
    }
    print(json.dumps(versions))
    write_json(HERE / "VERSIONS.json", versions)

    fixtures = [  # folder, maker, token rows, token row length, has replays
        ("qwen3-tied", make_qwen3_tied, 2, 17, True),
        ("qwen2-untied-sharded-bf16", make_qwen2_untied_sharded_bf16, 2, 13, True),
        ("llama3-scaled", make_llama3_scaled, 2, 72, False),  # longer than original_max_position_embeddings
        ("qwen3-untied-f16", make_qwen3_untied_f16, 2, 11, False),
    ]
    for k, (name, maker, rows, length, has_replays) in enumerate(fixtures):
        print(name)
        folder = HERE / name
        if folder.exists():
            shutil.rmtree(folder)  # a shard or file from an earlier layout must not survive
        folder.mkdir()
        model = maker(folder)
        write_expected(folder, model, rows, length, seed=100 + k)
        write_generate(folder, model, seed=200 + k)
        if has_replays:
            rollouts = write_rollouts(folder, model, seed=301 + k)
            write_replay(folder, rollouts, "full", "full", 3e-4, 2, True)
            write_replay(folder, rollouts, f"layer:{INTERNAL_LAYER}", "layer2", 3e-4, 2, True)
        if name == "qwen3-tied":
            # Large steps, so that both clips act. No parameters: after such steps they depend on rounding.
            updates = write_replay(folder, rollouts, "full", "full-large-lr", 3e-2, 3, False)
            assert all(u["clip_fraction"] > 0 and u["dual_clip_fraction"] > 0 for u in updates[1:])
    write_objective()
    check_written()


if __name__ == "__main__":
    main()
