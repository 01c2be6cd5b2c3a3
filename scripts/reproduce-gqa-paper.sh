#!/bin/sh
# reproduce-gqa-paper.sh [--quick|--tiny] [--out DIR] [--run ./run] TEXT...: the experiments of
# "GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints" (Ainslie et
# al. 2023) at small scale, on this machine. Trains MHA parents on the texts (the last one is for
# validation), pools and uptrains them, and writes docs/gqa-paper.md and its charts. Every finished
# run is kept in DIR (build/paper, build/paper-quick), so the script can be stopped and started
# again. --quick takes under 20 minutes on two cores; the full grid takes a night.
exec python3 "$(dirname "$0")/reproduce_gqa_paper.py" "$@"
