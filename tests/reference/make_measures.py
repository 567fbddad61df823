"""Makes measures.json: what every internal policy says of a response, from transformers in float64.

    python make_measures.py        (writes beside itself; needs torch and transformers)

For each checkpoint the first row of tokens.json is cut into a prompt of 5 tokens and a response of the rest. States are taken
by forward hooks; every statistic is then written out from its definition, place by place. By norm (`none`, `final`) and site
(`layer:l`, `attn:l`, `ffn:l`, l from 1, and `full`): entropy of the site and of its input (`layer`: H^{l-1} with the same
norm; `attn`, `ffn`: what the half reads, already normed), log-probs and ranks of the response's tokens, agreement of the best
token with the full policy's, KL(site || full), KL(full || site), Jensen-Shannon, cosine of the state with what it is added to
(`layer`: with H^{l-1}), its norm, and the participation ratio of the response's states.
"""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM

HERE = Path(__file__).resolve().parent
PROMPT = 5


def states_of(model, tokens):
    """Name -> states [seq, hidden] of one forward pass, in float64."""
    found = {}

    def keep(name):
        def hook(_module, _inputs, output):
            found[name] = (output[0] if isinstance(output, tuple) else output)[0].detach()

        return hook

    handles = [model.model.embed_tokens.register_forward_hook(keep("embed"))]
    for l, layer in enumerate(model.model.layers, 1):
        for name, module in [
            (f"attn_in:{l}", layer.input_layernorm),
            (f"attn:{l}", layer.self_attn),
            (f"ffn_in:{l}", layer.post_attention_layernorm),
            (f"ffn:{l}", layer.mlp),
        ]:
            handles.append(module.register_forward_hook(keep(name)))
    with torch.no_grad():
        model(torch.tensor([tokens]))
    for handle in handles:
        handle.remove()
    stream = found["embed"]
    found["layer:0"] = stream
    for l in range(1, len(model.model.layers) + 1):
        found[f"mid:{l}"] = stream + found[f"attn:{l}"]
        stream = found[f"mid:{l}"] + found[f"ffn:{l}"]
        found[f"layer:{l}"] = stream
    return found


def participation(states):
    centred = states - states.mean(0)
    spread = torch.linalg.svdvals(centred) ** 2
    return float(spread.sum() ** 2 / (spread**2).sum())


def rounded(values):
    return [float(f"{float(value):.9g}") for value in values]


def measures(model, tokens, norm):
    response = torch.tensor(tokens[PROMPT:])
    found = {name: state[PROMPT - 1 : -1] for name, state in states_of(model, tokens).items()}
    unembed = model.lm_head.weight
    with torch.no_grad():
        final = model.model.norm
        logs = lambda state: torch.log_softmax(state @ unembed.T, -1)
        entropy = lambda state: -(logs(state).exp() * logs(state)).sum(-1)
        normed = final if norm == "final" else lambda state: state
        layers = len(model.model.layers)
        q = logs(final(found[f"layer:{layers}"]))
        sites = [(f"{kind}:{l}", kind, l) for l in range(1, layers + 1) for kind in ("attn", "ffn", "layer")]
        out = {}
        for site, kind, l in sites + [("full", "full", layers)]:
            state = final(found[f"layer:{l}"]) if kind == "full" else normed(found[site])
            p = logs(state)
            mean = ((p.exp() + q.exp()) / 2).log()
            target = p.gather(1, response[:, None])
            values = {
                "entropy": rounded(entropy(state)),
                "log_probs": rounded(target[:, 0]),
                "ranks": [int(n) for n in (p > target).sum(-1) + 1],
                "agrees": [bool(b) for b in p.argmax(-1) == q.argmax(-1)],
                "kl": rounded((p.exp() * (p - q)).sum(-1)),
                "reverse_kl": rounded((q.exp() * (q - p)).sum(-1)),
                "js": rounded(((p.exp() * (p - mean)).sum(-1) + (q.exp() * (q - mean)).sum(-1)) / 2),
            }
            if kind != "full":
                before = {"attn": f"layer:{l - 1}", "ffn": f"mid:{l}", "layer": f"layer:{l - 1}"}[kind]
                input_state = normed(found[before]) if kind == "layer" else found[f"{kind}_in:{l}"]
                values["input_entropy"] = rounded(entropy(input_state))
                values["cosine"] = rounded(torch.cosine_similarity(found[site], found[before], dim=-1))
                values["norm"] = rounded(found[site].norm(dim=-1))
                values["participation"] = rounded([participation(found[site])])[0]
            out[site] = values
    return out


def main():
    torch.set_num_threads(1)
    lines = []
    for folder in sorted(path.parent for path in HERE.glob("*/tokens.json")):
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float64, attn_implementation="eager").eval()
        tokens = json.loads((folder / "tokens.json").read_text())[0]
        for norm in ("none", "final"):
            entry = {"fixture": folder.name, "norm": norm, "prompt": tokens[:PROMPT], "response": tokens[PROMPT:]}
            lines.append(json.dumps(entry | {"sites": measures(model, tokens, norm)}))
    (HERE / "measures.json").write_text("[\n" + ",\n".join(lines) + "\n]\n")


main()
