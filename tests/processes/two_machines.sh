#!/usr/bin/env bash
# Training by two machines, played by two network namespaces with a link between them: one process on each, MPICH over TCP.
#
#     sudo tests/processes/two_machines.sh target/release/bupo [MODEL_FOLDER]
#
# Needs root, iproute2 and MPICH, and the program built with --features mpi. Prints the bytes that crossed the link, which must be
# at least those of the gradients, and compares the weights with those of one process.
set -euo pipefail
bupo=$(realpath "$1")
model=${2:+--model $(realpath "$2")}
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
one=bupo-a$$ two=bupo-b$$

cleanup() {
    ip netns del "$one" 2>/dev/null || true
    ip netns del "$two" 2>/dev/null || true
    rm -rf "$work"
}
trap cleanup EXIT

ip netns add "$one"
ip netns add "$two"
ip link add name bupo-link type veth peer name bupo-peer
ip link set bupo-link netns "$one"
ip link set bupo-peer netns "$two"
ip -n "$one" addr add 10.77.0.1/24 dev bupo-link
ip -n "$two" addr add 10.77.0.2/24 dev bupo-peer
for machine in "$one lo" "$two lo" "$one bupo-link" "$two bupo-peer"; do
    read -r name device <<<"$machine"
    ip -n "$name" link set "$device" up
done

# Hydra starts a process on another machine by `ssh HOST COMMAND`; here it enters that machine's namespace, with a host name of its own.
cat >"$work/ssh" <<END
#!/usr/bin/env bash
while [[ "\$1" == -* ]]; do shift; done
host=\$1; shift
[[ "\$host" == 10.77.0.1 ]] && name=$one || name=$two
exec ip netns exec "\$name" unshare --uts sh -c "hostname machine-\$host; \$*"
END
chmod +x "$work/ssh"

set_pairs=(--set phases.0.site=layer:2 --set phases.0.steps=1 --set phases.1.steps=1 --set rollout.prompts=8
    --set rollout.group_size=2 --set rollout.max_new_tokens=16 --set rollout.keep=all --set update.mini_batch_prompts=4
    --set evaluation.problems=4 --set evaluation.samples=1 --set save_dtype=f32)
export RAYON_NUM_THREADS=1
# shellcheck disable=SC2086
"$bupo" train --device cpu --dtype f32 --out "$work/alone" $model "${set_pairs[@]}" >"$work/alone.log"

sent() { ip netns exec "$one" cat /sys/class/net/bupo-link/statistics/tx_bytes; }
before=$(sent)
# Shared memory between the namespaces would go around the link.
# shellcheck disable=SC2086
ip netns exec "$one" env UCX_TLS=tcp,self FI_PROVIDER=tcp timeout 600 mpirun -launcher ssh -launcher-exec "$work/ssh" \
    -hosts 10.77.0.1,10.77.0.2 -ppn 1 -n 2 -genvall \
    "$bupo" train --device cpu --dtype f32 --out "$work/two" $model "${set_pairs[@]}" >"$work/two.log" 2>&1 ||
    { cat "$work/two.log"; exit 1; }
crossed=$(($(sent) - before))

head -1 -q "$work"/two/logs/rank-*.log | sed 's/^[^ ]* [^ ]* //'
python3 - "$here" "$work" "$crossed" <<'END'
import pathlib, sys
sys.path.insert(0, sys.argv[1])
from mpi import TOLERANCE, differences, lines, tensors
work, crossed = pathlib.Path(sys.argv[2]), int(sys.argv[3])
one, two = work / "alone", work / "two"
assert lines(one, 1) == lines(two, 1), "other tokens in step 1"
difference, _ = differences(one / "model", two / "model")
weights = sum(len(values) for values in tensors(two / "model").values())
assert difference <= TOLERANCE, difference
# In each update of the full policy a process sends half of the gradients and half of the sums.
assert crossed > 4 * weights, f"{crossed} bytes crossed the link"
print(f"same tokens in step 1, weights within {difference:.1e} after step 2; {crossed / 1e6:.1f} MB crossed the link in one direction")
END
