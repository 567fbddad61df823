"""The work of `bupo bench` by transformers and PyTorch, or a rollout by vLLM, with random weights; prints one line of JSON.

    peer.py --engine torch|vllm --shape FOLDER --mode rollout|train|phase1 ...      the options of `bupo bench`
"""
import argparse
import json
import resource
import time

parser = argparse.ArgumentParser()
parser.add_argument("--engine", choices=["torch", "vllm"], default="torch")
parser.add_argument("--mode", choices=["rollout", "train", "phase1"], required=True)
parser.add_argument("--shape", required=True, help="folder with a config.json")
parser.add_argument("--device", default="cuda")
parser.add_argument("--dtype", default="bfloat16")
parser.add_argument("--recompute", action="store_true")
for name, default in [("batch", 8), ("seq", 64), ("new", 64), ("group", 8), ("layer", 6), ("max-tokens-per-batch", 4096), ("runs", 3)]:
    parser.add_argument(f"--{name}", type=int, default=default)
args = parser.parse_args()
prompts = -(-args.batch // args.group)


def print_result(run, tokens, peak_mb):
    """Times a run after a first one; the median counts."""
    run()
    seconds = []
    for _ in range(args.runs):
        started = time.time()
        run()
        seconds.append(time.time() - started)
    print(json.dumps({"tokens_per_second": tokens / sorted(seconds)[len(seconds) // 2], "seconds": seconds, "peak_mb": peak_mb()}))


def vllm_rollout():
    from vllm import LLM, SamplingParams

    llm = LLM(args.shape, load_format="dummy", skip_tokenizer_init=True, dtype=args.dtype, max_model_len=args.seq + args.new,
              enable_prefix_caching=False)
    sampling = SamplingParams(n=args.group, temperature=1.0, max_tokens=args.new, ignore_eos=True, detokenize=False)
    ids = [{"prompt_token_ids": [(i * 7919 + j) % 251 for j in range(args.seq)]} for i in range(prompts)]
    print_result(lambda: llm.generate(ids, sampling, use_tqdm=False), prompts * args.group * args.new, lambda: 0)


def torch_work():
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    on_gpu = args.device == "cuda"
    with torch.device(args.device):
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(args.shape), dtype=getattr(torch, args.dtype))
    vocab = model.config.vocab_size
    sync = torch.cuda.synchronize if on_gpu else lambda: None

    def peak_mb():
        return torch.cuda.max_memory_allocated() / 2**20 if on_gpu else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    if args.mode == "rollout":
        ids = torch.randint(vocab, (prompts, args.seq), device=args.device).repeat_interleave(args.group, 0)
        options = dict(max_new_tokens=args.new, min_new_tokens=args.new, do_sample=True, temperature=1.0, top_k=0, eos_token_id=None,
                       pad_token_id=0)

        def generate():
            model.generate(ids, attention_mask=torch.ones_like(ids), **options)
            sync()

        with torch.no_grad():
            return print_result(generate, len(ids) * args.new, peak_mb)
    if args.recompute:
        model.gradient_checkpointing_enable()
        model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=on_gpu)
    ids = torch.randint(vocab, (args.batch, args.seq), device=args.device)
    advantages = torch.randn(args.batch, 1, device=args.device)
    rows = max(1, args.max_tokens_per_batch // args.seq)

    def update():
        for some, advantage in zip(ids.split(rows), advantages.split(rows)):
            # The policy of a layer as the method's reference reads it: every layer runs, and the layer's state is unembedded.
            out = model.model(input_ids=some, use_cache=False, output_hidden_states=args.mode == "phase1")
            states = out.hidden_states[args.layer] if args.mode == "phase1" else out.last_hidden_state
            log_probs = torch.log_softmax(model.lm_head(states[:, :-1]).float(), -1).gather(2, some[:, 1:, None])[..., 0]
            ratio = (log_probs - log_probs.detach()).exp()
            loss = torch.maximum(-advantage * ratio, -advantage * ratio.clamp(0.8, 1.2)).sum() / ids.numel()
            loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        sync()

    return print_result(update, ids.numel(), peak_mb)


if __name__ == "__main__":
    vllm_rollout() if args.engine == "vllm" else torch_work()
