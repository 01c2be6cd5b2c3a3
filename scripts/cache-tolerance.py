#!/usr/bin/env python3
"""How much a narrow KV cache costs models with different numbers of KV heads: the divergence of the
next token's distribution from that with an f32 cache, as a Markdown table and a chart."""
import argparse
import json
import subprocess
import sys

from reproduce_gqa_paper import Chart, table

CACHES = ["q8_0", "q8_0/q4_0", "q4_0/q8_0", "q4_0"]


def result_of(command):
    done = subprocess.run(command, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        sys.exit(f"cache-tolerance: exit code {done.returncode} from {' '.join(command)}")
    return json.loads(done.stdout)


def measure(args, model):
    """KV heads, and (mean, standard error) in nats of each cache."""
    heads = result_of([args.run, "info", model, "--json"])["n_kv_heads"]
    divergences = []
    for cache in CACHES:
        words = ["perplexity", model, "-f", args.f, "--documents", "-c", args.c,
                 "--chunks", args.chunks, "--kv", cache, "--kl", ".", "--json"]
        kl = result_of([args.run, *words])["kl"]
        divergences.append((kl["mean"], kl["error"]))
    return heads, divergences


def values_of(mean, error):
    """Two values of that mean and standard deviation, in thousandths."""
    by = error / 2 ** 0.5
    return [1000 * (mean - by), 1000 * (mean + by)]


def main():
    p = argparse.ArgumentParser(prog="scripts/cache-tolerance.py", description=__doc__)
    p.add_argument("models", nargs="+", metavar="MODEL.gguf")
    p.add_argument("-f", required=True, metavar="TEXT")
    p.add_argument("-c", default="256", metavar="N", help="tokens a chunk (256)")
    p.add_argument("--chunks", default="40", metavar="K", help="chunks of the text (40)")
    p.add_argument("--svg", metavar="FILE", help="draw a chart")
    p.add_argument("--run", default="./run", metavar="PATH", help="the program (./run)")
    args = p.parse_args()
    rows = sorted((measure(args, m) for m in args.models), reverse=True)
    print(table([["KV heads", *(f"cache {c}" for c in CACHES)]] + [
        [str(heads), *(f"{mean:.6f} ± {error:.6f}" for mean, error in kl)] for heads, kl in rows]))
    if args.svg:
        series = {f"{CACHES[i]}": [(heads, values_of(*kl[i])) for heads, kl in rows]
                  for i in range(len(CACHES))}
        Chart("What a narrow cache costs", "KV heads", "KL to an f32 cache, thousandths of a nat",
              series, [(heads, str(heads)) for heads, _ in rows], from_zero=True).write(args.svg)


if __name__ == "__main__":
    main()
