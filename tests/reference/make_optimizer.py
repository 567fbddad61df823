"""Makes `optimizer.json`: AdamW with moments in f32 (PyTorch's), and in bf16 and 8 bits, written out in NumPy.

The maps of 8-bit numbers are those of bitsandbytes, and a number's code is that of the nearest in the map, as on GPUs. On CPUs
bitsandbytes takes it from a table, which is coarse for the smallest numbers of a block and gives a neighbour next to the middle
between two codes; above 1e-3 of the largest number its codes are compared with the nearest ones.

    pip install torch bitsandbytes numpy
    python tests/reference/make_optimizer.py
"""

import json
from pathlib import Path

import bitsandbytes as bnb
import bitsandbytes.functional as F
import numpy as np
import torch

COUNT = 300  # a block of 256 and a part of one
STEPS = 3
LR, BETA1, BETA2, EPS = 1e-2, 0.9, 0.999, 1e-8
SEED, PARAMETER, OFFSET = 7, 3, 1000


def irregular(seed, scale):
    i = np.arange(COUNT, dtype=np.float64)
    spread = 10.0 ** (-3.0 * ((i * 0.37 + seed) % 1.0))
    return (np.sin((i + seed) * 12.9898) * spread * scale).astype(np.float32)


def nearest(values, signed):
    """Codes of the nearest numbers of the map, the largest absolute values of blocks, and the numbers of the codes."""
    map = F.create_dynamic_map(signed=signed)
    values_of_codes = map.numpy()
    codes, absmax = np.zeros(COUNT, np.uint8), []
    for start in range(0, COUNT, 256):
        block = values[start : start + 256]
        absmax.append(np.abs(block).max())
        shares = block / max(absmax[-1], np.finfo(np.float32).tiny)
        codes[start : start + 256] = np.abs(shares[:, None].astype(np.float64) - values_of_codes[None]).argmin(1)
    absmax = np.array(absmax, np.float32)
    largest = absmax.repeat(256)[:COUNT]
    return codes, absmax, values_of_codes[codes] * largest


def codes(values, signed):
    codes, absmax, restored = nearest(values, signed)
    theirs, state = F.quantize_blockwise(
        torch.from_numpy(values), code=F.create_dynamic_map(signed=signed), blocksize=256
    )
    compared = np.abs(values) > 1e-3 * absmax.repeat(256)[:COUNT]
    apart = np.abs(theirs.numpy().astype(int) - codes)[compared]
    assert apart.max() <= 1 and (apart > 0).sum() <= 5 and (state.absmax.numpy() == absmax).all()
    return {"values": values.tolist(), "codes": codes.tolist(), "absmax": absmax.tolist(), "restored": restored.tolist()}


def steps(make):
    """Weights after STEPS steps of an optimizer of PyTorch's interface, and its state."""
    weights = torch.nn.Parameter(torch.from_numpy(WEIGHTS.copy()))
    optimizer = make([weights])
    for gradient in GRADIENTS:
        weights.grad = torch.from_numpy(gradient.copy())
        optimizer.step()
    return weights.detach(), optimizer.state[weights]


def splitmix64(state):
    mask = (1 << 64) - 1
    z = (state + 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def fmix32(x):
    x = x ^ (x >> np.uint32(16))
    x = x * np.uint32(0x85EBCA6B)
    x = x ^ (x >> np.uint32(13))
    x = x * np.uint32(0xC2B2AE35)
    return x ^ (x >> np.uint32(16))


def random_bits(step, rounded):
    key = splitmix64(SEED)
    for part in (PARAMETER, step, rounded):
        key = splitmix64(key ^ part)
    counters = np.arange(COUNT, dtype=np.uint32) + np.uint32(OFFSET)
    return fmix32(fmix32(counters ^ np.uint32(key & 0xFFFFFFFF)) + np.uint32(key >> 32)) >> np.uint32(16)


def stochastic(values, bits):
    return ((values.view(np.uint32) + bits) & np.uint32(0xFFFF0000)).view(np.float32)


def numpy_steps(weights, weight_decay, stored):
    """Every operation in f32; `stored` gives what is kept of weights and moments after each step."""
    f = np.float32
    w, m, v = weights, np.zeros(COUNT, f), np.zeros(COUNT, f)
    for step, g in enumerate(GRADIENTS, 1):
        size, root = f(LR / (1 - BETA1**step)), f(1 / np.sqrt(1 - BETA2**step))
        m = m * f(BETA1) + g * f(1 - BETA1)
        v = v * f(BETA2) + g * g * f(1 - BETA2)
        w = w * f(1 - LR * weight_decay) - m / (np.sqrt(v) * root + f(EPS)) * size
        unrounded = (m, v)
        w, m, v = stored(step, w, m, v)
    return w, *unrounded, m, v


def bf16_steps():
    """Weights and both moments in bf16, each rounded stochastically."""
    stored = lambda step, *all: (stochastic(x, random_bits(step, i)) for i, x in enumerate(all))
    w, _, _, m, v = numpy_steps(torch.from_numpy(WEIGHTS).bfloat16().float().numpy(), 0.1, stored)
    return {"weights": w.tolist(), "first": m.tolist(), "second": v.tolist()}


def eight_bit_steps():
    """Both moments in 8 bits."""
    stored = lambda step, w, m, v: (w, nearest(m, True)[2], nearest(v, False)[2])
    w, m, v, _, _ = numpy_steps(WEIGHTS, 0.0, stored)
    first, second = nearest(m, True), nearest(v, False)
    return {
        "weights": w.tolist(),
        "first": first[0].tolist(),
        "second": second[0].tolist(),
        "first_absmax": first[1].tolist(),
        "second_absmax": second[1].tolist(),
    }


WEIGHTS = irregular(0.3, 1.0)
GRADIENTS = [irregular(5.0 + step, 0.1) for step in range(STEPS)]
blocks = irregular(2.0, 3.0)
blocks[256:] = 0.0

plain, state = steps(lambda p: torch.optim.AdamW(p, lr=LR, betas=(BETA1, BETA2), eps=EPS, weight_decay=0.1))
result = {
    "signed_map": F.create_dynamic_map(signed=True).tolist(),
    "unsigned_map": F.create_dynamic_map(signed=False).tolist(),
    "signed": codes(irregular(2.0, 3.0), True),
    "unsigned": codes(np.abs(irregular(4.0, 1e-6)), False),
    "zeros": codes(blocks, True),
    "weights": WEIGHTS.tolist(),
    "gradients": [gradient.tolist() for gradient in GRADIENTS],
    "f32": {"weights": plain.tolist(), "first": state["exp_avg"].tolist(), "second": state["exp_avg_sq"].tolist()},
    "bf16": bf16_steps(),
    "8bit": eight_bit_steps(),
    "random_bits": random_bits(2, 0)[:16].tolist(),
    "versions": {"torch": torch.__version__, "bitsandbytes": bnb.__version__, "numpy": np.__version__},
}
Path(__file__).with_name("optimizer.json").write_text(json.dumps(result) + "\n")
