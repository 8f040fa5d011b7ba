#!/usr/bin/env bash
# Portraits of nobody, or your photos, become a face generator in a few minutes on a CPU.
#   bash launch/demo.sh                       synthetic portraits, results in runs/demo
#   bash launch/demo.sh --input DIR           your photos
#   bash launch/demo.sh --minutes 20          longer training
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" "" # without an argument it would get ours
exec python -m launch.demo "$@"
