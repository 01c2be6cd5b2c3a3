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
        {"lmgg", "an old GGML file"},
        {"fmgg", "an old GGML file"},
        {"tjgg", "an old GGML file"},
        {"algg", "an adapter (LoRA) in an old GGML format"},
        {"gqaSESS", "a saved session, not the model that it belongs to"},
        {"gqaPACK", "repacked weights; give the model beside them"},
        {"\n\x0e\n\x05<unk>", "a SentencePiece vocabulary (tokenizer.model), without weights"},
        {"\x1f\x8b\x08", "a gzip archive (unpack it first)"},
        {"BZh", "a bzip2 archive (unpack it first)"},
        {"\xfd" "7zXZ", "an xz archive (unpack it first)"},
        {"\x28\xb5\x2f\xfd", "a zstd archive (unpack it first)"},
        {"\x89HDF", "an HDF5 file (Keras?)"},
        {"\x93NUMPY", "a NumPy array"},
    };
    for (size_t i = 0; i < array_length(known); i++)
        if (starts_with(data, size, known[i].magic)) return known[i].what;
    if (size > 10 && data[8] == '{' && strchr("\" \n}", data[9]) && data[9])
        return "a safetensors file (scripts/export_hf.py makes a GGUF of its folder)";
    /* llama2.c v0 may begin with 0x80 2 0: a width of 640. */
    if (size > 10 && data[0] == 0x80 && data[1] >= 2 && data[1] <= 5 && data[2] >= ' ')
        return "a Python pickle (a PyTorch file? export it to GGUF first)";
    if (size > 17 && starts_with(data + 12, 5, "<unk>"))
        return "the vocabulary of a llama2.c model (it goes after -z)";
    if (size > 262 && starts_with(data + 257, 5, "ustar")) return "a tar archive (unpack it first)";
    return NULL;
}

/* Copies the beginning of a text of 8 bytes or more; an empty one when the file is none: llama2.c
 * has zero bytes there. */
static void detect_text(const uint8_t *data, size_t size, char out[64]) {
    size_t n = min_size(size, 63);
    memcpy(out, data, n);
    out[n < 8 ? 0 : n] = 0;
    for (size_t i = 0; i < n; i++)
        if (data[i] < ' ' && !(data[i] && strchr("\t\n\r", data[i]))) out[0] = 0;
}

int gqa_checkpoint_describe(gqa_checkpoint *c, const void *data, size_t size, const char *path,
                            gqa_error *err) {
    const uint16_t one = 1;
    memset(c, 0, sizeof *c);
    snprintf(c->path, sizeof c->path, "%s", path);
    if (*(const uint8_t *)&one != 1) return fail_unsupported(c, err, "this machine is big-endian");
    if (!data || size == 0) return fail_format(c, err, "the file is empty");
    const char *other = detect_other(data, size);
    if (other) return fail_format(c, err, "not a model: it seems to be %s", other);
    char text[64];
    int is_gguf = starts_with(data, size, "GGUF");
    detect_text(data, is_gguf ? 0 : size, text);
    if (*text)
        return fail_format(c, err, "not a model: it is a text that begins \"%s\" (the download "
                           "went wrong?)", text);
    int status = is_gguf ? gguf_read(c, data, size, err) : llama2c_read(c, data, size, err);
    if (status) gqa_checkpoint_free(c);
    return status;
}

int gqa_checkpoint_read(gqa_checkpoint *c, const void *data, size_t size, const char *path,
                        gqa_error *err) {
    int status = gqa_checkpoint_describe(c, data, size, path, err);
    if (!status) status = gqa_checkpoint_check_types(c, err);
    if (!status && c->refusal.code) {
        status = c->refusal.code;
        if (err) *err = c->refusal;
    }
    if (status) gqa_checkpoint_free(c);
    return status;
}
