/* model.c: opens, describes and closes a model. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weights/model_internal.h"

static const gqa_model_options default_options;

/* llama2.c keeps its vocabulary in a file of its own: the one named, or tokenizer.bin beside the model. */
static int open_tokenizer(gqa_model *m, const char *model_path, const gqa_model_options *opt, gqa_error *err) {
    char beside[1024];
    const char *path = opt->tokenizer_path;
    if (!path && model_path) {
        const char *slash = strrchr(model_path, '/');
        int dir = slash ? (int)(slash - model_path) + 1 : 0;
        int n = snprintf(beside, sizeof beside, "%.*stokenizer.bin", dir, model_path);
        if (n < 0 || n >= (int)sizeof beside || access(beside, R_OK)) return 0;
        path = beside;
    }
    if (!path) return 0;
    int status = gqa_map_open(&m->tokenizer_map, path, err);
    if (status) return status;
    return gqa_vocab_from_llama2c(&m->vocab, m->tokenizer_map.data, m->tokenizer_map.size, m->config.vocab_size, path, err);
}

static int open_vocab(gqa_model *m, const char *model_path, const gqa_model_options *opt, gqa_error *err) {
    int status = gqa_vocab_from_gguf(&m->vocab, &m->file, err);
    if (!status && !m->vocab) status = open_tokenizer(m, model_path, opt, err);
    if (status || !m->vocab || !m->file.n_tensors) return status;
    if (gqa_vocab_count(m->vocab) > m->config.vocab_size)
        return gqa_fail(err, GQA_ERR_FORMAT, "%s: the vocabulary has %d tokens, but the embedding has %d rows",
                        m->file.path, gqa_vocab_count(m->vocab), m->config.vocab_size);
    return 0;
}

/* Everything after the checkpoint is in m->file. */
static int build(gqa_model *m, const char *model_path, const gqa_model_options *opt, gqa_error *err) {
    m->config = m->file.config;
    m->kernels = gqa_kernels_choose(opt->isa, err);
    if (!m->kernels) return GQA_ERR_UNSUPPORTED;
    m->stats.format = m->file.format;
    m->stats.isa = m->kernels->name;
    int status = open_vocab(m, model_path, opt, err);
    if (status || opt->vocab_only || !m->file.n_tensors) return status;
    status = gqa_model_bind(m, err);
    if (!status && !opt->no_repack) status = gqa_model_pack(m, model_path, opt, err);
    if (!status && opt->on_progress && opt->on_progress(opt->user, 1))
        status = gqa_fail(err, GQA_ERR_CANCELLED, "%s: loading was cancelled", m->file.path);
    return status;
}

static gqa_model *model_new(gqa_error *err) {
    gqa_model *m = calloc(1, sizeof *m);
    if (!m) gqa_fail(err, GQA_ERR_MEMORY, "no memory for a model");
    return m;
}

gqa_model *gqa_model_open(const char *path, const gqa_model_options *opt, gqa_error *err) {
    if (!opt) opt = &default_options;
    gqa_model *m = model_new(err);
    if (!m) return NULL;
    if (gqa_map_open(&m->map, path, err) || gqa_checkpoint_read(&m->file, m->map.data, m->map.size, path, err) ||
        build(m, path, opt, err)) {
        gqa_model_close(m);
        return NULL;
    }
    return m;
}

gqa_model *gqa_model_from_memory(const void *data, size_t size, const gqa_model_options *opt, gqa_error *err) {
    if (!opt) opt = &default_options;
    gqa_model *m = model_new(err);
    if (!m) return NULL;
    if (gqa_checkpoint_read(&m->file, data, size, "memory", err) || build(m, NULL, opt, err)) {
        gqa_model_close(m);
        return NULL;
    }
    return m;
}

gqa_model *gqa_model_random(const gqa_config *shape, gqa_type type, uint64_t seed, const gqa_model_options *opt,
                            gqa_error *err) {
    if (!opt) opt = &default_options;
    gqa_model *m = model_new(err);
    if (!m) return NULL;
    if (gqa_checkpoint_random(&m->file, shape, type, seed, err) || build(m, NULL, opt, err)) {
        gqa_model_close(m);
        return NULL;
    }
    return m;
}

void gqa_model_close(gqa_model *m) {
    if (!m) return;
    gqa_vocab_free(m->vocab);
    gqa_checkpoint_free(&m->file);
    gqa_map_close(&m->map);
    gqa_map_close(&m->tokenizer_map);
    gqa_model_unpack(m);
    free(m->vectors);
    free(m->layers);
    free(m->rope_freq);
    free(m);
}

const gqa_config *gqa_model_config(const gqa_model *m) { return &m->config; }
void gqa_model_get_stats(const gqa_model *m, gqa_model_stats *out) { *out = m->stats; }

uint64_t gqa_kv_bytes_per_position(const gqa_config *c, gqa_type kv_type) {
    const gqa_type_info *t = gqa_type_info_of((int)kv_type);
    if (!t) return 0;
    return 2 * (uint64_t)c->n_layers * (uint64_t)c->n_kv_heads * (uint64_t)c->head_dim * (uint64_t)t->bytes / (uint64_t)t->block;
}

/* ---- vocabulary: the model's words for what tokenizer.h does ---------------------------------------------------- */

int gqa_tokenize(const gqa_model *m, const char *text, size_t len, unsigned flags, int32_t *out, int cap, gqa_error *err) {
    if (!m->vocab)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: the model has no vocabulary%s", m->file.path,
                        m->file.n_meta ? "" : " (llama2.c checkpoints need a tokenizer file: -z FILE)");
    return gqa_vocab_tokenize(m->vocab, text, len, flags, out, cap, err);
}

int gqa_tokenize_new(const gqa_model *m, const char *text, size_t len, unsigned flags, int32_t **out, gqa_error *err) {
    *out = NULL;
    int cap = len < INT32_MAX / 8 ? (int)len + 3 : 0, n = cap; /* a text too long for gqa_tokenize gets its message */
    for (int tries = 0; tries < 2; tries++, cap = n) {
        int32_t *tokens = malloc(sizeof *tokens * (size_t)(cap + 1));
        if (!tokens) return gqa_fail(err, GQA_ERR_MEMORY, "no memory for the tokens of %zu bytes", len);
        n = gqa_tokenize(m, text, len, flags, tokens, cap, err);
        if (n >= 0 && n <= cap) {
            *out = tokens;
            return n;
        }
        free(tokens);
        if (n < 0) break;
    }
    return n;
}

int gqa_token_bytes(const gqa_model *m, int32_t token, char *out, int cap) {
    return m->vocab ? gqa_vocab_token_bytes(m->vocab, token, out, cap) : GQA_ERR_ARGUMENT;
}

int32_t gqa_token_find(const gqa_model *m, const char *text) {
    return m->vocab ? gqa_vocab_find(m->vocab, text, strlen(text)) : -1;
}

int gqa_vocab_size(const gqa_model *m) { return m->vocab ? gqa_vocab_count(m->vocab) : 0; }
int32_t gqa_token_bos(const gqa_model *m) { return m->vocab ? gqa_vocab_bos(m->vocab) : -1; }
int32_t gqa_token_eos(const gqa_model *m) { return m->vocab ? gqa_vocab_eos(m->vocab) : -1; }
int gqa_token_is_end(const gqa_model *m, int32_t token) { return m->vocab && gqa_vocab_is_end(m->vocab, token); }
int gqa_token_is_control(const gqa_model *m, int32_t token) { return m->vocab && gqa_vocab_is_control(m->vocab, token); }
int gqa_model_adds_bos(const gqa_model *m) { return m->vocab && gqa_vocab_adds_bos(m->vocab); }
const char *gqa_model_chat_template(const gqa_model *m) { return m->vocab ? gqa_vocab_chat_template(m->vocab) : NULL; }
const char *gqa_model_warning(const gqa_model *m) { return m->vocab ? gqa_vocab_warning(m->vocab) : NULL; }
