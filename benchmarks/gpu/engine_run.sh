#!/usr/bin/env bash
# The engine's throughput on the GPU with random weights: benchmarks/gpu/engine_run.sh OUT_FOLDER [SHAPE]
#
# One user (preset single), then 256 requests at once (preset nano-vllm); results as JSON and logs in OUT_FOLDER. Each
# part has LIMIT seconds (default 150), the first with the compilation of the model's graph in it. Random weights need
# no download and take the same time as trained ones. PYTHON names the interpreter (default python3).
set -uo pipefail
cd "$(dirname "$0")/../.."
out=${1:?give the folder for results}
shape=${2:-qwen3-0.6b}
python=${PYTHON:-python3}
mkdir -p "$out"
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}"
status=0
for preset in single nano-vllm; do
    name="engine_${shape}_$preset"
    start=$SECONDS
    timeout "${LIMIT:-150}" "$python" -m mili.bench throughput --preset "$preset" --model-shape "$shape" \
        --random-weights --device gpu --quiet --json "$out/$name.json" >"$out/$name.txt" 2>&1
    code=$?
    [ "$code" -eq 0 ] || status=1
    echo "== $name: exit $code after $((SECONDS - start)) s"
    tail -n 25 "$out/$name.txt" | cut -c1-400
done
exit "$status"
