/* model.c: opens, describes and closes a model; the library's version. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "formats/formats.h"
#include "kernels/threads.h"
#include "weights/model_internal.h"

const char *gqa_version(void) { return GQA_VERSION; }
int gqa_version_number(void) { return GQA_VERSION_NUMBER; }
void gqa_free(void *p) { free(p); }

static const gqa_model_options default_model_options;

/* llama2.c's vocabulary is a file of its own: opt's, or tokenizer.bin beside the model. */
static int open_tokenizer(gqa_model *m, const char *model_path, const gqa_model_options *opt,
                          gqa_error *err) {
    char beside[1024];
    const char *path = opt->tokenizer_path;
    if (!path && model_path) {
        if (gqa_path_beside(model_path, "tokenizer.bin", beside, sizeof beside) ||
            !gqa_os_exists(beside))
            return 0;
        path = beside;
    }
    if (!path) return 0;
    gqa_map *map = &m->tokenizer_map;
    int status = gqa_map_open(map, path, err);
    if (status) return status;
    return gqa_vocab_from_llama2c(&m->vocab, map->data, map->size, m->config.vocab_size, path, err);
}

static int open_vocab(gqa_model *m, const char *model_path, const gqa_model_options *opt,
                      gqa_error *err) {
    int status = gqa_vocab_from_gguf(&m->vocab, &m->file, err);
    if (!status && !m->vocab) status = open_tokenizer(m, model_path, opt, err);
    if (status || !m->vocab || !m->file.n_tensors || m->file.refusal.code) return status;
    int n_tokens = gqa_vocab_count(m->vocab), n_rows = m->config.vocab_size;
    if (n_tokens <= n_rows) return 0;
    return fail_format(&m->file, err, "the vocabulary has %d tokens, but the embedding has %d rows",
                       n_tokens, n_rows);
}

/* The checkpoint into m->file. For its vocabulary alone it need not be one that can be run. */
static int read_checkpoint(gqa_model *m, const void *data, size_t size, const char *path,
                           const gqa_model_options *opt, gqa_error *err) {
    if (opt->vocab_only) return gqa_checkpoint_describe(&m->file, data, size, path, err);
    return gqa_checkpoint_read(&m->file, data, size, path, err);
}

/* Whether long passes multiply float weights in bf16: they are asked to, can, and are faster. */
static int uses_bf16(gqa_model *m, const gqa_model_options *opt) {
    int n_floats = 0;
    const gqa_matrix *w;
    for (int i = 0; (w = gqa_model_matrix(m, i)); i++)
        n_floats += w->rows && !gqa_type_wants_q8(w->type);
    if (!n_floats || !opt->fast_prefill) return 0;
    return opt->fast_prefill > 1 ? gqa_kernels_have_bf16(m->kernels)
                                 : gqa_kernels_gain_by_bf16(m->kernels);
}

/* Everything after the checkpoint is in m->file. model_path NULL: from memory. */
static int build_model(gqa_model *m, const char *model_path, const gqa_model_options *opt,
                       gqa_error *err) {
    m->config = m->file.config;
    gqa_config_set_defaults(&m->config);
    m->kernels = gqa_kernels_choose(opt->isa, err);
    if (!m->kernels) return GQA_ERR_UNSUPPORTED;
    m->stats.format = m->file.format;
    m->stats.isa = m->kernels->name;
    int status = open_vocab(m, model_path, opt, err);
    if (status || opt->vocab_only || !m->file.n_tensors) return status;
    status = gqa_model_bind(m, err);
    m->stats.fast_prefill = !status && uses_bf16(m, opt);
    if (!status && !opt->no_repack) status = gqa_model_pack(m, model_path, opt, err);
    if (!status && opt->on_progress && opt->on_progress(opt->user, 1))
        status = gqa_fail_path(m->file.path, err, GQA_ERR_CANCELLED, "loading was cancelled");
    return status;
}

static gqa_model *model_new(const gqa_model_options *opt, gqa_error *err) {
    if (gqa_check_reserved(opt->reserved, sizeof opt->reserved, "model options", err)) return NULL;
    if (gqa_check_threads(opt->n_threads, err)) return NULL;
    gqa_model *m = calloc(1, sizeof *m);
    if (!m) gqa_fail(err, GQA_ERR_MEMORY, "no memory for a model");
    return m;
}

/* The model, or NULL after closing what there is of it when status is not 0. */
static gqa_model *model_or_null(gqa_model *m, int status) {
    if (!status) return m;
    gqa_model_close(m);
    return NULL;
}

gqa_model *gqa_model_open(const char *path, const gqa_model_options *opt, gqa_error *err) {
    if (!opt) opt = &default_model_options;
    if (!path) gqa_fail(err, GQA_ERR_ARGUMENT, "model: the path is NULL");
    gqa_model *m = path ? model_new(opt, err) : NULL;
    if (!m) return NULL;
    int status = gqa_map_open(&m->map, path, err);
    if (!status) status = read_checkpoint(m, m->map.data, m->map.size, path, opt, err);
    if (!status) status = build_model(m, path, opt, err);
    return model_or_null(m, status);
}

gqa_model *gqa_model_from_memory(const void *data, size_t size, const gqa_model_options *opt,
                                 gqa_error *err) {
    if (!opt) opt = &default_model_options;
    if (!data) gqa_fail(err, GQA_ERR_ARGUMENT, "model: the data is NULL");
    gqa_model *m = data ? model_new(opt, err) : NULL;
    if (!m) return NULL;
    int status = read_checkpoint(m, data, size, "memory", opt, err);
    if (!status) status = build_model(m, NULL, opt, err);
    return model_or_null(m, status);
}

gqa_model *gqa_model_random(const gqa_config *shape, gqa_type type, uint64_t seed,
                            const gqa_model_options *opt, gqa_error *err) {
    if (!opt) opt = &default_model_options;
    gqa_model *m = model_new(opt, err);
    if (!m) return NULL;
    int status = gqa_checkpoint_random(&m->file, shape, type, seed, err);
    if (!status) status = build_model(m, NULL, opt, err);
    return model_or_null(m, status);
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
    for (int i = 0; i < GQA_ROPE_TABLES; i++) free(m->rope[i].freq);
    free(m);
}

const gqa_config *gqa_model_config(const gqa_model *m) { return &m->config; }
const gqa_layer_config *gqa_model_layer(const gqa_model *m, int l) {
    int is_there = m && m->has_weights && l >= 0 && l < m->config.n_layers;
    return is_there ? &m->layers[l].config : NULL;
}
const gqa_model_stats *gqa_model_get_stats(const gqa_model *m) {
    return m ? &m->stats : NULL;
}

uint64_t gqa_kv_bytes_per_position(const gqa_config *c, gqa_type kv_type) {
    const gqa_type_info *t = gqa_type_info_of((int)kv_type);
    if (!t) return 0;
    const int is_shared = c->latent_dim || c->tied_kv;
    const size_t block = t->block; /* a power of two */
    uint64_t rows = (uint64_t)c->n_kv_heads *
                    round_up(c->latent_dim ? c->latent_dim : c->head_dim, block);
    uint64_t values = is_shared ? rows + round_up(c->rope_dim, block) : 2 * rows;
    return (uint64_t)c->n_layers * values * (uint64_t)t->bytes / (uint64_t)t->block;
}

uint64_t gqa_model_kv_bytes(const gqa_model *m, gqa_type kv_type, int n) {
    uint64_t total = 0;
    for (int l = 0; m && m->has_weights && l < m->config.n_layers; l++) {
        const gqa_layer_config *layer = &m->layers[l].config;
        if (layer->kv_layer != l) continue;
        gqa_config one = {.n_layers = 1, .n_kv_heads = layer->n_kv_heads,
                          .head_dim = layer->head_dim, .rope_dim = m->config.rope_dim,
                          .latent_dim = m->config.latent_dim, .tied_kv = m->config.tied_kv};
        int positions = max_int(layer->window ? min_int(n, layer->window) : n, 0);
        total += (uint64_t)positions * gqa_kv_bytes_per_position(&one, kv_type);
    }
    return total;
}
