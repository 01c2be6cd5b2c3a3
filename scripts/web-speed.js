"use strict";
// web-speed.js RUN GQA_JS MODEL [ROUNDS]: how fast one thread decodes as WebAssembly in node, as a
// share of the program with AVX2 (or GQA_ISA): the two in turn, on a machine that does nothing
// else: the median of the rounds, and the best of each side, which what else goes on in the machine
// slows least. `make web` makes BUILD/wasm/gqa.js.
const { execFileSync } = require("child_process");
const fs = require("fs");
const path = require("path");
const { GqaModel, loadFile } = require("../web/model.js");
const TOKENS = 200;

function native(run, model) {
    const options = ["-p", "0", "-n", `${TOKENS}`, "-r", "1", "-j", "1", "--json"];
    const env = { GQA_ISA: "avx2", ...process.env };
    const result = JSON.parse(execFileSync(run, ["bench", model, ...options], { env }));
    return result.tests[0].tokens_per_second;
}

function wasm(model) {
    model.start("", {});
    const begin = performance.now();
    model.next(TOKENS, true);
    return TOKENS / (performance.now() - begin) * 1000;
}

async function main([run, js, file, rounds = 11]) {
    const createGqa = require(path.resolve(js));
    const model = new GqaModel(loadFile(await createGqa(), fs.readFileSync(file)));
    const speeds = [];
    wasm(model); // the first compiles
    for (let i = 0; i < rounds; i++) {
        const [a, b] = [native(run, file), wasm(model)];
        speeds.push([b / a, a, b]);
    }
    const best = (side) => Math.max(...speeds.map((round) => round[side]));
    const [share, a, b] = speeds.sort((x, y) => x[0] - y[0])[rounds >> 1];
    console.log(`median of ${rounds}: ${share.toFixed(2)} (${b.toFixed(0)} of ${a.toFixed(0)} ` +
        `tokens a second), ${speeds[0][0].toFixed(2)} to ${speeds.at(-1)[0].toFixed(2)}`);
    console.log(`best: ${(best(2) / best(1)).toFixed(2)} (${best(2).toFixed(0)} of ` +
        `${best(1).toFixed(0)})`);
}

main(process.argv.slice(2));
