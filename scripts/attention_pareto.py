"""The experiment behind attention-pareto.sh: runs `run train` and `run compare`, and writes
docs/attention-pareto.md, .csv and charts. Python 3, standard library only."""
import csv
import math
import os
import statistics
import subprocess
import sys

from reproduce_gqa_paper import COLOURS, LEFT, LOSS_LABEL, RIGHT, WIDTH
from reproduce_gqa_paper import Chart, Lab, read_arguments, summary, table

# name in the report: --attention
KINDS = {"MHA": "mha", "GQA-4": "gqa:4", "GQA-2": "gqa:2", "MQA": "mqa", "GTA-2": "gta",
         "MLA": "mla"}
FULL = {
    "shape": "dim=192,layers=4,heads=8,kv_heads=2,head_dim=32,ffn=512,context=256",
    "vocab": 2048, "steps": 500, "batch": 32, "rate": 0.003, "seeds": [1, 2, 3],
    "depth": 4096, "reps": 9,
}
QUICK = {
    "shape": "dim=128,layers=3,heads=8,kv_heads=2,head_dim=16,ffn=256,context=128",
    "vocab": 1024, "steps": 300, "batch": 16, "rate": 0.004, "seeds": [1, 2, 3],
    "depth": 4096, "reps": 5,
}
TINY = {
    "shape": "dim=32,layers=1,heads=8,kv_heads=2,head_dim=16,ffn=160,context=32",
    "vocab": 512, "steps": 4, "batch": 2, "rate": 0.004, "seeds": [1, 2],
    "depth": 64, "reps": 2,
}


# ---- runs ----------------------------------------------------------------------------------------

class Pareto(Lab):
    """Trains each kind with each seed, then measures the models of the first seed together."""

    def path(self, kind, seed):
        return os.path.join(self.out, f"{KINDS[kind].replace(':', '')}-{seed}.gguf")

    def train(self, kind, seed):
        p, path = self.plan, self.path(kind, seed)
        words = [self.run, "train", path, "--attention", KINDS[kind], "--match", "params"]
        words += ["--shape", p["shape"], "--vocab", str(p["vocab"]), "--steps", str(p["steps"])]
        words += ["--batch", str(p["batch"]), "--rate", str(p["rate"]), "-s", str(seed)]
        words += ["--muon", "--eval-every", str(p["steps"])]
        return self.once(os.path.basename(path)[:-5], words + self.data())

    def measure(self):
        """{kind: (bytes of cache a position, ms a token, the spread of that)}, and the machine."""
        p = self.plan
        words = [self.run, "compare"] + [self.path(kind, p["seeds"][0]) for kind in KINDS]
        words += ["--depths", f"0,{p['depth']}", "--reps", str(p["reps"]), "--json", "--quiet"]
        result = self.once("times", words)
        measured = {}
        for kind, variant in zip(KINDS, result["variants"]):
            cache = variant["caches"][0]
            decode = cache["decode"][1]
            ms = 1000 / decode["tokens_per_second"]
            measured[kind] = cache["bytes_per_position"], ms, ms * decode["spread"]
        return measured, f"{result['isa']}, {result['threads']} threads"

    def rows(self):
        """All runs, seed by seed, so that an unfinished night has whole seeds."""
        runs = [(kind, seed, self.train(kind, seed)) for seed in self.plan["seeds"]
                for kind in KINDS]
        measured, _ = self.measure()
        for kind, seed, run in runs:
            cache, ms, spread = measured[kind]
            yield {"attention": kind, "seed": seed, "parameters": run["parameters"],
                   "tokens": run["tokens"], "nats_per_token": run["nats_per_token"],
                   "bits_per_byte": run["bits_per_byte"], "training_seconds": run["seconds"],
                   "cache_bytes_per_position": cache, "ms_per_token": round(ms, 6),
                   "ms_spread": round(spread, 6)}


# ---- the report ----------------------------------------------------------------------------------

class Scatter(Chart):
    """series: {name: (x, spread of x, [values])}: a point each, with its name beside it."""

    def __init__(self, title, x_label, series, log):
        self.points = series
        low = min(x for x, _, _ in series.values()) / 1.3 if log else 0
        high = max(x + spread for x, spread, _ in series.values()) * 1.1
        scale = math.log if log else float
        super().__init__(title, x_label, LOSS_LABEL,
                         {name: [(x, values)] for name, (x, _, values) in series.items()},
                         [(x, f"{x:g}") for x in self.steps(low, high, log)])
        spread = max(statistics.stdev(values) if len(values) > 1 else 0
                     for _, _, values in series.values())
        self.low, self.high = self.low - spread, self.high + spread
        share = (WIDTH - LEFT - RIGHT) / (scale(high) - scale(low))
        self.place = lambda x: LEFT + (scale(x) - scale(low)) * share
        self.places = {x: self.place(x) for x, _ in self.ticks}

    @staticmethod
    def steps(low, high, log):
        if log:
            powers = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
            return [2 ** i for i in powers]
        sizes = (digit * 10.0 ** power for power in range(-9, 9) for digit in (1, 2, 5))
        size = next(size for size in sizes if high / size < 7)
        return [i * size for i in range(int(high / size) + 1)]

    def curves(self):
        labels = []
        for i, (name, (x, spread, values)) in enumerate(self.points.items()):
            colour, mean = COLOURS[i % len(COLOURS)], self.y_at(statistics.mean(values))
            self.places[x] = self.place(x)
            yield self.point(x, values, colour)
            yield (f'<line stroke="{colour}" x1="{self.place(x - spread / 2):.1f}" '
                   f'x2="{self.place(x + spread / 2):.1f}" y1="{mean:.1f}" y2="{mean:.1f}"/>')
            at = self.place(x) + 8, mean - 6
            while any(abs(at[0] - left) < 48 and abs(at[1] - y) < 12 for left, y in labels):
                at = at[0], at[1] - 12
            labels.append(at)
            yield (f'<text x="{at[0]:.1f}" y="{at[1]:.1f}" '
                   f'style="fill:{colour}">{name}</text>')


def front(costs, losses):
    """Those that no other beats in both."""
    return [a for a in costs if not any(costs[b] <= costs[a] and losses[b] < losses[a]
                                        for b in costs if b != a)]


def report(lab, rows, docs, command):
    p = lab.plan
    measured, machine = lab.measure()
    losses = {kind: [r["bits_per_byte"] for r in rows if r["attention"] == kind]
              for kind in KINDS}
    means = {kind: statistics.mean(values) for kind, values in losses.items()}
    yield from ["# Attention at equal parameters", ""]
    yield (f"MHA, GQA, MQA, GTA and MLA, each trained from scratch on the same text with the same "
           f"settings: `{p['shape']}`, vocabulary {p['vocab']}, {p['steps']} steps of "
           f"{p['batch']} sequences by Muon. The FFN is as wide as makes the number of weights "
           f"that of MHA. MLA has a "
           f"latent of 4 heads and half a head for RoPE. Quality is validation loss in bits a byte "
           f"(lower is better), mean ± standard deviation over {len(p['seeds'])} seeds. The cache "
           f"is f16. The time is that of the first seed's model, in f32, at depth {p['depth']} "
           f"({machine}); it depends on the shape alone, so the context of training does not "
           f"matter. Made by `{command}`; each run is a line of "
           f"[attention-pareto.csv](attention-pareto.csv).")
    yield ""
    body = [["", "weights", "cache bytes a position", "ms a token", "bits a byte",
             "more than MHA, seed by seed"]]
    for kind in KINDS:
        cache, ms, spread = measured[kind]
        weights = next(r["parameters"] for r in rows if r["attention"] == kind)
        more = summary([a - b for a, b in zip(losses[kind], losses["MHA"])])
        body.append([kind, str(weights), f"{cache:.0f}", f"{ms:.3g} ± {spread / 2:.1g}",
                     summary(losses[kind]), "" if kind == "MHA" else more])
    yield table(body)
    for i, (name, label, log) in enumerate([
            ("cache", "bytes of KV cache a position, f16, logarithmic", True),
            ("time", f"ms a token at depth {p['depth']}", False)]):
        costs = {kind: measured[kind][i] for kind in KINDS}
        points = {kind: (costs[kind], measured[kind][2] if i else 0, losses[kind])
                  for kind in KINDS}
        Scatter(f"Loss against {name}", label, points, log).write(
            os.path.join(docs, f"attention-pareto-{name}.svg"))
        best = ", ".join(front(costs, means))
        yield from [f"![loss against {name}](attention-pareto-{name}.svg)", "",
                    f"No other has both less {name} and a lower mean loss than: {best}.", ""]
    yield ("Models of this size and text say little about large ones: heads are small, and a KV "
           "cache that fits into the processor's own caches costs less time than one that does "
           "not. Differences within the deviation of the seeds are none.")
    yield ""


def write(lab, docs, command):
    rows = list(lab.rows())
    with open(os.path.join(docs, "attention-pareto.csv"), "w", newline="") as f:
        out = csv.DictWriter(f, rows[0].keys(), lineterminator="\n")
        out.writeheader()
        out.writerows(rows)
    with open(os.path.join(docs, "attention-pareto.md"), "w") as f:
        f.write("\n".join(report(lab, rows, docs, command)))


def main():
    args, plan, command = read_arguments(__doc__, "scripts/attention-pareto.sh", "build/pareto",
                                         30, (FULL, QUICK, TINY))
    try:
        write(Pareto(args, plan), args.docs, command)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(error.cmd[:3])}: exit code {error.returncode}; "
                 "the same command goes on from here")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
    print(f"wrote {args.docs}/attention-pareto.md")


if __name__ == "__main__":
    main()
