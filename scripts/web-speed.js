"use strict";
// web-speed.js RUN GQA_JS|PAGE MODEL [ROUNDS [FLOOR]]: how fast one thread decodes as WebAssembly,
// as a share of the program with AVX2 (or GQA_ISA): the two in turn, on a machine that does nothing
// else: the median of the rounds, and the best of each side, which what else goes on in the machine
// slows least. GQA_JS in node; PAGE, a file ending in .html, in headless Chromium with the model
// inside (npm's playwright-core in NODE_PATH, and the command chromium). `make web` makes both.
// Fails when the share of the best rounds is below FLOOR.
const { execFileSync } = require("child_process");
const fs = require("fs");
const path = require("path");
const { GqaModel, copyBytes } = require("../web/model.js");
const TOKENS = 200;

function native(run, model) {
    const options = ["-p", "0", "-n", `${TOKENS}`, "-r", "1", "-j", "1", "--json"];
    const env = { GQA_ISA: "avx2", ...process.env };
    const result = JSON.parse(execFileSync(run, ["bench", model, ...options], { env }));
    return result.tests[0].tokens_per_second;
}

// Runs here, or as text in the page.
function wasm(model, tokens) {
    model.start("", {});
    const begin = performance.now();
    model.next(tokens, true);
    return tokens / (performance.now() - begin) * 1000;
}

async function inNode(js, file) {
    const createGqa = require(path.resolve(js));
    const model = new GqaModel(copyBytes(await createGqa(), fs.readFileSync(file)));
    return { measure: () => wasm(model, TOKENS), close: () => null };
}

async function inChromium(file) {
    const { chromium } = require("playwright-core");
    const executablePath = execFileSync("which", ["chromium"], { encoding: "utf8" }).trim();
    const browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
    const page = await browser.newPage();
    await page.goto(`file://${path.resolve(file)}`);
    await page.waitForFunction(
        () => /ended/.test(document.querySelector("#story-status").innerText));
    await page.evaluate(`(async () => {
        const text = atob(document.getElementById("model").textContent);
        const bytes = Uint8Array.from(text, (c) => c.charCodeAt(0));
        window.measured = new GqaModel(copyBytes(await createGqa(), bytes));
        ${wasm}
        window.measure = () => wasm(window.measured, ${TOKENS});
    })()`);
    return { measure: () => page.evaluate("measure()"), close: () => browser.close() };
}

async function main([run, js, file, rounds = 11, floor = 0]) {
    const { measure, close } = await (js.endsWith(".html") ? inChromium(js) : inNode(js, file));
    const speeds = [];
    await measure(); // the first compiles
    for (let i = 0; i < rounds; i++) {
        const [a, b] = [native(run, file), await measure()];
        speeds.push([b / a, a, b]);
    }
    await close();
    const best = (side) => Math.max(...speeds.map((round) => round[side]));
    const [share, a, b] = speeds.sort((x, y) => x[0] - y[0])[rounds >> 1];
    console.log(`median of ${rounds}: ${share.toFixed(2)} (${b.toFixed(0)} of ${a.toFixed(0)} ` +
        `tokens a second), ${speeds[0][0].toFixed(2)} to ${speeds.at(-1)[0].toFixed(2)}`);
    const most = best(2) / best(1);
    console.log(`best: ${most.toFixed(2)} (${best(2).toFixed(0)} of ${best(1).toFixed(0)})`);
    if (most >= floor) return;
    console.error(`web-speed: ${most.toFixed(3)} is below ${floor}`);
    process.exitCode = 1;
}

main(process.argv.slice(2)).catch((error) => {
    console.error(`web-speed: ${error.message}`);
    process.exit(1);
});
