"use strict";
// page.js: the page: a story token by token, and three models that decode in turn.

const STEP = 64, DEEPEST = 2048;
const VARIANTS = [
    { id: "mha", name: "MHA", kvHeads: 1e6, dash: "", about: "multi-head: no sharing" },
    { id: "gqa", name: "GQA", kvHeads: 0, dash: "7 4", about: "grouped-query: groups share" },
    { id: "mqa", name: "MQA", kvHeads: 1, dash: "2 4", about: "multi-query: all share" },
];
const $ = (id) => document.getElementById(id);
const frame = () => new Promise((resume) => requestAnimationFrame(resume));
const number = (x, digits = 0) => x.toLocaleString("en", { maximumFractionDigits: digits });
const bytes = (n) => n < 1 << 20 ? `${number(n / 1024, 1)} KiB` : `${number(n / (1 << 20), 2)} MiB`;

function svgElement(parent, name, attributes, text) {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    parent.append(element);
    return element;
}

function fail(message) {
    $("problem").textContent = message;
    $("problem").hidden = false;
    $("facts").hidden = true;
    for (const id of ["tell", "run"]) $(id).disabled = true;
}

// A module of one function that makes a vector: valid where WebAssembly has SIMD.
function hasSimd() {
    const code = [0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0,
        65, 0, 253, 15, 253, 98, 11];
    return typeof WebAssembly === "object" && WebAssembly.validate(new Uint8Array(code));
}

// ---- the story ------------------------------------------------------------------------------

let telling = 0; // 1: a story comes; 2: it is to stop; 3: another one is to follow

// A token per frame, so that it can be read; its speed counts the time of computing only.
async function tell(model) {
    const prompt = $("prompt").value, temperature = $("greedy").checked ? 0 : 0.8;
    const seed = 1 + Math.floor(Math.random() * 1e9);
    const story = model.story(prompt, { temperature, seed });
    const said = document.createElement("b");
    let tokens = -1, seconds = 0; // the first step also evaluates the prompt
    said.textContent = prompt;
    $("story").replaceChildren(said, "");
    telling = 1;
    $("tell").textContent = "Stop";
    $("story-status").textContent = "Decoding…";
    try {
        while (telling === 1) {
            const begin = performance.now();
            const { value, done } = story.next();
            if (done) break;
            if (tokens++ >= 0) seconds += (performance.now() - begin) / 1000;
            $("story").lastChild.appendData(value);
            await frame();
        }
        const ended = telling === 1 ? "The story has ended" : "Stopped";
        const speed = seconds > 0 ? `, ${number(tokens / seconds)} a second` : "";
        const count = `${tokens + 1} token${tokens ? "s" : ""}`;
        $("story-status").textContent = `${ended}: ${count}${speed}.`;
    } catch (error) { // of this prompt, such as too many tokens: another may do
        $("story-status").textContent = `No story: ${error.message}.`;
    }
    $("tell").textContent = "Continue it";
    const another = telling === 3;
    telling = 0;
    if (another) await tell(model);
}

// ---- pictures -------------------------------------------------------------------------------

// Query heads above, the KV heads that they read below.
function drawHeads(svg, heads, kvHeads) {
    const width = 280, at = (i, n) => (i + 0.5) * width / n, group = heads / kvHeads;
    svg.setAttribute("viewBox", `0 0 ${width} 118`);
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `${heads} query heads over ${kvHeads} K and V heads`);
    svgElement(svg, "text", { x: 2, y: 11 }, "query heads");
    svgElement(svg, "text", { x: 2, y: 115 }, "K and V heads");
    for (let q = 0; q < heads; q++) {
        const x = at(q, heads), kv = at(Math.floor(q / group), kvHeads);
        svgElement(svg, "path", { d: `M${x} 38C${x} 58 ${kv} 56 ${kv} 76` });
        svgElement(svg, "rect", { x: x - 10, y: 18, width: 20, height: 20, rx: 4 });
    }
    for (let g = 0; g < kvHeads; g++)
        for (const dx of [-12, 1])
            svgElement(svg, "rect", { class: "kv", x: at(g, kvHeads) + dx, y: 76, width: 11,
                height: 22, rx: 2 });
}

function addCard(v, { heads, kvHeads }) {
    const card = document.createElement("article");
    card.className = `card ${v.id}`;
    card.setAttribute("aria-labelledby", `${v.id}-name`);
    card.innerHTML = `<h3 id="${v.id}-name">${v.name}</h3><p>${v.about}</p>
        <svg class="heads"></svg><dl>
        <dt>K and V heads</dt><dd>${kvHeads}</dd>
        <dt>Cache per token</dt><dd>${bytes(v.model.kvBytes(1))}</dd>
        <dt>Tokens in the cache</dt><dd class="depth">0</dd>
        <dt>Cache now</dt><dd class="size">0 KiB</dd>
        <dt>Tokens a second</dt><dd class="rate">–</dd></dl>`;
    drawHeads(card.querySelector("svg"), heads, kvHeads);
    $("cards").append(card);
    v.card = card;
}

// A round number of at least x, and how many steps lead to it.
function scaleTo(x) {
    const power = 10 ** Math.floor(Math.log10(x));
    const step = [0.2, 0.25, 0.5, 1, 2, 2.5].map((s) => s * power).find((s) => s * 5 >= x);
    return { step, top: step * Math.ceil(x / step) };
}

// A chart's text for those who do not see it: where its curves end.
function describe(curves) {
    const ends = curves.filter((c) => c.line.length > 1).map((c) =>
        `${c.name} ${number(c.end, 2)} at ${number(c.line.at(-1)[0])} tokens`);
    return ends.length ? `${ends.join(", ")}.` : "No measurement yet.";
}

// curves: { id, name, dash, points: [[x, y]], line: [[x, y]], end }; least: of the y axis's end
function drawChart(svg, curves, least) {
    const width = svg.clientWidth, height = svg.clientHeight;
    const left = 54, right = width - 46, top = 12, bottom = height - 40;
    const { step, top: highest } = scaleTo(
        Math.max(least, ...curves.flatMap((c) => c.points.map((p) => p[1]))));
    const toX = (x) => left + (right - left) * x / DEEPEST;
    const toY = (y) => bottom - (bottom - top) * y / highest;
    svg.replaceChildren();
    for (let y = 0; y <= highest * 1.001; y += step) {
        svgElement(svg, "path", { class: "grid", d: `M${left} ${toY(y)}H${right}` });
        svgElement(svg, "text", { x: left - 8, y: toY(y) + 4, "text-anchor": "end" }, number(y, 2));
    }
    for (let x = 0; x <= DEEPEST; x += DEEPEST / 4)
        svgElement(svg, "text", { x: toX(x), y: bottom + 18, "text-anchor": "middle" }, number(x));
    svgElement(svg, "text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" },
        "tokens in the cache");
    let free = bottom + 4; // labels are drawn from the lowest up, and do not overlap
    svgElement(svg, "desc", { id: `${svg.id}-text` }, describe(curves));
    svg.setAttribute("aria-describedby", `${svg.id}-text`);
    const rising = curves.filter((c) => c.line.length).sort((a, b) => a.end - b.end);
    for (const c of rising) {
        const group = svgElement(svg, "g", { class: c.id });
        for (const [x, y] of c.points)
            svgElement(group, "circle", { class: "point", cx: toX(x), cy: toY(y), r: 1.75 });
        const d = c.line.map(([x, y]) => `${toX(x).toFixed(1)} ${toY(y).toFixed(1)}`).join("L");
        svgElement(group, "path", { class: "curve", d: `M${d}`, "stroke-dasharray": c.dash });
        const [x, y] = c.line.at(-1);
        free = Math.min(toY(y) + 4, free);
        svgElement(group, "text", { class: "name", x: toX(x) + 6, y: free }, c.name);
        free -= 14;
    }
}

const median = (values) => [...values].sort((a, b) => a - b)[values.length >> 1];
const smooth = (points) => points.map(([x], i) =>
    [x, median(points.slice(Math.max(0, i - 2), i + 3).map((p) => p[1]))]);

function drawCharts() {
    const curve = ({ id, name, dash }, points, line) =>
        ({ id, name, dash, points, line, end: line.length ? line.at(-1)[1] : 0 });
    drawChart($("speed"), VARIANTS.map((v) => curve(v, v.speeds, smooth(v.speeds))), 100);
    drawChart($("cache"), VARIANTS.map((v) => curve(v, [], v.sizes)),
        VARIANTS[0].model.kvBytes(DEEPEST) / (1 << 20));
}

// ---- three models in turn -------------------------------------------------------------------

let running = 0; // 1: the models decode; 2: they are to stop

function decodeStep(v, depth) {
    const begin = performance.now();
    v.model.next(STEP, true);
    const rate = STEP / (performance.now() - begin) * 1000, size = v.model.kvBytes(depth + STEP);
    v.speeds.push([depth + STEP / 2, rate]);
    v.sizes.push([depth + STEP, size / (1 << 20)]);
    v.card.querySelector(".depth").textContent = number(depth + STEP);
    v.card.querySelector(".size").textContent = bytes(size);
    v.card.querySelector(".rate").textContent = number(smooth(v.speeds).at(-1)[1]);
}

function fillTable() {
    const row = (cells, begin, end) => `<tr><th scope="row">${cells[0]}</th>` +
        cells.slice(1).map((c) => begin + c + end).join("") + "</tr>";
    const lines = VARIANTS.map((v) => smooth(v.speeds));
    const depths = [128, 256, 512, 1024, 2048].filter((d) => d / STEP <= lines[0].length);
    $("numbers").tHead.innerHTML = row(["Tokens in the cache", ...VARIANTS.map((v) => v.name)],
        '<th scope="col">', "</th>");
    $("numbers").tBodies[0].innerHTML = depths.map((d) => row([number(d),
        ...lines.map((line) => number(line[d / STEP - 1][1]))], "<td>", "</td>")).join("");
    $("numbers").hidden = !depths.length;
}

async function run() {
    running = 1;
    $("run").textContent = "Stop";
    $("run-status").textContent = "Decoding…";
    $("progress").hidden = false;
    $("numbers").hidden = true;
    for (const v of VARIANTS) {
        Object.assign(v, { speeds: [], sizes: [[0, 0]] });
        v.model.start("", {});
        v.model.next(STEP, true); // warms up, and is not counted
        v.model.start("", {});
    }
    let depth = 0;
    for (; running === 1 && depth < DEEPEST; depth += STEP) {
        for (const v of VARIANTS) {
            decodeStep(v, depth);
            await frame();
        }
        $("progress").value = (depth + STEP) / DEEPEST;
        drawCharts();
    }
    fillTable();
    $("run-status").textContent = `With ${number(depth)} tokens in the cache: ` + VARIANTS.map(
        (v) => `${v.name} ${number(smooth(v.speeds).at(-1)[1])} tokens a second from ` +
            `${bytes(v.model.kvBytes(depth))}`).join(", ") + ".";
    $("run").textContent = "Decode in turn";
    $("progress").hidden = true;
    running = 0;
}

// ---- the page -------------------------------------------------------------------------------

async function main() {
    $("facts").textContent = "Loading the model…";
    if (!hasSimd()) return fail("This browser has no WebAssembly SIMD, which the page needs. It " +
        "runs in Chrome and Edge from 92, Firefox from 90, Safari from 16.4.");
    const text = atob($("model").textContent);
    const file = copyBytes(await createGqa(), Uint8Array.from(text, (c) => c.charCodeAt(0)));
    const model = new GqaModel(file), { info } = model;
    for (const v of VARIANTS) {
        v.model = new GqaModel(file, { kvHeads: v.kvHeads, context: DEEPEST + 64 });
        Object.assign(v, { speeds: [], sizes: [] });
        addCard(v, v.model.info);
    }
    $("facts").textContent = `${number(info.params / 1e6, 2)} million weights, ${info.layers} ` +
        `layers of ${info.dim}, ${info.heads} query heads over ${info.kvHeads} K and V heads; ` +
        `gqa.c ${info.version}, one thread, kernels: ${info.isa}.`;
    $("story-form").addEventListener("submit", (event) => {
        event.preventDefault();
        const isOther = document.activeElement === $("prompt") && // not the button
            $("prompt").value !== $("story").firstChild.textContent;
        if (telling) telling = isOther ? 3 : 2;
        else tell(model);
    });
    $("run").addEventListener("click", () => {
        if (running) running = 2;
        else run().catch((error) => fail(error.message));
    });
    addEventListener("resize", drawCharts);
    drawCharts();
    for (const id of ["tell", "run"]) $(id).disabled = false;
    await tell(model);
}

main().catch((error) => fail(error.message));
