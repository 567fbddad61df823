#!/usr/bin/env python3
"""Bytes and time that several processes exchange in a training step, on paper: the tables of docs/scaling.md.

    python tests/processes/scaling.py
"""

MODELS = {
    # layers, hidden, feed-forward, query heads, key-value heads, head size, vocabulary, tied unembedding
    "Qwen3-0.6B": (28, 1024, 3072, 16, 8, 128, 151936, True),
    "Qwen3-1.7B": (28, 2048, 6144, 16, 8, 128, 151936, True),
    "Qwen3-4B": (36, 2560, 9728, 32, 8, 128, 151936, True),
    "Qwen3-8B": (36, 4096, 12288, 32, 8, 128, 151936, False),
}
# Bytes per second and direction of one GPU. Below 8 GPUs all are in one machine.
NVLINK, INFINIBAND, ETHERNET = 450e9, 50e9, 1.25e9
GPUS = (1, 2, 8, 16, 64)
# A step of the paper: 128 prompts, 8 responses each, 32 prompts an update.
UPDATES = 4
RESPONSES, TOKENS = 1024, 4096
# A token with its log-prob and its text, as it is sent: 3 to 5 bytes, 5 bytes, about 4 bytes.
BYTES_PER_TOKEN = 14
# bf16 products of an H100 at the share of its peak that training reaches elsewhere.
FLOPS = 990e12 * 0.4


def parameters(layers, hidden, feed_forward, heads, kv_heads, head, vocabulary, tied, *, first=None):
    attention = hidden * head * (2 * heads + 2 * kv_heads) + 2 * head
    layer = attention + 3 * hidden * feed_forward + 2 * hidden
    embeddings = vocabulary * hidden * (1 if tied else 2)
    return embeddings + (layers if first is None else first) * layer + (hidden if first is None else 0)


def exchanged(count, gpus):
    """Bytes that each process sends in an update: a reduce-scatter and an all-gather of f32, with or without sharding."""
    return 2 * (gpus - 1) / gpus * 4 * count


def main():
    print("| model | parameters | phase 1, 6 layers | sent per update, 8 GPUs | the same in phase 1 |")
    print("| --- | --- | --- | --- | --- |")
    for name, shape in MODELS.items():
        every, few = parameters(*shape), parameters(*shape, first=6)
        sent, sent_few = (exchanged(count, 8) / 1e9 for count in (every, few))
        print(f"| {name} | {every / 1e9:.2f} B | {few / 1e9:.2f} B | {sent:.1f} GB | {sent_few:.1f} GB |")
    print()
    print("| model | GPUs | computing | NVLink, 450 GB/s | InfiniBand, 50 GB/s | 10 GbE, 1.25 GB/s | moments each, `shard = \"optimizer\"` |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, shape in MODELS.items():
        count = parameters(*shape)
        for gpus in GPUS:
            computing = 6 * count * RESPONSES * TOKENS / gpus / FLOPS
            seconds = [UPDATES * exchanged(count, gpus) / rate for rate in (NVLINK, INFINIBAND, ETHERNET)]
            local = f"{seconds[0]:.2f} s" if gpus <= 8 else "-"
            print(
                f"| {name} | {gpus} | {computing:.1f} s | {local} | {seconds[1]:.2f} s | {seconds[2]:.1f} s "
                f"| {8 * count / gpus / 1e9:.1f} GB |"
            )
    print()
    rollouts = RESPONSES * TOKENS * BYTES_PER_TOKEN
    print(f"rollouts of a step, gathered by every process: {rollouts / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
