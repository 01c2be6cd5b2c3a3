"""The experiments behind reproduce-gqa-paper.sh: runs `run train`, `run uptrain`, `run compare`,
collects what they report, and writes docs/gqa-paper.md. Python 3, standard library only."""
import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys

POOLS = ["random", "first", "mean", "renorm", "aligned"]
HEADS = 8
FULL = {
    "shape": "dim=192,layers=4,heads=8,kv_heads=8,head_dim=32,ffn=384,context=256",
    "vocab": 2048, "steps": 3000, "batch": 32, "rate": 0.003,
    "alphas": [0, 0.05, 0.1], "seeds": [1, 2, 3], "groups": [4, 2, 1], "distill": [0, 0.5],
    "time": ["dim=2048,layers=4,heads=32,head_dim=64,ffn=5632,vocab=32000,type=q8_0", 8192],
}
QUICK = {
    "shape": "dim=128,layers=3,heads=8,kv_heads=8,head_dim=16,ffn=256,context=128",
    "vocab": 1024, "steps": 800, "batch": 32, "rate": 0.004,
    "alphas": FULL["alphas"], "seeds": [1], "groups": FULL["groups"], "distill": FULL["distill"],
    "time": FULL["time"],
}
TINY = {
    "shape": "dim=32,layers=1,heads=8,kv_heads=8,head_dim=8,ffn=32,context=32",
    "vocab": 512, "steps": 20, "batch": 4, "rate": 0.004,
    "alphas": [0, 0.5], "seeds": [1, 2], "groups": [1], "distill": [0],
    "time": ["dim=64,layers=1,heads=32,head_dim=8,ffn=64,vocab=300,type=q8_0", 64],
}


# ---- runs ----------------------------------------------------------------------------------------

class Lab:
    """Runs commands once; what they printed is kept in files of the output folder."""

    def __init__(self, args, plan):
        self.run, self.out, self.texts, self.plan = args.run, args.out, args.texts, plan
        os.makedirs(self.out, exist_ok=True)
        self.check_plan()

    def check_plan(self):
        """Finished runs are only good for the plan and the texts they were made with; more seeds
        may come."""
        path = os.path.join(self.out, "plan.json")
        plan = {key: value for key, value in self.plan.items() if key != "seeds"}
        plan["texts"] = [[os.path.basename(text), os.path.getsize(text)] for text in self.texts]
        if os.path.exists(path):
            with open(path) as f:
                if json.load(f) != plan:
                    sys.exit(f"{self.out}: holds runs of another plan or of other texts; "
                             "choose another --out, or remove it")
        with open(path, "w") as f:
            json.dump(plan, f)

    def once(self, name, words):
        path = os.path.join(self.out, name + ".json")
        if not os.path.exists(path):
            print("  " + " ".join(words), file=sys.stderr, flush=True)
            text = subprocess.run(words, check=True, stdout=subprocess.PIPE).stdout.decode()
            with open(path + ".tmp", "w") as f:
                f.write(text)
            os.replace(path + ".tmp", path)
        with open(path) as f:
            return json.load(f)

    def data(self):
        words = []
        for text in self.texts[:-1]:
            words += ["-f", text]
        return words + ["--val", self.texts[-1], "--json", "--quiet", "--force", "--type",
                        "f32"]

    def parent(self, seed):
        p = self.plan
        path = os.path.join(self.out, f"mha-{seed}.gguf")
        words = [self.run, "train", path, "--shape", p["shape"], "--vocab", str(p["vocab"])]
        words += ["--steps", str(p["steps"]), "--batch", str(p["batch"])]
        words += ["--rate", str(p["rate"]), "-s", str(seed)]
        return path, self.once(f"mha-{seed}", words + self.data())["bits_per_byte"]

    def child(self, seed, groups, pool, alpha, distill):
        parent, _ = self.parent(seed)
        name = f"gqa{groups}-{pool}-{alpha}-{distill}-{seed}"
        path = os.path.join(self.out, name + ".gguf")
        words = [self.run, "uptrain", parent, path, "--kv-heads", str(groups), "--pool", pool]
        words += ["--fraction", str(alpha), "--distill", str(distill), "-s", str(seed)]
        result = self.once(name, words + self.data())
        if os.path.exists(path):
            os.unlink(path)
        return result["bits_per_byte"]

    def cell(self, groups, pool, alpha, distill=0):
        return [self.child(seed, groups, pool, alpha, distill) for seed in self.plan["seeds"]]

    def lead(self, groups, alpha, distill):
        """Bits a byte that the aligned start is better by than the mean start, seed by seed."""
        mean, aligned = (self.cell(groups, p, alpha, distill) for p in ("mean", "aligned"))
        return [m - a for m, a in zip(mean, aligned)]

    def columns(self):
        """[(alpha, distill)] of the tables."""
        p = self.plan
        return [(a, d) for a in p["alphas"] for d in (p["distill"] if a else [0])]

    def times(self):
        shape, depth = self.plan["time"]
        words = [self.run, "compare", "--shape", shape, "--kv-heads", "32,16,8,4,2,1"]
        words += ["--depths", f"0,{depth}", "--reps", "3", "--json", "--quiet"]
        result = self.once("times", words)
        speeds = {v["kv_heads"]: v["caches"][0]["decode"][1]["tokens_per_second"]
                  for v in result["variants"]}
        return {heads: 1000 / speed for heads, speed in speeds.items()}, result["threads"]


# ---- text and charts -----------------------------------------------------------------------------

def summary(values):
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def name_of(groups):
    return {HEADS: "MHA", 1: "MQA"}.get(groups, f"GQA-{groups}")


def table(rows):
    head, body = rows[0], rows[1:]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in body]) + "\n"


COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
STYLE = ("<style>text{fill:#222}.t{font-size:14px;font-weight:600}.n{fill:#555;font-size:11px}"
         ".g{stroke:#ddd}.a{stroke:#666}.p{fill:#fff}"
         "@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.n{fill:#aaa}.g{stroke:#3a3a3a}"
         ".a{stroke:#999}.p{fill:#15181c}}</style>")
FONT = 'font-family="system-ui,sans-serif" font-size="12"'
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 560, 360, 64, 120, 48, 50


class Chart:
    """series: {name: [(x, [values])]}; a point is the mean, its bar the standard deviation.
    ticks: [(x, text)], evenly spaced."""

    def __init__(self, title, x_label, y_label, series, ticks, from_zero=False):
        self.title, self.x_label, self.y_label = title, x_label, y_label
        self.series, self.ticks = series, ticks
        step = (WIDTH - LEFT - RIGHT) / max(1, len(ticks) - 1)
        self.places = {x: LEFT + i * step for i, (x, _) in enumerate(ticks)}
        means = [statistics.mean(v) for points in series.values() for _, v in points]
        low, high = (0 if from_zero else min(means)), max(means)
        pad = (high - low) * 0.08 or 0.1
        self.low, self.high = (0 if from_zero else low - pad), high + pad

    def y_at(self, y):
        share = (y - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)

    def frame(self):
        yield (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
               f'width="{WIDTH}" height="{HEIGHT}" {FONT}>{STYLE}'
               f'<rect class="p" width="{WIDTH}" height="{HEIGHT}"/>')
        yield (f'<text class="t" x="{LEFT}" y="20">{self.title}</text>'
               f'<text class="n" x="{LEFT}" y="38">{self.y_label}</text>')
        yield (f'<text class="n" x="{WIDTH - RIGHT}" y="{HEIGHT - 10}" text-anchor="end">'
               f'{self.x_label}</text>')
        decimals = 2 if self.high - self.low > 0.1 else 3
        for i in range(6):
            y = self.low + (self.high - self.low) * i / 5
            at = self.y_at(y)
            yield (f'<line class="g" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
                   f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">'
                   f'{y:.{decimals}f}</text>')
        for x, text in self.ticks:
            yield (f'<text x="{self.places[x]:.1f}" y="{HEIGHT - BOTTOM + 18}" '
                   f'text-anchor="middle">{text}</text>')

    def name_places(self):
        """Names stand at the curves' ends, pushed apart."""
        ends = sorted((self.y_at(statistics.mean(points[-1][1])), name)
                      for name, points in self.series.items())
        shown = {}
        for y, name in ends:
            shown[name] = max([y] + [other + 14 for other in shown.values()])
        return shown

    def point(self, x, values, colour):
        at, mean = self.places[x], statistics.mean(values)
        spread = statistics.stdev(values) if len(values) > 1 else 0
        return (f'<line stroke="{colour}" x1="{at:.1f}" x2="{at:.1f}" '
                f'y1="{self.y_at(mean - spread):.1f}" y2="{self.y_at(mean + spread):.1f}"/>'
                f'<circle cx="{at:.1f}" cy="{self.y_at(mean):.1f}" r="3.4" fill="{colour}"/>')

    def curves(self):
        shown = self.name_places()
        for i, (name, points) in enumerate(self.series.items()):
            colour = COLOURS[i % len(COLOURS)]
            corners = " ".join(f"{self.places[x]:.1f},{self.y_at(statistics.mean(v)):.1f}"
                               for x, v in points)
            yield (f'<polyline fill="none" stroke="{colour}" stroke-width="2.2" '
                   f'points="{corners}"/>')
            for x, values in points:
                yield self.point(x, values, colour)
            yield (f'<text x="{WIDTH - RIGHT + 10}" y="{shown[name] + 4:.1f}" '
                   f'style="fill:{colour}">{name}</text>')

    def write(self, path):
        with open(path, "w") as f:
            f.write("\n".join([*self.frame(), *self.curves()]) + "\n</svg>\n")


# ---- the report ----------------------------------------------------------------------------------

LOSS_LABEL = "validation bits a byte (lower is better)"


def column_names(lab):
    return [f"α = {a}" + (" + distillation" if d else "") for a, d in lab.columns()]


def introduction(lab, docs, command):
    p = lab.plan
    parents = [lab.parent(seed)[1] for seed in p["seeds"]]
    yield from ["# The GQA paper on a laptop", ""]
    yield (f"Ainslie et al. 2023 (arXiv 2305.13245) pooled the KV heads of T5 and continued "
           f"training for a share α of the original steps. Here the same is done with MHA models "
           f"of `{p['shape']}`, vocabulary {p['vocab']}, trained for {p['steps']} steps of "
           f"{p['batch']} sequences; quality is validation loss in bits per byte (lower is "
           f"better), mean ± standard deviation over {len(p['seeds'])} seeds (of the parent and of "
           f"uptraining). Made by `{command}`.")
    yield from ["", f"The MHA parents: **{summary(parents)}** bits per byte.", ""]


def pooling(lab, docs, command):
    p = lab.plan
    yield from ["## Pooling (the paper's figure 4)", ""]
    yield ("The paper: mean above first above random, at α = 0.05 and to one head. `renorm` is the "
           "mean scaled to the mean norm of its members; `aligned` first rotates the heads to "
           "agree with each other, which changes no output of the parent, groups those that agree, "
           "then pools as `renorm` does.")
    yield ""
    for groups in p["groups"]:
        rows = [[name_of(groups)] + column_names(lab)]
        for pool in POOLS:
            cells = [lab.cell(groups, pool, a, d) for a, d in lab.columns()]
            rows.append([pool] + [summary(cell) for cell in cells])
        yield table(rows)
    alpha = p["alphas"][1]
    series = {pool: [(g, lab.cell(g, pool, alpha)) for g in p["groups"]] for pool in POOLS}
    Chart(f"Pooling at α = {alpha}", "KV heads left of 8", LOSS_LABEL, series,
          [(g, name_of(g)) for g in p["groups"]]).write(os.path.join(docs, "gqa-paper-pooling.svg"))
    yield from ["![pooling](gqa-paper-pooling.svg)", ""]


def uptraining(lab, docs, command):
    p = lab.plan
    parents = [lab.parent(seed)[1] for seed in p["seeds"]]
    yield from ["## Share of uptraining (figure 5)", ""]
    yield ("The paper: GQA is usable right after pooling and close to MHA after 5%; MQA needs the "
           "training; little more is gained from 5% to 10%.")
    yield ""
    series = {name_of(g): [(a, lab.cell(g, "mean", a)) for a in p["alphas"]] for g in p["groups"]}
    series["MHA, trained on"] = [(a, lab.cell(HEADS, "mean", a) if a else parents)
                                 for a in p["alphas"]]
    Chart("Uptraining after mean pooling", "α", LOSS_LABEL, series,
          [(a, str(a)) for a in p["alphas"]]).write(os.path.join(docs, "gqa-paper-uptraining.svg"))
    yield from ["![uptraining](gqa-paper-uptraining.svg)", ""]
    yield ("The MHA line is a control that the paper does not show: the parent itself, trained "
           "for the same share of further steps.")
    yield from ["", "## Does the aligned start keep its lead?", ""]
    yield ("By how many bits per byte `aligned` is better than `mean`, seed by seed (mean ± "
           "standard deviation):")
    yield ""
    rows = [[""] + column_names(lab)]
    for g in p["groups"]:
        rows.append([name_of(g)] + [summary(lab.lead(g, a, d)) for a, d in lab.columns()])
    yield table(rows)


def time(lab, docs, command):
    shape, depth = lab.plan["time"]
    times, threads = lab.times()
    yield from ["## Time against groups (figure 6)", ""]
    yield (f"Time per token at depth {depth}, random weights of shape `{shape}`, f16 cache, "
           f"{threads} threads. The paper's seconds per sample for 64, 32, 16, 8, 4 and 1 groups "
           f"of T5-XXL: 2.54, 0.80, 0.59, 0.51, 0.47, 0.49.")
    yield ""
    yield table([["KV heads"] + [str(k) for k in times],
                 ["ms per token"] + [f"{t:.1f}" for t in times.values()]])
    heads = sorted(times)
    Chart(f"Time a token at depth {depth}", "KV heads of 32", "ms",
          {"q8_0, f16 cache": [(k, [times[k]]) for k in heads]}, [(k, str(k)) for k in heads],
          from_zero=True).write(os.path.join(docs, "gqa-paper-time.svg"))
    yield from ["![time](gqa-paper-time.svg)", ""]
    yield ("Time falls as in the paper, but less at the start: one sequence on a CPU reads all "
           "weights for every token, and those do not shrink.")
    yield ""


def quality_and_time(lab, docs, command):
    p = lab.plan
    last = p["alphas"][-1]
    times, _ = lab.times()
    yield from ["## Quality against time (table 1, at small scale)", ""]
    yield ("The paper: MHA-XXL 1.51 s and 47.2, MQA-XXL 0.24 s and 46.6, GQA-8-XXL 0.28 s and "
           "47.1.")
    yield ""
    rows = [["model", "KV heads of 32 at the large shape", "ms per token",
             f"bits per byte, α = {last}, aligned, distilled"]]
    cells = [("MHA", 32, [lab.parent(seed)[1] for seed in p["seeds"]]),
             ("MHA, trained on", 32, lab.cell(HEADS, "mean", last))]
    for g in p["groups"]:
        heads = 32 * g // HEADS if g > 1 else 1
        cells.append((name_of(g), heads, lab.cell(g, "aligned", last, p["distill"][-1])))
    for name, heads, cell in cells:
        rows.append([name, str(heads), f"{times[heads]:.1f}", summary(cell)])
    yield table(rows)


def limits(lab, docs, command):
    head_dim = "16" if "head_dim=16" in lab.plan["shape"] else "32"
    yield from ["## Limits", ""]
    yield (f"Models of a million weights, trained on a few million words of children's stories, "
           f"are not T5; heads of {head_dim} dimensions may align better or worse than heads of "
           f"128. Uptraining restarts warm-up and cosine at the parent's peak rate, which at "
           f"first makes a converged parent worse: compare every figure with the MHA control.")
    yield ""


def write_report(lab, docs, command):
    sections = [introduction, pooling, uptraining, time, quality_and_time, limits]
    lines = [line for section in sections for line in section(lab, docs, command)]
    with open(os.path.join(docs, "gqa-paper.md"), "w") as f:
        f.write("\n".join(lines))


def read_arguments(description, script, runs, minutes, plans):
    """Arguments of an experiment; its plan, from plans (full, quick, tiny); the command that was
    given, without folders."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--quick", action="store_true",
                        help=f"small models, under {minutes} minutes")
    parser.add_argument("--tiny", action="store_true",
                        help="models that learn nothing, in seconds: shows that the script works")
    parser.add_argument("--seeds", type=int, help="number of seeds (default: the plan's)")
    parser.add_argument("--out", help=f"folder of finished runs ({runs}, or {runs}-quick)")
    parser.add_argument("--docs", default="docs", help="folder of the report")
    parser.add_argument("--run", default="./run", help="the program")
    parser.add_argument("texts", nargs="+", help="training texts, and last the validation text")
    args = parser.parse_args()
    if len(args.texts) < 2:
        parser.error("give at least one training text and the validation text")
    if args.seeds is not None and args.seeds < 1:
        parser.error(f"--seeds {args.seeds}: expected 1 or more")
    for path in args.texts:
        if not os.path.isfile(path):
            parser.error(f"{path}: no such file")
    if not shutil.which(args.run):
        parser.error(f"--run {args.run}: no such program")
    full, quick, tiny = plans
    plan = dict(tiny if args.tiny else quick if args.quick else full)
    args.out = args.out or runs + ("-tiny" if args.tiny else "-quick" if args.quick else "")
    command = f"{script} " + ("--tiny " if args.tiny else "--quick " if args.quick else "")
    if args.seeds:
        plan["seeds"] = list(range(1, args.seeds + 1))
        command += f"--seeds {args.seeds} "
    command += " ".join(os.path.basename(text) for text in args.texts)
    os.makedirs(args.docs, exist_ok=True)
    return args, plan, command


def main():
    args, plan, command = read_arguments(__doc__, "scripts/reproduce-gqa-paper.sh", "build/paper",
                                         20, (FULL, QUICK, TINY))
    write_report(Lab(args, plan), args.docs, command)
    print(f"wrote {args.docs}/gqa-paper.md")


if __name__ == "__main__":
    main()
