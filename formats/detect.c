/* detect.c: which format a file has, or what else it seems to be. */
#include <stdio.h>
#include <string.h>

#include "formats.h"
#include "gguf.h"

/* What a file that is no checkpoint seems to be; NULL: no idea. */
static const char *guess(const uint8_t *data, size_t size) {
    static const struct { const char *start, *what; } known[] = {
        {"PK\3\4", "a zip archive (a PyTorch file? export it to GGUF first)"}, {"\x7f" "ELF", "a program"},
        {"version https://git-lfs", "a Git LFS pointer (the download did not fetch the real file)"},
        {"<!DOCTYPE", "a web page (the download went wrong)"}, {"<html", "a web page (the download went wrong)"},
        {"FUGG", "a big-endian GGUF"}, {"ggjt", "an old GGML file"}, {"lmgg", "an old GGML file"}, {"tjgg", "an old GGML file"},
    };
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (size >= strlen(known[i].start) && !memcmp(data, known[i].start, strlen(known[i].start))) return known[i].what;
    if (size > 10 && data[8] == '{' && data[9] == '"') return "a safetensors file (scripts/export_hf.py makes a GGUF of its folder)";
    return NULL;
}

int gqa_checkpoint_read(gqa_checkpoint *c, const void *data, size_t size, const char *path, gqa_error *err) {
    const uint16_t one = 1;
    memset(c, 0, sizeof *c);
    snprintf(c->path, sizeof c->path, "%s", path);
    if (*(const uint8_t *)&one != 1) return gqa_fail(err, GQA_ERR_UNSUPPORTED, "%s: this machine is big-endian", path);
    if (!data || size == 0) return gqa_fail(err, GQA_ERR_FORMAT, "%s: the file is empty", path);
    const char *what = guess(data, size);
    if (what) return gqa_fail(err, GQA_ERR_FORMAT, "%s: not a model: it seems to be %s", path, what);
    int status = size >= 4 && !memcmp(data, "GGUF", 4) ? gguf_read(c, data, size, err) : llama2c_read(c, data, size, err);
    if (status) gqa_checkpoint_free(c);
    return status;
}
