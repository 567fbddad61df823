#!/usr/bin/env bash
# Makes the first corpora from the test fixtures.
set -euo pipefail
cd "$(dirname "$0")"
mkdir -p corpus/{checkpoint,parquet,jsonl,grade,template}
cp ../bupo-data/tests/fixtures/*.parquet corpus/parquet/
cp ../bupo-data/tests/fixtures/*.jsonl ../bupo-data/tests/fixtures/*.json corpus/jsonl/
python3 - <<'PY'
import json, pathlib, struct

def put(target, name, data):
    pathlib.Path("corpus", target, name).write_bytes(data)

# A response and an answer, cut at the first 0.
for table in ("equivalent", "strict", "classes"):
    for i, line in enumerate(open(f"../bupo-grade/tests/{table}.jsonl")):
        row = json.loads(line)
        response = row.get("response", row.get("a"))
        answer = row.get("answer", row.get("b"))
        put("grade", f"{table}-{i}", f"{response}\0{answer}".encode())

for path in pathlib.Path("../bupo-data/tests/chat").rglob("*"):
    if path.suffix == ".jinja":
        put("template", path.name, path.read_bytes())
    elif path.suffix == ".json":
        def walk(value, name):
            if isinstance(value, str) and ("{%" in value or "{{" in value):
                put("template", name, value.encode())
            elif isinstance(value, dict):
                for key, item in value.items():
                    walk(item, f"{name}-{key}"[:60])
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    walk(item, f"{name}-{i}"[:60])
        walk(json.loads(path.read_text()), path.stem)

# A whole model of the config in fuzz_targets/checkpoint.rs, as one file and as a shard.
layer = "model.layers.0."
shapes = {
    "model.embed_tokens.weight": [5, 4], "lm_head.weight": [5, 4], "model.norm.weight": [4],
    layer + "input_layernorm.weight": [4], layer + "post_attention_layernorm.weight": [4],
    layer + "self_attn.q_proj.weight": [4, 4], layer + "self_attn.k_proj.weight": [2, 4],
    layer + "self_attn.v_proj.weight": [2, 4], layer + "self_attn.o_proj.weight": [4, 4],
    layer + "mlp.gate_proj.weight": [6, 4], layer + "mlp.up_proj.weight": [6, 4], layer + "mlp.down_proj.weight": [4, 6],
}
header, data = {}, b""
for name, shape in shapes.items():
    size = 2
    for n in shape:
        size *= n
    header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [len(data), len(data) + size]}
    data += b"\x80\x3f" * (size // 2)
text = json.dumps(header).encode()
weights = struct.pack("<Q", len(text)) + text + data
index = json.dumps({"weight_map": {name: "a.safetensors" for name in shapes}}).encode()
put("checkpoint", "whole", b"\0" + weights)
put("checkpoint", "sharded", b"\1" + index + b"\0" + weights)
for path in pathlib.Path("../tests/reference").glob("*/config*.json"):
    put("checkpoint", f"config-{path.parent.name}-{path.stem}", b"\2" + path.read_bytes())
PY
for target in corpus/*; do echo "$target: $(ls "$target" | wc -l) seeds"; done
