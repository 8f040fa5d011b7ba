#!/usr/bin/env bash
# Set up, then run the tests. Arguments go to pytest: bash launch/test.sh -k sinkhorn; bash launch/test.sh -m slow
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh" dev
cd "$root"
export HF_HUB_OFFLINE=1 OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"
# Two files at a time: most tests wait for processes that they start. Fixtures of a file are made once.
exec python -m pytest --numprocesses 2 --dist loadfile --durations 20 "$@"
