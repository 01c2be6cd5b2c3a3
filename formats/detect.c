/* detect.c: which format a file has, or what else it seems to be. */
#include <stdio.h>
#include <string.h>

#include "formats.h"
#include "gguf.h"

static int starts_with(const uint8_t *data, size_t size, const char *magic) {
    size_t n = strlen(magic);
    return size >= n && !memcmp(data, magic, n);
}

/* What a file that is not a checkpoint seems to be; NULL: unknown. */
static const char *detect_other(const uint8_t *data, size_t size) {
    static const struct { const char *magic, *what; } known[] = {
        {"PK\3\4", "a zip archive (a PyTorch file? export it to GGUF first)"},
        {"\x7f" "ELF", "a program"},
        {"version https://git-lfs", "a Git LFS pointer (the download did not fetch the real file)"},
        {"<!DOCTYPE", "a web page (the download went wrong)"},
        {"<html", "a web page (the download went wrong)"},
        {"FUGG", "a big-endian GGUF"},
        {"ggjt", "an old GGML file"},
        {"lmgg", "an old GGML file"},
        {"tjgg", "an old GGML file"},
    };
    for (size_t i = 0; i < array_length(known); i++)
        if (starts_with(data, size, known[i].magic)) return known[i].what;
    if (size > 10 && data[8] == '{' && data[9] == '"')
        return "a safetensors file (scripts/export_hf.py makes a GGUF of its folder)";
    return NULL;
}

int gqa_checkpoint_read(gqa_checkpoint *c, const void *data, size_t size, const char *path,
                        gqa_error *err) {
    const uint16_t one = 1;
    memset(c, 0, sizeof *c);
    snprintf(c->path, sizeof c->path, "%s", path);
    if (*(const uint8_t *)&one != 1) return fail_unsupported(c, err, "this machine is big-endian");
    if (!data || size == 0) return fail_format(c, err, "the file is empty");
    const char *other = detect_other(data, size);
    if (other) return fail_format(c, err, "not a model: it seems to be %s", other);
    int status = starts_with(data, size, "GGUF") ? gguf_read(c, data, size, err)
                                                 : llama2c_read(c, data, size, err);
    if (status) gqa_checkpoint_free(c);
    return status;
}
