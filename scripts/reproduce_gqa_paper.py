"""The experiments behind reproduce-gqa-paper.sh: runs `run train`, `run uptrain`, `run compare`, collects what they report,
and writes docs/gqa-paper.md. Python 3, standard library only."""
import argparse
import json
import os
import statistics
import subprocess
import sys

POOLS = ["random", "first", "mean", "renorm", "aligned"]
HEADS = 8
FULL = {"shape": "dim=192,layers=4,heads=8,kv_heads=8,head_dim=32,ffn=384,context=256", "vocab": 2048, "steps": 3000, "batch": 32,
        "rate": 0.003, "alphas": [0, 0.05, 0.1], "seeds": [1, 2, 3], "groups": [4, 2, 1], "distill": [0, 0.5]}
QUICK = {"shape": "dim=128,layers=3,heads=8,kv_heads=8,head_dim=16,ffn=256,context=128", "vocab": 1024, "steps": 800, "batch": 32,
         "rate": 0.004, "alphas": [0, 0.05, 0.1], "seeds": [1], "groups": [4, 2, 1], "distill": [0, 0.5]}
FULL["time"] = QUICK["time"] = ["dim=2048,layers=4,heads=32,head_dim=64,ffn=5632,vocab=32000,type=q8_0", 8192]
TINY = {"shape": "dim=32,layers=1,heads=8,kv_heads=8,head_dim=8,ffn=32,context=32", "vocab": 300, "steps": 20, "batch": 4, "rate": 0.004,
        "alphas": [0, 0.5], "seeds": [1, 2], "groups": [1], "distill": [0], "time": ["dim=64,layers=1,heads=32,head_dim=8,ffn=64,vocab=300,type=q8_0", 64]}


class Lab:
    """Runs commands once; what they printed is kept in files of the output folder."""

    def __init__(self, args, plan):
        self.run, self.out, self.texts, self.plan = args.run, args.out, args.texts, plan
        os.makedirs(self.out, exist_ok=True)
        self.check_plan()

    def check_plan(self):
        """Finished runs are only good for the plan and the texts they were made with; more seeds may come."""
        path = os.path.join(self.out, "plan.json")
        plan = {key: value for key, value in self.plan.items() if key != "seeds"}
        plan["texts"] = [[os.path.basename(text), os.path.getsize(text)] for text in self.texts]
        if os.path.exists(path):
            with open(path) as f:
                if json.load(f) != plan:
                    sys.exit(f"{self.out}: holds runs of another plan or of other texts; choose another --out, or remove it")
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
        return words + ["--val", self.texts[-1], "--json", "--quiet", "--type", "f32"]

    def parent(self, seed):
        path = os.path.join(self.out, f"mha-{seed}.gguf")
        p = self.plan
        result = self.once(f"mha-{seed}", [self.run, "train", path, "--shape", p["shape"], "--vocab", str(p["vocab"]), "--steps", str(p["steps"]),
                                           "--batch", str(p["batch"]), "--rate", str(p["rate"]), "-s", str(seed)] + self.data())
        return path, result["bits_per_byte"]

    def child(self, seed, groups, pool, alpha, distill):
        parent, _ = self.parent(seed)
        name = f"gqa{groups}-{pool}-{alpha}-{distill}-{seed}"
        path = os.path.join(self.out, name + ".gguf")
        result = self.once(name, [self.run, "uptrain", parent, path, "--kv-heads", str(groups), "--pool", pool, "--fraction", str(alpha),
                                  "--distill", str(distill), "-s", str(seed)] + self.data())
        if os.path.exists(path):
            os.unlink(path)
        return result["bits_per_byte"]

    def cell(self, groups, pool, alpha, distill=0):
        return [self.child(seed, groups, pool, alpha, distill) for seed in self.plan["seeds"]]


def told(values):
    if len(values) < 2:
        return f"{values[0]:.3f}"
    return f"{statistics.mean(values):.3f} ± {statistics.stdev(values):.3f}"


def name_of(groups):
    return {HEADS: "MHA", 1: "MQA"}.get(groups, f"GQA-{groups}")


COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"]
STYLE = ("<style>text{fill:#222}.t{font-size:14px;font-weight:600}.n{fill:#555;font-size:11px}.g{stroke:#ddd}.a{stroke:#666}.p{fill:#fff}"
         "@media(prefers-color-scheme:dark){text{fill:#e6e6e6}.n{fill:#aaa}.g{stroke:#3a3a3a}.a{stroke:#999}.p{fill:#15181c}}</style>")


def line_chart(path, title, x_label, y_label, series, ticks, from_zero=False):
    """series: {name: [(x, [values])]}; a point is the mean, its bar the standard deviation. ticks: [(x, text)], evenly spaced."""
    width, height, left, right, top, bottom = 560, 360, 64, 120, 48, 50
    places = {x: left + i * (width - left - right) / max(1, len(ticks) - 1) for i, (x, _) in enumerate(ticks)}
    means = [statistics.mean(v) for points in series.values() for _, v in points]
    low, high = (0 if from_zero else min(means)), max(means)
    pad = (high - low) * 0.08 or 0.1
    low, high = (0 if from_zero else low - pad), high + pad
    y_at = lambda y: height - bottom - (y - low) / (high - low) * (height - top - bottom)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
           f'font-family="system-ui,sans-serif" font-size="12">{STYLE}<rect class="p" width="{width}" height="{height}"/>',
           f'<text class="t" x="{left}" y="20">{title}</text><text class="n" x="{left}" y="38">{y_label}</text>',
           f'<text class="n" x="{width - right}" y="{height - 10}" text-anchor="end">{x_label}</text>']
    for i in range(6):
        y = low + (high - low) * i / 5
        out.append(f'<line class="g" x1="{left}" x2="{width - right}" y1="{y_at(y):.1f}" y2="{y_at(y):.1f}"/>'
                   f'<text x="{left - 8}" y="{y_at(y) + 4:.1f}" text-anchor="end">{y:.2f}</text>')
    for x, text in ticks:
        out.append(f'<text x="{places[x]:.1f}" y="{height - bottom + 18}" text-anchor="middle">{text}</text>')
    ends = sorted(((y_at(statistics.mean(points[-1][1])), name) for name, points in series.items()))
    shown = {}
    for y, name in ends:  # names at the curves' ends, pushed apart
        shown[name] = max([y] + [other + 14 for other in shown.values()])
    for i, (name, points) in enumerate(series.items()):
        colour = COLOURS[i % len(COLOURS)]
        path_points = " ".join(f"{places[x]:.1f},{y_at(statistics.mean(v)):.1f}" for x, v in points)
        out.append(f'<polyline fill="none" stroke="{colour}" stroke-width="2.2" points="{path_points}"/>')
        for x, v in points:
            m, s = statistics.mean(v), statistics.stdev(v) if len(v) > 1 else 0
            out.append(f'<line stroke="{colour}" x1="{places[x]:.1f}" x2="{places[x]:.1f}" y1="{y_at(m - s):.1f}" y2="{y_at(m + s):.1f}"/>'
                       f'<circle cx="{places[x]:.1f}" cy="{y_at(m):.1f}" r="3.4" fill="{colour}"/>')
        out.append(f'<text x="{width - right + 10}" y="{shown[name] + 4:.1f}" style="fill:{colour}">{name}</text>')
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n</svg>\n")


def table(rows):
    head, body = rows[0], rows[1:]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(r) + " |" for r in body]) + "\n"


def lead(lab, groups, alpha, distill):
    """What the aligned start is better by than the mean start, seed by seed: bits a byte saved."""
    return [m - a for m, a in zip(lab.cell(groups, "mean", alpha, distill), lab.cell(groups, "aligned", alpha, distill))]


def write_report(lab, docs, command):
    p = lab.plan
    parents = [lab.parent(seed)[1] for seed in p["seeds"]]
    last = p["alphas"][-1]
    out = ["# The GQA paper on a laptop", "",
           f"Ainslie et al. 2023 (arXiv 2305.13245) pooled the KV heads of T5 and trained on for a share α of the original steps. Here the same "
           f"is done to MHA models of `{p['shape']}`, vocabulary {p['vocab']}, trained for {p['steps']} steps of {p['batch']} sequences; quality is "
           f"validation loss in bits a byte (lower is better), mean ± standard deviation over {len(p['seeds'])} seeds (parent and uptraining both "
           f"differ). Made by `{command}`.", "",
           f"The MHA parents: **{told(parents)}** bits a byte.", ""]
    out += ["## Pooling (the paper's figure 4)", "",
            "The paper: mean above first above random, at α = 0.05 and to one head. `renorm` is the mean scaled to the mean norm of its members; `aligned` "
            "turns the heads onto each other first, which changes no output of the parent, groups those that agree, then does the same.", ""]
    for groups in p["groups"]:
        rows = [[name_of(groups)] + [f"α = {a}" + (" + distillation" if d else "") for a in p["alphas"] for d in (p["distill"] if a else [0])]]
        for pool in POOLS:
            rows.append([pool] + [told(lab.cell(groups, pool, a, d)) for a in p["alphas"] for d in (p["distill"] if a else [0])])
        out.append(table(rows))
    line_chart(os.path.join(docs, "gqa-paper-pooling.svg"), f"Pooling at α = {p['alphas'][1]}", "KV heads left of 8", "validation bits a byte (lower is better)",
               {pool: [(g, lab.cell(g, pool, p["alphas"][1])) for g in p["groups"]] for pool in POOLS}, [(g, name_of(g)) for g in p["groups"]])
    out += ["![pooling](gqa-paper-pooling.svg)", ""]
    out += ["## Share of uptraining (figure 5)", "", "The paper: GQA is usable right after pooling and close to MHA after 5%; MQA needs the training; "
            "little more is gained from 5% to 10%.", ""]
    series = {name_of(g): [(a, lab.cell(g, "mean", a)) for a in p["alphas"]] for g in p["groups"]}
    series["MHA, trained on"] = [(a, parents if not a else lab.cell(HEADS, "mean", a)) for a in p["alphas"]]
    line_chart(os.path.join(docs, "gqa-paper-uptraining.svg"), "Uptraining after mean pooling", "α", "validation bits a byte (lower is better)", series,
               [(a, str(a)) for a in p["alphas"]])
    out += ["![uptraining](gqa-paper-uptraining.svg)", "",
            "The MHA line is the control the paper does not show: the parent itself, trained on for the same share.", ""]
    out += ["## Does the aligned start keep its lead?", "",
            "Bits a byte that `aligned` is better by than `mean`, seed by seed (mean ± standard deviation):", ""]
    rows = [[""] + [f"α = {a}" + (" + distillation" if d else "") for a in p["alphas"] for d in (p["distill"] if a else [0])]]
    for g in p["groups"]:
        rows.append([name_of(g)] + [told(lead(lab, g, a, d)) for a in p["alphas"] for d in (p["distill"] if a else [0])])
    out += [table(rows)]
    shape, depth = p["time"]
    times = lab.once("times", [lab.run, "compare", "--shape", shape, "--kv-heads", "32,16,8,4,2,1", "--depths", f"0,{depth}", "--reps", "3", "--json",
                               "--quiet"])
    speed = {v["kv_heads"]: v["caches"][0]["decode"][1] for v in times["variants"]}
    out += ["## Time against groups (figure 6)", "",
            f"Time a token at depth {depth}, random weights of shape `{shape}`, f16 cache, {times['threads']} threads. The paper's seconds a sample for "
            "64, 32, 16, 8, 4 and 1 groups of T5-XXL: 2.54, 0.80, 0.59, 0.51, 0.47, 0.49.", "",
            table([["KV heads"] + [str(k) for k in speed], ["ms a token"] + [f"{1000 / s['tokens_per_second']:.1f}" for s in speed.values()]])]
    line_chart(os.path.join(docs, "gqa-paper-time.svg"), f"Time a token at depth {depth}", "KV heads of 32", "ms",
               {"q8_0, f16 cache": [(k, [1000 / s["tokens_per_second"]]) for k, s in sorted(speed.items())]}, [(k, str(k)) for k in sorted(speed)], True)
    out += ["![time](gqa-paper-time.svg)", "",
            "The fall is the paper's; it is flatter at the start because one sequence on a CPU reads all weights for every token, and those do not shrink.", ""]
    out += ["## Quality against time (table 1, in small)", "",
            "The paper: MHA-XXL 1.51 s and 47.2, MQA-XXL 0.24 s and 46.6, GQA-8-XXL 0.28 s and 47.1.", ""]
    rows = [["model", "KV heads of 32 at the large shape", "ms a token", f"bits a byte, α = {last}, aligned, distilled"]]
    rows.append(["MHA", "32", f"{1000 / speed[32]['tokens_per_second']:.1f}", told(parents)])
    rows.append(["MHA, trained on", "32", rows[-1][2], told(lab.cell(HEADS, "mean", last))])
    for g in p["groups"]:
        wide = 32 * g // HEADS if g > 1 else 1
        rows.append([name_of(g), str(wide), f"{1000 / speed[wide]['tokens_per_second']:.1f}", told(lab.cell(g, "aligned", last, p["distill"][-1]))])
    out += [table(rows)]
    out += ["## Limits", "", "Models of a million weights on a text of a few million words for children are not T5; heads of "
            f"{'16' if 'head_dim=16' in p['shape'] else '32'} dimensions may align better or worse than heads of 128. Uptraining restarts warm-up and cosine at the parent's peak rate, which a "
            "converged parent first suffers from: read every figure beside the MHA control.", ""]
    with open(os.path.join(docs, "gqa-paper.md"), "w") as f:
        f.write("\n".join(out))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small models, under 20 minutes")
    parser.add_argument("--tiny", action="store_true", help="models that learn nothing, in seconds: shows that the script works")
    parser.add_argument("--seeds", type=int, help="number of seeds")
    parser.add_argument("--out", help="folder of finished runs (build/paper, or build/paper-quick)")
    parser.add_argument("--docs", default="docs", help="folder of the report")
    parser.add_argument("--run", default="./run", help="the program")
    parser.add_argument("texts", nargs="+", help="training texts, and last the validation text")
    args = parser.parse_args()
    if len(args.texts) < 2:
        parser.error("give at least one training text and the validation text")
    plan = dict(TINY if args.tiny else QUICK if args.quick else FULL)
    args.out = args.out or "build/paper" + ("-tiny" if args.tiny else "-quick" if args.quick else "")
    if args.seeds:
        plan["seeds"] = list(range(1, args.seeds + 1))
    names = " ".join(os.path.basename(t) for t in args.texts)
    command = "scripts/reproduce-gqa-paper.sh " + ("--quick " if args.quick else "") + (f"--seeds {args.seeds} " if args.seeds else "") + names
    os.makedirs(args.docs, exist_ok=True)
    write_report(Lab(args, plan), args.docs, command)
    print(f"wrote {args.docs}/gqa-paper.md")


if __name__ == "__main__":
    main()
