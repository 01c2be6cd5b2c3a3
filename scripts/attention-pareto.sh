#!/bin/sh
# attention-pareto.sh [--quick|--tiny] [--seeds N] [--out DIR] [--run ./run] TEXT...: trains MHA,
# GQA, MQA, GTA and MLA of one shape with equal numbers of weights on the same texts (the last one
# is for validation), several seeds each, and writes docs/attention-pareto.md, .csv and charts: what
# each loses in quality for a smaller KV cache and a faster token. Every finished run is kept in DIR
# (build/pareto, build/pareto-quick), and one that was interrupted goes on from its last state, so
# the script can be stopped and started again. --quick takes under 30 minutes on two cores; the full
# plan takes a night.
exec python3 "$(dirname "$0")/attention_pareto.py" "$@"
