"""Writes evaluation.json: maj@K with its interval and quantiles of response lengths, by NumPy.

Each case has `problems`, whose responses are [answer or null, score, tokens], and the `expected` fields of an evaluation. The vote of a
problem is the mean, over the answers that most responses give, of the share of right responses among those of that answer: the expected
score when ties are broken at random, here also by drawing one of the tied answers many times.
"""

import json
from pathlib import Path

import numpy as np

Z = 1.959963985


def vote(responses):
    answers = [answer for answer, _, _ in responses if answer is not None]
    if not answers:
        return 0.0
    names, counts = np.unique(answers, return_counts=True)
    tied = names[counts == counts.max()]
    right = {name: np.mean([score > 0.5 for answer, score, _ in responses if answer == name]) for name in tied}
    drawn = np.random.default_rng(1).choice(tied, 20_000)
    expected = np.mean([right[name] for name in tied])
    assert abs(np.mean([right[name] for name in drawn]) - expected) < 0.02
    return expected


def quantiles(lengths):
    shares = {"p10": 0.1, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p90": 0.9}
    return {"responses": len(lengths)} | {name: np.quantile(lengths, share) for name, share in shares.items()}


def case(rng, problems, samples, kinds, silent):
    all_problems = []
    for _ in range(problems):
        right = str(rng.integers(kinds))
        responses = []
        for _ in range(samples):
            knows = rng.random() < 0.4
            answer = None if rng.random() < silent else right if knows else str(rng.integers(kinds))
            responses.append([answer, float(answer == right), int(rng.geometric(0.02))])
        all_problems.append(responses)
    votes = np.array([vote(responses) for responses in all_problems])
    flat = [response for responses in all_problems for response in responses]
    expected = {"maj_at_k": votes.mean(), "maj_half_width": Z * votes.std(ddof=1) / np.sqrt(problems)}
    for name, is_right in (("length_right", True), ("length_wrong", False)):
        expected[name] = quantiles([tokens for _, score, tokens in flat if (score > 0.5) == is_right])
    return {"problems": all_problems, "expected": expected}


rng = np.random.default_rng(0)
cases = [case(rng, *sizes) for sizes in ((7, 4, 3, 0.0), (12, 5, 4, 0.2), (5, 16, 6, 0.5), (30, 3, 2, 0.1))]
Path(__file__).with_name("evaluation.json").write_text(json.dumps(cases) + "\n")
