"use strict";
// model.js: the functions of web.c as objects, for the page and for node.
//
//     const file = copyBytes(await createGqa(), bytes);  // createGqa: from gqa.js
//     const model = new GqaModel(file);
//     for (const piece of model.story("Once upon a time", {})) write(piece);
//
// To cancel is to leave the loop. A failed call throws an Error with the library's message.

// Bytes copied into the module's memory: those of a GGUF file once, for any number of models.
function copyBytes(module, bytes) {
    const pointer = module._malloc(bytes.length || 1);
    if (!pointer) throw new Error(`no memory for ${bytes.length} bytes`);
    module.HEAPU8.set(bytes, pointer);
    return { module, pointer, size: bytes.length };
}

class GqaModel {
    // kvHeads 0: as in the file; fewer: pooled; more: one for each query head.
    constructor(file, { kvHeads = 0, context = 0 } = {}) {
        this.module = file.module;
        this.handle = this.module._web_open(file.pointer, file.size, kvHeads, context);
        if (!this.handle) throw new Error("no memory for a model");
        try {
            this.check(0);
        } catch (error) {
            this.close();
            throw error;
        }
        this.info = JSON.parse(this.string("web_describe"));
    }
    string(name) {
        return this.module.ccall(name, "string", ["number"], [this.handle]);
    }
    check(result) {
        const message = this.string("web_error");
        if (result < 0 || message) throw new Error(message);
        return result;
    }
    start(prompt, { temperature = 0, seed = 1 }) {
        const { pointer, size } = copyBytes(this.module, new TextEncoder().encode(prompt));
        const result = this.module._web_start(this.handle, pointer, size, temperature, seed);
        this.module._free(pointer);
        this.check(result);
        this.decoder = new TextDecoder();
    }
    // Generates n tokens; how many, and 0 once the text has ended.
    next(n = 1, ignoreEnd = false) {
        return this.check(this.module._web_next(this.handle, n, ignoreEnd ? 1 : 0));
    }
    // Of the last next(). A character may be split between two calls.
    text() {
        const from = this.module._web_text(this.handle);
        const bytes = this.module.HEAPU8.subarray(from, from + this.module._web_size(this.handle));
        return this.decoder.decode(bytes, { stream: true });
    }
    // The text that follows the prompt, token by token.
    *story(prompt, options) {
        this.start(prompt, options);
        while (this.next()) yield this.text();
        yield this.text();
    }
    kvBytes(positions) {
        return this.module._web_kv_bytes(this.handle, positions);
    }
    close() {
        this.module._web_close(this.handle);
    }
}

if (typeof module === "object") module.exports = { GqaModel, copyBytes };
