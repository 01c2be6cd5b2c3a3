// llama_cpp_splits.mjs FOLDER >splits.txt: where llama.cpp cuts the texts of make_splits.py, by the
// vocabularies that it wrote into FOLDER; see there.
import {createRequire} from "module";
import {pathToFileURL} from "url";
import fs from "fs";
import path from "path";

const require = createRequire(pathToFileURL(path.join(process.cwd(), "x.js")));
const entry = require.resolve("node-llama-cpp");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(entry).href);
const version = require(path.join(entry, "../../package.json")).version;
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error});
const folder = process.argv[2];
const {names, texts, sizes} = JSON.parse(fs.readFileSync(path.join(folder, "splits.json")));

console.log(`# Pieces that ${llama.llamaCppRelease.repo} ${llama.llamaCppRelease.release} cuts ` +
            `(node-llama-cpp ${version}): a text in`);
console.log("# hexadecimal, then for each pre-tokenizer the bytes of each piece.");
console.log("# Made by make_splits.py and llama_cpp_splits.mjs; tests/test_splits.c reads this.");
const lines = texts.map((text) => ["text " + Buffer.from(text).toString("hex")]);
for (const name of names) {
    const modelPath = path.join(folder, `split-${name}.gguf`);
    const model = await llama.loadModel({modelPath, gpuLayers: 0, vocabOnly: true});
    texts.forEach((text, i) => {
        const pieces = model.tokenize(text).map((id) => sizes[id]);
        lines[i].push(name + " " + pieces.join(" "));
    });
}
console.log(lines.flat().join("\n"));
process.exit(0);
