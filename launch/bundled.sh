#!/usr/bin/env bash
# Make the bundled model anew: draw portraits of nobody, cut, pack and train, and put the snapshot into the package.
#   bash launch/bundled.sh                              everything in runs/bundled; run it again to continue
#   TEACHER=models/dinov2-small bash launch/bundled.sh  a teacher that lies here
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "" # without an argument it would get ours
cd "$root"
work=runs/bundled
dinogen synth --count 2400 --studio --seed 1 --output "$work/photos"
dinogen crop --input "$work/photos" --output "$work/crops"
dinogen pack --input "$work/crops" --output "$work/shards" --captions "$work/photos/captions.csv" \
    --teacher "${TEACHER:-facebook/dinov2-small}" --stages 64 128
OMP_NUM_THREADS=1 torchrun --standalone --nproc_per_node 2 -m launch.train --config drawn128 --data "$work/shards" \
    --output "$work/run" "$@"
dinogen evaluate --model "$work/run" --count 200 --output "$work/run/report.json"
rm -rf dinogen/bundled
dinogen export --model "$work/run" --format safetensors --precision fp16 --licence apache-2.0 --output dinogen/bundled
sed -i 's/aligned crops of faces\./aligned crops of portraits that `dinogen synth` drew. They show nobody./' \
    dinogen/bundled/README.md
