#!/usr/bin/env python3
"""Training by several processes under mpirun, beside one process, and what happens when one of them fails.

    cargo build --release --workspace --bins --examples --features bupo-cli/mpi
    python tests/processes/mpi.py --bupo target/release/bupo [--mpirun mpirun] [--short] [--model DIR]

Needs Python 3.11 and nothing else. With --model, a folder of a model with a chat template, only the first part is run, on word problems. --short leaves out the failures that take long. A run on a full disk needs the right to mount a
small file system; without it that part says so and is left out. A panic is that of the example mpi_check, beside the program.
"""

import argparse
import json
import os
import pathlib
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time

SETTINGS = {
    "phases.0.site": "layer:2",
    "phases.0.steps": 1,
    "phases.1.steps": 1,
    "rollout.prompts": 8,
    "rollout.group_size": 3,
    "rollout.max_new_tokens": 24,
    "rollout.keep": "all",
    "update.mini_batch_prompts": 4,
    "evaluation.problems": 6,
    "evaluation.samples": 1,
    "probe.every": 1,
    "checkpoint.every": 1,
    "save_dtype": "f32",
}
TOLERANCE = 1e-5
# With a real model: responses that earn rewards, at a depth of its own.
MODEL_SETTINGS = {
    "phases.0.site": "layer:10",
    "data.task": "arithmetic-words",
    "data.max_prompt_tokens": 128,
    "task.max_terms": 2,
    "task.max_number": 10,
    "rollout.prompts": 4,
    "rollout.group_size": 8,
    "rollout.max_new_tokens": 16,
    "update.mini_batch_prompts": 2,
    "evaluation.problems": 2,
    "checkpoint.every": 0,
    "optimizer.learning_rate": 1e-5,
}
MODEL_TOLERANCE = 1e-6
# AdamW's first steps move a weight by the learning rate, also where its gradient is of the size of rounding errors: of the
# millions of weights of a real model, this share may be further off.
FURTHER_OFF = 1e-4
# The runs that are compared. Of a real model's tens of thousands of tokens many are so improbable that rounding changes which of two
# a response of step 2 has, so that each phase is a run of its own.
RUNS = {"both phases": {}}
MODEL_RUNS = {
    "layer 10": {"phases.0.steps": 1, "phases.1.steps": 0},
    "full policy": {"phases.0.steps": 0, "phases.1.steps": 1},
}


def main():
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--bupo", required=True)
    options.add_argument("--mpirun", default="mpirun")
    options.add_argument("--model", help="a model folder instead of the embedded model")
    options.add_argument("--short", action="store_true")
    args = options.parse_args()
    if args.model:
        SETTINGS.update(MODEL_SETTINGS)
    with tempfile.TemporaryDirectory() as folder:
        check = Check(args, pathlib.Path(folder))
        check.same_as_one_process()
        if args.model:
            return print("all checks passed")
        check.resumed_by_another_number()
        check.killed()
        check.panicking()
        check.wrong_input()
        if not args.short:
            check.stopped()
            check.hanging()
            check.full_disk()
    print("all checks passed")


class Check:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.tolerance = MODEL_TOLERANCE if args.model else TOLERANCE
        # As many threads each, so that only the number of processes differs.
        self.environment = {**os.environ, "RAYON_NUM_THREADS": "1"}

    def command(self, size, arguments):
        launcher = [self.args.mpirun, "-n", str(size)] if size > 0 else []
        return launcher + [self.args.bupo, *arguments]

    def arguments(self, out, more=None):
        pairs = {**SETTINGS, **(more or {})}
        model = ["--model", self.args.model] if self.args.model else []
        sets = [part for key, value in pairs.items() for part in ("--set", f"{key}={value}")]
        return ["train", "--device", "cpu", "--dtype", "f32", "--out", str(out), *model, *sets]

    def run(self, size, arguments, succeeds=True):
        done = subprocess.run(
            self.command(size, arguments), env=self.environment, capture_output=True, text=True, timeout=900
        )
        if (done.returncode == 0) != succeeds:
            sys.exit(f"{arguments} by {size} ended with {done.returncode}\n{done.stdout}{done.stderr}")
        return done.stdout + done.stderr

    def same_as_one_process(self):
        for name, settings in (MODEL_RUNS if self.args.model else RUNS).items():
            alone = self.folder / f"alone-{name}"
            self.run(0, self.arguments(alone, settings))
            assert any(line["reward"] > 0 for line in lines(alone, 1)), "no response of step 1 has a reward: nothing is learned"
            for size, shard in ((1, "none"), (2, "none"), (2, "optimizer"), (3, "none"), (3, "optimizer")):
                self.same_as(alone, name, settings, size, shard)

    def same_as(self, alone, name, settings, size, shard):
        out = self.folder / f"{name}-{size}-{shard}"
        # One process takes part in MPI only where it is named.
        backend = ["--dist-backend", "mpi"] if size == 1 else []
        said = self.run(size, self.arguments(out, {**settings, "distributed.shard": shard}) + backend)
        assert said.count("step    1/") == 1, f"one process speaks:\n{said}"
        assert lines(out, 1) == lines(alone, 1), f"{size}: other tokens in step 1"
        difference, share = differences(out / "model", alone / "model", self.tolerance)
        assert share <= (FURTHER_OFF if self.args.model else 0), f"{size} {shard}: {difference}, {share}"
        logs = sorted(path.name for path in (out / "logs").iterdir()) if size > 1 else []
        assert logs == ([f"rank-{rank}.log" for rank in range(size)] if size > 1 else []), logs
        further = f", {share:.1e} of them further off than {self.tolerance}" if share else ""
        print(f"{size} processes, shard {shard}, {name}: same tokens in step 1, weights within {difference:.1e} at the end{further}", flush=True)

    def resumed_by_another_number(self):
        alone = self.folder / "alone-4"
        self.run(0, self.arguments(alone, {"phases.1.steps": 3}))
        out = self.folder / "resumed"
        self.run(3, self.arguments(out, {"distributed.shard": "optimizer"}))
        self.run(2, ["train", "--device", "cpu", "--resume", str(out), "--set", "phases.1.steps=3"])
        difference, share = differences(out / "model", alone / "model", self.tolerance)
        assert share == 0, difference
        print(f"begun by 3, resumed by 2: weights within {difference:.1e} of one process after step 4")

    def killed(self):
        """A process that is killed ends the others; the newest checkpoint is whole and is resumed."""
        out = self.folder / "killed"
        running = self.start(3, self.arguments(out, {"phases.1.steps": 400}))
        wait_for(lambda: newest_step(out) >= 3, running)
        process = int(log(out, 2).split("process id ")[1].split(",")[0])
        os.kill(process, signal.SIGKILL)
        killed = time.monotonic()
        said = running.communicate(timeout=60)[0]
        assert running.returncode != 0, said
        print(f"process 2 of 3 killed: all ended after {time.monotonic() - killed:.1f} s")
        steps = newest_step(out)
        self.run(2, ["train", "--device", "cpu", "--resume", str(out), "--set", f"phases.1.steps={steps}"])
        print(f"resumed by 2 after step {steps}")

    def panicking(self):
        """A process that panics ends all, with its number and the reason."""
        example = pathlib.Path(self.args.bupo).parent / "examples" / "mpi_check"
        started = time.monotonic()
        done = subprocess.run([self.args.mpirun, "-n", "3", example, "panic"], capture_output=True, text=True, timeout=60)
        said = done.stdout + done.stderr
        assert done.returncode != 0 and "as asked" in said, said
        assert "process 2 of 3 panicked; all processes end" in said, said
        print(f"process 2 of 3 panics: all ended after {time.monotonic() - started:.1f} s")

    def wrong_input(self):
        out = self.folder / "wrong"
        out.mkdir()
        (out / "file").write_text("x")
        said = self.run(2, self.arguments(out), succeeds=False)
        errors = [line for line in said.splitlines() if line.startswith("error:")]
        assert len(errors) == 1 and "is not empty" in errors[0], said
        print(f"a folder that is not empty: {errors[0].replace(str(self.folder), '...')}")

    def stopped(self):
        """The first SIGINT finishes the step in all processes."""
        out = self.folder / "stopped"
        running = self.start(2, self.arguments(out, {"phases.1.steps": 400}))
        wait_for(lambda: newest_step(out) >= 2, running)
        for rank in (0, 1):
            os.kill(int(log(out, rank).split("process id ")[1].split(",")[0]), signal.SIGINT)
        said = running.communicate(timeout=120)[0]
        assert running.returncode == 0 and "stopped after step" in said and said.count("stopping:") == 1, said
        print("Ctrl-C: all processes finished the step, exit status 0")

    def hanging(self):
        """A process that hangs ends all after the limit, with a sentence."""
        out = self.folder / "hanging"
        running = self.start(2, self.arguments(out, {"phases.1.steps": 400, "distributed.timeout": 5}))
        wait_for(lambda: newest_step(out) >= 2, running)
        process = int(log(out, 1).split("process id ")[1].split(",")[0])
        os.kill(process, signal.SIGSTOP)
        hung = time.monotonic()
        said = running.communicate(timeout=120)[0]
        waited = time.monotonic() - hung
        assert running.returncode != 0 and "for process 1 at step" in said, said
        assert waited < 30, waited
        # A launcher cannot always end a process that is stopped.
        try:
            os.kill(process, signal.SIGKILL)
        except ProcessLookupError:
            pass
        sentence = next(line for line in said.splitlines() if "for process 1" in line)
        print(f"process 1 hangs: ended after {waited:.1f} s: {sentence}")

    def full_disk(self):
        disk = self.folder / "disk"
        disk.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(disk)], capture_output=True)
        if mounted.returncode != 0:
            print("full disk: left out, no right to mount")
            return
        try:
            said = self.run(2, self.arguments(disk / "run", {"phases.1.steps": 400, "checkpoint.keep_last": 9}), False)
            errors = [line for line in said.splitlines() if line.startswith("error:")]
            assert len(errors) == 1 and "No space left" in errors[0], said
            print(f"full disk: {errors[0].replace(str(self.folder), '...')}")
        finally:
            # The other process may take a moment to end.
            subprocess.run(["umount", "--lazy", str(disk)], check=True)

    def start(self, size, arguments):
        return subprocess.Popen(
            self.command(size, arguments),
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )


def wait_for(ready, running):
    started = time.monotonic()
    while not ready():
        if running.poll() is not None or time.monotonic() - started > 300:
            running.kill()
            sys.exit(f"ended too early:\n{running.communicate()[0]}")
        time.sleep(0.05)


def newest_step(run):
    steps = [int(path.name.split("-")[1]) for path in run.glob("checkpoints/step-*") if (path / "manifest.json").exists()]
    return max(steps, default=0)


def log(run, rank):
    return (run / "logs" / f"rank-{rank}.log").read_text()


def lines(run, step):
    all_lines = map(json.loads, (run / "rollouts.jsonl").read_text().splitlines())
    return [line for line in all_lines if line["step"] == step]


def tensors(folder):
    """The f32 tensors of a folder's safetensors files."""
    found = {}
    for path in sorted(folder.glob("*.safetensors")):
        data = path.read_bytes()
        length = struct.unpack("<Q", data[:8])[0]
        for name, about in json.loads(data[8 : 8 + length]).items():
            if name == "__metadata__":
                continue
            assert about["dtype"] == "F32", about
            begin, end = (8 + length + offset for offset in about["data_offsets"])
            found[name] = memoryview(data[begin:end]).cast("f")
    return found


def differences(one, other, tolerance=TOLERANCE):
    """The largest difference of two models' weights, and the share of weights that differ by more than the tolerance."""
    one, other = tensors(one), tensors(other)
    assert one.keys() == other.keys() and one
    largest, count, further = 0.0, 0, 0
    for name in one:
        if bytes(one[name]) == bytes(other[name]):
            count += len(one[name])
            continue
        for a, b in zip(one[name], other[name], strict=True):
            difference = abs(a - b)
            count += 1
            largest = max(largest, difference)
            further += difference > tolerance
    return largest, further / count


if __name__ == "__main__":
    main()
