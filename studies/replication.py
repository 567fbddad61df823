#!/usr/bin/env python3
"""GRPO, Bottom-up Policy Optimization at several layers, and OISD on one model with several seeds, and tables of what they gained.

    python studies/replication.py --bupo target/release/bupo --model DIR --out runs/study [--seeds 0,1,2] [--arms grpo,bupo-15]
    python studies/replication.py --out runs/study --tables          (of the runs that are finished)

Every run is a `bupo train` with the settings in smollm2-words.toml, a folder of its own and the same number of steps. A run that was stopped is
resumed; finished ones are not run again. Needs Python 3.11 and nothing else.
"""

import argparse
import json
import math
import pathlib
import subprocess

# The settings of each arm beside those of the file. Layers are those of a model of 30.
ARMS = {
    "grpo": {"algorithm": "grpo"},
    "bupo-auto": {"phases.0.site": "auto"},
    "bupo-5": {"phases.0.site": "layer:5"},
    "bupo-15": {"phases.0.site": "layer:15"},
    "bupo-25": {"phases.0.site": "layer:25"},
    "oisd-6": {"loss": "oisd", "phases.0.steps": 24, "phases.0.sites.0.site": "layer:6"},
}
# Student's t of 0.975 by degrees of freedom.
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776}


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--bupo", default="bupo")
    options.add_argument("--model")
    options.add_argument("--out", required=True, type=pathlib.Path)
    options.add_argument("--seeds", default="0,1,2")
    options.add_argument("--arms", default=",".join(ARMS))
    options.add_argument("--set", action="append", default=[], help="a setting for every run")
    options.add_argument("--tables", action="store_true", help="run nothing")
    args = options.parse_args()
    arms = args.arms.split(",")
    if len(args.seeds.split(",")) > len(STUDENT) + 1:
        options.error(f"at most {len(STUDENT) + 1} seeds")
    if unknown := set(arms) - set(ARMS):
        options.error(f"unknown arms {', '.join(sorted(unknown))}; there are {', '.join(ARMS)}")
    if not args.tables:
        if not args.model:
            options.error("--model is needed; give a model folder")
        for seed in args.seeds.split(","):
            for arm in arms:
                train(args, arm, seed)
    print_tables(args.out, arms)


def train(args, arm, seed):
    """Makes a run, or goes on with it."""
    folder = args.out / f"{arm}-{seed}"
    if status(folder) == "finished":
        return
    if (folder / "config.toml").exists():
        subprocess.run([args.bupo, "train", "--resume", folder], check=True)
        return
    settings = pathlib.Path(__file__).with_name("smollm2-words.toml")
    # OISD has one phase, so that the file's phases are not its own.
    text = settings.read_text()
    if "loss" in ARMS[arm]:
        text = text[: text.index("[[phases]]")] + text[text.index("[data]") :]
    args.out.mkdir(parents=True, exist_ok=True)
    config = args.out / f"{arm}.toml"
    config.write_text(text)
    pairs = [f"{key}={value}" for key, value in ARMS[arm].items()] + [f"seed={seed}"] + args.set
    sets = [part for pair in pairs for part in ("--set", pair)]
    subprocess.run([args.bupo, "train", "--config", config, "--model", args.model, "--out", folder, *sets], check=True)


def status(folder):
    path = folder / "state.json"
    return json.loads(path.read_text())["status"] if path.exists() else None


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


class Run:
    """The evaluations of a finished run, and the seconds of training before each."""

    def __init__(self, folder):
        seconds, self.seconds = 0.0, {0: 0.0}
        for line in lines(folder / "metrics.jsonl"):
            seconds += line["seconds_rollout"] + line["seconds_update"]
            self.seconds[line["step"]] = seconds
        self.scores = {line["step"]: line["avg_at_k"] for line in lines(folder / "evaluations.jsonl")}
        self.last = max(self.scores)

    def gain(self, step):
        return self.scores[step] - self.scores[0]

    def gain_after(self, seconds):
        """The gain after as many seconds, between the two evaluations around them."""
        steps = sorted(self.scores)
        for before, after in zip(steps, steps[1:]):
            if self.seconds[after] >= seconds:
                share = (seconds - self.seconds[before]) / (self.seconds[after] - self.seconds[before])
                return self.gain(before) * (1 - share) + self.gain(after) * share
        return self.gain(self.last)


def mean(values):
    if not values:
        return "-"
    average = sum(values) / len(values)
    if len(values) < 2:
        return f"{average:+.3f}"
    deviation = math.sqrt(sum((value - average) ** 2 for value in values) / (len(values) - 1))
    return f"{average:+.3f} ± {STUDENT[len(values) - 1] * deviation / math.sqrt(len(values)):.3f}"


def print_tables(out, arms):
    folders = {arm: sorted(path for path in out.glob(f"{arm}-*") if status(path) == "finished") for arm in arms}
    runs = {arm: [Run(folder) for folder in folders[arm]] for arm in arms if folders[arm]}
    if not runs:
        return print("no run is finished")
    steps = sorted({step for of_arm in runs.values() for run in of_arm for step in run.scores if step > 0})
    print("Gain of Avg@K on held-out problems, with Student's 95% interval over seeds, after equal steps:\n")
    print(f"| arm | seeds | {' | '.join(f'step {step}' for step in steps)} | seconds |\n| --- | --- |{' --- |' * (len(steps) + 1)}")
    for arm, of_arm in runs.items():
        gains = [mean([run.gain(step) for run in of_arm if step in run.scores]) for step in steps]
        seconds = sum(run.seconds[run.last] for run in of_arm) / len(of_arm)
        print(f"| {arm} | {len(of_arm)} | {' | '.join(gains)} | {seconds:.0f} |")
    equal = min(run.seconds[run.last] for of_arm in runs.values() for run in of_arm)
    print(f"\nAfter equal seconds of rollouts and updates, {equal:.0f}:\n\n| arm | gain |\n| --- | --- |")
    for arm, of_arm in runs.items():
        print(f"| {arm} | {mean([run.gain_after(equal) for run in of_arm])} |")


if __name__ == "__main__":
    main()
