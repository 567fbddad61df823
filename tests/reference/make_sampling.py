"""Makes `sampling.json`: restricted distributions as transformers computes them before it samples.

    python make_sampling.py         (writes beside itself; needs torch, transformers)

Each case has logits, the ids so far, sampling parameters, and the probabilities after the logits processors of `generate`
(0 for excluded tokens), computed in float64 from float32 logits.
"""

import json
from pathlib import Path

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).resolve().parent
VOCAB = 300
HISTORY = [5, 17, 17, 123, 299, 0]

PARAMS = [
    {},
    {"temperature": 0.6, "top_k": 20, "top_p": 0.95},
    {"temperature": 1.5, "top_k": 5},
    {"top_p": 0.5},
    {"top_p": 0.999},
    {"min_p": 0.1},
    {"temperature": 2.0, "min_p": 0.02},
    {"repetition_penalty": 1.3},
    {"temperature": 0.7, "top_k": 50, "top_p": 0.8, "min_p": 0.05, "repetition_penalty": 1.1},
    {"temperature": 1.2, "top_k": 100, "top_p": 0.9, "min_p": 0.2, "repetition_penalty": 2.0},
]


def main():
    model = LlamaForCausalLM(LlamaConfig(
        vocab_size=VOCAB, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1,
    ))
    g = torch.Generator().manual_seed(7)
    cases = []
    for params in PARAMS:
        logits = (2.5 * torch.randn(VOCAB, generator=g)).float()
        config = GenerationConfig(do_sample=True, **{"top_k": 0, "top_p": 1.0, "temperature": 1.0, **params})
        processors = model._get_logits_processor(
            generation_config=config, input_ids_seq_length=len(HISTORY), logits_processor=[],
        )
        scores = processors(torch.tensor([HISTORY]), logits[None].double().clone())[0]
        probs = torch.softmax(scores, -1)
        cases.append({"params": params, "logits": logits.tolist(), "history": HISTORY, "probs": probs.tolist()})
        print(params, [type(p).__name__ for p in processors], f"{int((probs > 0).sum())} tokens")
    (HERE / "sampling.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")


if __name__ == "__main__":
    main()
