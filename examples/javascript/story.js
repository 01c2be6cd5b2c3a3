"use strict";
// story.js MODEL [BEGINNING [PIECES]]: text from the WebAssembly module as it is generated, in
// node; cancelled after so many pieces of text, or by Ctrl-C. "make web" builds build/wasm/gqa.js;
// $GQA_JS is another file in its place.
const fs = require("fs");
const path = require("path");
const { GqaModel, copyBytes } = require("../../web/model.js");
const script = process.env.GQA_JS || path.join(__dirname, "../../build/wasm/gqa.js");

async function main([file, beginning = "Once upon a time", pieces = 0]) {
    if (!fs.existsSync(script)) throw new Error(`${script}: not there; "make web" builds it`);
    const createGqa = require(path.resolve(script));
    const model = new GqaModel(copyBytes(await createGqa(), fs.readFileSync(file)));
    let cancelled = false;
    process.once("SIGINT", () => { cancelled = true; });
    process.stdout.on("error", (error) => {
        if (!cancelled && error.code !== "EPIPE") { // else nobody reads any more
            console.error(error.message);
            process.exitCode = 1;
        }
        cancelled = true;
    });
    for (const piece of model.story(beginning, { temperature: 0 })) {
        process.stdout.write(piece);
        await new Promise(setImmediate); // lets signals in
        if (cancelled || --pieces === 0) break;
    }
    model.close();
    console.log();
}

if (process.argv.length < 3 || !/^\d+$/.test(process.argv[4] || "0")) {
    console.error("usage: story.js MODEL [BEGINNING [PIECES]]");
    process.exitCode = 2;
} else main(process.argv.slice(2)).catch((error) => {
    console.error(error.message);
    process.exitCode = 1;
});
