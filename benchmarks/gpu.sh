#!/usr/bin/env bash
# The speed of a GPU in one table: sampling at the paper's size, eight videos at once, Stable Diffusion 1.5 at 512x512,
# and training steps, each with peak memory. What does not fit into the time is named.
#
#   benchmarks/gpu.sh FOLDER            on a GPU, ten minutes at most (MINUTES=20 for more)
#   benchmarks/gpu.sh FOLDER --tiny     the same commands on the CPU with the bundled model and little work: that they run
#
# FOLDER gets table.md, and the rows of each part as JSON. LATENTSHIFT names another command than `latentshift`.
set -uo pipefail

folder=${1:-}
tiny=${2:-}
if [[ -z $folder || $folder == -* || ($tiny && $tiny != --tiny) || $# -gt 2 ]]; then
    echo "error: usage: benchmarks/gpu.sh FOLDER [--tiny]" >&2
    exit 2
fi
recipes=$(dirname "$0")/../recipes
minutes=${MINUTES:-10}
if [[ ! $minutes =~ ^[1-9][0-9]{0,3}$ ]]; then
    echo "error: MINUTES must be a whole number from 1 to 9999, not $minutes" >&2
    exit 2
fi
if [[ -e $folder/table.md ]]; then
    echo "error: $folder/table.md is there already: name another folder" >&2
    exit 2
fi
mkdir -p "$folder" || exit 1
end=$((SECONDS + 60 * minutes))
failed=0

say() { printf "%s\n" "$@" | tee -a "$folder/table.md"; }

# part NAME WORDS…: run one command in the time that is left, and keep what it prints.
part() {
    local name=$1 left=$((end - SECONDS)) code
    shift
    say "" "## $name" ""
    if ((left < 5)); then
        say "Left out: the time is over."
        return
    fi
    say "    latentshift$(printf " %q" "$@")" ""
    timeout --foreground --signal=INT --kill-after=20 "$left" ${LATENTSHIFT:-latentshift} "$@" 2>>"$folder/errors.txt" |
        tee -a "$folder/table.md"
    code=${PIPESTATUS[0]}
    if ((code == 124 || code == 137)); then
        say "" "Not finished: the time is over."
    elif ((code != 0)); then
        say "" "Failed with exit code $code: $(grep . "$folder/errors.txt" | tail -n 1)"
        failed=1
    fi
}

if [[ $tiny ]]; then
    paper=(bundled --device cpu --frames 2 --steps 2 --quick)
    large=("${paper[@]}")
    compiled=
    at_once=2
    model=bundled
    training=(num_frames=2 "data={source: sprites, options: {clips: 4}, encode: false}" compute.device=cpu loading.workers=1
        batch_size=2 micro_batch_size=2)
else
    paper=(ldm --device cuda --whole --rounds 1)
    large=(sd1 --device cuda --rounds 1)
    compiled=,latent-shift-compiled
    at_once=8
    model=$folder/ldm
    training=("data={source: sprites, options: {clips: 16}, encode: false}" compute.device=cuda loading.workers=4
        batch_size=4 micro_batch_size=4)
fi

# train NAME RECIPE WORDS…
train() {
    local name=$1 recipe=$2
    shift 2
    part "Training: $name" bench memory "$recipes/$recipe-webvid.yaml" "model=$model" "${training[@]}" "$@" \
        --quick --steps "$steps" --json "$folder/train-${name//[ ,]/-}.json"
}
steps=5
[[ $tiny ]] && steps=2

say "# Speed on this device" "" "$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null || uname -mp)"
part "A pass and a whole video" bench generate "${paper[@]}" --runtimes none \
    --models "latent-shift$compiled,stock-2d${compiled:+,stock-2d-compiled}" --json "$folder/video.json"
[[ $tiny ]] || part "Random weights of the paper's size" init --family ldm --random-weights -o "$model"
for method in latent-shift latent-vdm; do
    train "$method" $method compute.gradient_checkpointing=false
    train "$method, checkpointed" $method compute.gradient_checkpointing=true
done
train "latent-shift, LoRA" latent-shift compute.gradient_checkpointing=false lora.rank=16
part "$at_once videos at once" bench generate "${paper[@]}" --runtimes none --models "latent-shift$compiled" \
    --videos "$at_once" --json "$folder/videos.json"
part "Stable Diffusion 1.5's size" bench generate "${large[@]}" --runtimes none \
    --models "stock-2d,latent-shift$compiled,animatediff" --json "$folder/sd1.json"
part "The other video models" bench generate "${paper[@]}" --runtimes none \
    --models latent-shift,latent-vdm,animatediff,modelscope --json "$folder/others.json"
rm -rf "$folder/ldm"
echo "$folder/table.md"
exit "$failed"
