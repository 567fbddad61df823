"""Trains and evaluates with a real vLLM server, and checks what comes of it. Run on request; needs a vLLM (tried: 0.32).

    python tests/engines/vllm.py --bupo target/release/bupo --vllm VENV/bin/vllm --model DIR [--cpu] [--only PART ...]

DIR is a model folder, for example models/arithmetic-1m or a SmolLM2-135M-Instruct. Everything is written into a temporary
folder. --cpu sets what vLLM needs on a machine without a GPU. The parts:

    train    two steps of each phase; the server's log-probs must be within 1e-3 nats of the trainer's in every step, on average
    greedy   greedy tokens of the server and of the own generation are equal, before training and with the weights handed over
    ahead    three steps sampled one step ahead
    restart  the server is killed within a step and started again; the run goes on, no step is lost
    eval     Avg@K of the server and of the own generation, with their intervals and tokens per second
    processes  the training of `train` by two processes under mpirun; only where named, needs a program with the feature mpi
    adapter  the training of `train` of an adapter, which alone is handed over; only where named, and alone
"""
import argparse
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path

PARTS = ["greedy", "train", "ahead", "restart", "eval"]
PARTS_WHERE_NAMED = ["processes", "adapter"]


class Server:
    def __init__(self, args, folder):
        self.args, self.log = args, folder / "vllm.log"
        self.model = str(untied(Path(args.model), folder) if args.cpu else args.model)
        self.url = f"http://127.0.0.1:{args.port}"

    def start(self):
        env = dict(os.environ, VLLM_SERVER_DEV_MODE="1", HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1")
        more = []
        if self.args.cpu:
            env.update(VLLM_TARGET_DEVICE="cpu", VLLM_CPU_KVCACHE_SPACE="1", VLLM_CPU_OMP_THREADS_BIND="0-1")
            more = ["--enforce-eager"]
        if "adapter" in self.args.only:
            env.update(VLLM_ALLOW_RUNTIME_LORA_UPDATING="1")
            more += ["--enable-lora", "--max-lora-rank", "16"]
        command = [self.args.vllm, "serve", self.model, "--host", "127.0.0.1", "--port", str(self.args.port),
                   "--dtype", "float32", "--max-model-len", "512", "--logprobs-mode", "processed_logprobs",
                   "--generation-config", "vllm", *more]
        started = time.time()
        self.process = subprocess.Popen(command, env=env, stdout=self.log.open("ab"), stderr=subprocess.STDOUT,
                                        start_new_session=True)
        while time.time() - started < 300:
            try:
                urllib.request.urlopen(self.url + "/health", timeout=2)
                print(f"  vLLM answers after {time.time() - started:.0f} s", flush=True)
                return
            except OSError:
                assert self.process.poll() is None, f"vLLM ended; see {self.log.read_text()[-2000:]}"
                time.sleep(1)
        raise SystemExit("vLLM does not answer after 300 s")

    def kill(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        time.sleep(2)


def untied(model, folder):
    """A copy of a model whose unembedding is not tied to its embedding: vLLM on CPUs keeps a packed copy of a tied one when
    weights are loaded again. bupo hands the unembedding over to a server of such a folder."""
    config = json.loads((model / "config.json").read_text())
    files = list(model.glob("*.safetensors"))
    assert len(files) == 1, "one safetensors file"
    data = files[0].read_bytes()
    size = int.from_bytes(data[:8], "little")
    header, body = json.loads(data[8:8 + size]), data[8 + size:]
    if "lm_head.weight" in header:
        return model
    start, end = header["model.embed_tokens.weight"]["data_offsets"]
    header["lm_head.weight"] = {**header["model.embed_tokens.weight"], "data_offsets": [len(body), len(body) + end - start]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out = folder / "untied"
    shutil.copytree(model, out)
    (out / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": False}))
    (out / files[0].name).write_bytes(len(text).to_bytes(8, "little") + text + body + body[start:end])
    return out


def bupo(args, *command, launcher=()):
    done = subprocess.run([*launcher, args.bupo, *command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def settings(args, url, phases, *more):
    pairs = ["rollout.engine=vllm", f"rollout.urls=['{url}']", f"phases.0.steps={phases[0]}", f"phases.1.steps={phases[1]}",
             "phases.0.site=layer:3", "rollout.prompts=4", "rollout.group_size=4", "update.mini_batch_prompts=2",
             "rollout.max_new_tokens=32", "evaluation.problems=8", "evaluation.samples=2", "probe.every=0",
             "optimizer.learning_rate=1e-4", "save_dtype=f32", *more]
    command = ["train", "--model", args.model, "--device", "cpu", "--dtype", "f32"]
    return command + [word for pair in pairs for word in ("--set", pair)]


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def show(lines):
    for line in lines:
        keys = ["step", "site", "reward", "sampling_logp_difference", "sampling_logp_difference_max", "staleness",
                "importance_ratio_mean", "importance_ratio_std", "importance_ratio_cut", "seconds_rollout", "seconds_update"]
        values = [f"{key} {line[key]:.3g}" if isinstance(line[key], float) else f"{key} {line[key]}" for key in keys]
        print("  " + ", ".join(values), flush=True)


def problems(folder, count):
    path = folder / "problems.jsonl"
    rows = [{"question": f"{a}+{a + 3}=", "answer": str(2 * a + 3)} for a in range(1, count + 1)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def evaluate(args, folder, name, model, engine, samples, temperature, count):
    out = folder / name
    command = ["eval", "--model", model, "--data", problems(folder, count), "--rule", "numeric", "--chat-template", "none",
               "--samples", str(samples), "--temperature", str(temperature), "--max-new-tokens", "32", "--out", str(out)]
    started = time.time()
    bupo(args, *command, *engine)
    seconds = time.time() - started
    completions = [json.loads(line) for line in (out / "completions.jsonl").read_text().splitlines()]
    results = json.loads((out / "results.json").read_text())[0]
    return completions, results, sum(line["tokens"] for line in completions) / seconds


def greedy(args, server, folder, model, name):
    own, _, _ = evaluate(args, folder, f"{name}-own", model, ["--device", "cpu", "--dtype", "f32"], 1, 0, 12)
    servers, _, _ = evaluate(args, folder, f"{name}-vllm", model, ["--engine", "vllm", "--url", server.url], 1, 0, 12)
    same = sum(a["response"] == b["response"] for a, b in zip(own, servers))
    print(f"  {name}: {same} of {len(own)} greedy responses are equal", flush=True)
    assert same == len(own)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bupo", required=True)
    parser.add_argument("--vllm", required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--port", type=int, default=8123)
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--delay", type=float, default=0.6, help="seconds into step 2 at which the server is killed")
    parser.add_argument("--only", nargs="*", default=PARTS, choices=PARTS + PARTS_WHERE_NAMED)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server = Server(args, folder)
        server.start()
        try:
            run_parts(args, server, folder)
        finally:
            server.kill()
    print("all checks passed")


def run_parts(args, server, folder):
    if "greedy" in args.only:
        print("greedy, before training")
        greedy(args, server, folder, args.model, "before")
    if "train" in args.only:
        print("train, both phases")
        train(args, server, folder / "train")
        if "greedy" in args.only:
            greedy(args, server, folder, str(folder / "train/model"), "after")
    if "processes" in args.only:
        print("train, by two processes")
        train(args, server, folder / "processes", launcher=["mpirun", "-n", "2"])
        greedy(args, server, folder, str(folder / "processes/model"), "processes")
    if "adapter" in args.only:
        print("train an adapter, both phases")
        out = folder / "adapter"
        train(args, server, out, "lora.rank=8", "optimizer.learning_rate=1e-2")
        kept = sorted({path.name for path in (out / "weights").glob("*/*")})
        assert kept == ["adapter_config.json", "adapter_model.safetensors"], kept
        print(f"  handed over: {kept}, {(next((out / 'weights').glob('*/*.safetensors'))).stat().st_size} bytes", flush=True)
    if "ahead" in args.only:
        print("ahead")
        bupo(args, *settings(args, server.url, (0, 3), "rollout.ahead=1"), "--out", str(folder / "ahead"))
        lines = metrics(folder / "ahead")
        show(lines)
        assert [line["staleness"] for line in lines] == [0, 1, 1]
    if "restart" in args.only:
        restart(args, server, folder)
    if "eval" in args.only:
        compare_evaluations(args, server, folder)


def train(args, server, out, *more, launcher=()):
    bupo(args, *settings(args, server.url, (2, 2), *more), "--out", str(out), launcher=launcher)
    lines = metrics(out)
    show(lines)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["sampling_logp_difference"] < 1e-3 for line in lines)
    assert all(line["staleness"] == 0 for line in lines)


def restart(args, server, folder):
    print("restart")
    run = folder / "restart"
    # Long enough responses that the server is killed while it samples.
    command = settings(args, server.url, (1, 3), "rollout.max_new_tokens=64", "rollout.prompts=16")
    process = subprocess.Popen([args.bupo, *command, "--out", str(run)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while not (run / "metrics.jsonl").exists() or not metrics(run):
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    weights = max((run / "weights").iterdir(), key=lambda path: path.stat().st_mtime)
    # The hand-over after step 1 has been loaded, or is being: the server is killed a moment into step 2.
    while max((run / "weights").iterdir(), key=lambda path: path.stat().st_mtime) == weights:
        time.sleep(0.02)
    time.sleep(args.delay)
    server.kill()
    print("  killed", flush=True)
    server.start()
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    lines = metrics(run)
    show(lines)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert all(line["sampling_logp_difference"] < 1e-3 for line in lines)
    warnings = [(line["step"], warning["kind"]) for line in lines for warning in line.get("warnings", [])]
    print(f"  warnings: {warnings}", flush=True)
    assert any(kind == "server_recovered" for _, kind in warnings)


def compare_evaluations(args, server, folder):
    print("eval")
    results = {}
    own = ["--device", "cpu", "--dtype", "f32"]
    for name, engine in [("own", own), ("vllm", ["--engine", "vllm", "--url", server.url])]:
        # A run before has left its weights on the server.
        if name == "vllm" and len(args.only) > 1:
            server.kill()
            server.start()
        _, result, speed = evaluate(args, folder, f"eval-{name}", args.model, engine, 8, 1, 40)
        results[name] = result
        print(f"  {name}: Avg@8 {result['avg_at_k']:.4f} +- {result['avg_half_width']:.4f}, {speed:.0f} tokens/s with start "
              "and loading", flush=True)
    distance = abs(results["own"]["avg_at_k"] - results["vllm"]["avg_at_k"])
    assert distance <= results["own"]["avg_half_width"] + results["vllm"]["avg_half_width"]


if __name__ == "__main__":
    main()
