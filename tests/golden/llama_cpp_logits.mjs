// llama_cpp_logits.mjs MODEL.gguf... >llama-cpp-logits.txt: what llama.cpp computes after TOKENS,
// through the npm package node-llama-cpp. tests/test_foreign.c reads the result. How it was made,
// in a folder outside the project:
//     npm install --ignore-scripts node-llama-cpp@3.22.1
//     python3 GQA/tests/golden/make_models.py .
//     node GQA/tests/golden/llama_cpp_logits.mjs *.gguf >GQA/tests/golden/llama-cpp-logits.txt
import {createRequire} from "module";
import {pathToFileURL} from "url";
import path from "path";

const TOKENS = [
    0, 4, 17, 9, 30, 22, 5, 13, 28, 7, 19, 11, 26, 6, 15, 31, 8, 24, 10, 3,
    21, 12, 29, 14, 25, 16, 20, 18, 27, 23, 4, 30, 9, 17, 5, 22, 13, 7, 28, 19,
];
const require = createRequire(pathToFileURL(path.join(process.cwd(), "x.js")));
const entry = require.resolve("node-llama-cpp");
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(entry).href);
const version = require(path.join(entry, "../../package.json")).version;
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.error});
const release = llama.llamaCppRelease;

console.log(`# Logits of ${release.repo} ${release.release}, through node-llama-cpp ${version},`);
console.log("# after the last of these tokens: the likeliest id, then the logits of all ids.");
console.log("# KV cache in f32, weights of a type that a name has, else f32. Made by " +
            "llama_cpp_logits.mjs,");
console.log("# the models by make_models.py; tests/test_foreign.c reads this.");
console.log("tokens " + TOKENS.join(" "));
for (const file of process.argv.slice(2)) {
    const model = await llama.loadModel({modelPath: file, gpuLayers: 0});
    const context = await model.createContext({
        contextSize: 64, batchSize: 64, flashAttention: false,
        experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32",
    });
    const last = TOKENS.length - 1;
    const input = TOKENS.map((id, i) => i < last ? id : [id, {generateNext: {logits: true}}]);
    const out = await context.getSequence().controlledEvaluate(input);
    const logits = out[last].next.logits;  // a Map, the likeliest first
    const best = [...logits.keys()][0];
    const values = Array.from({length: logits.size}, (_, id) => logits.get(id).toFixed(6));
    console.log(`model ${path.basename(file)}`);
    console.log(`best ${best}`);
    for (let at = 0; at < values.length; at += 8)
        console.log("logits " + values.slice(at, at + 8).join(" "));
}
process.exit(0);
