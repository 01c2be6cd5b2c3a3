/* compare_variants.c: the models that `run compare` compares: files as they are, one file with
 * other numbers of KV heads, converted in memory, or random weights of a shape. */
#include <string.h>

#include "../base/base.h"
#include "calibrate.h"
#include "compare.h"
#include "model_file.h"

static variant *add_variant(comparison *c, const char *path, int kv_heads) {
    variant *v = &c->variants[c->n_variants++];
    v->path = path;
    v->kv_heads = kv_heads;
    return v;
}

/* Without --kv-heads: MHA, the model's own number, and about every quarter of that down to MQA. */
static void choose_heads(comparison *c, int n_heads, int own) {
    int next;
    if (c->n_variants) return;
    if (own < n_heads && n_heads % own == 0) add_variant(c, NULL, n_heads);
    for (int n = own; n; n = next) {
        add_variant(c, NULL, n);
        for (next = n > 1 ? max_int(n / 4, 1) : 0; next && own % next; next--) continue;
    }
}

/* ---- random weights ------------------------------------------------------------------------- */

static int open_random(comparison *c) {
    gqa_config shape = {
        .dim = 2048, .n_layers = 4, .n_heads = 32, .ffn_dim = 5632, .vocab_size = 32000,
    };
    gqa_type type = GQA_TYPE_Q8_0;
    gqa_error err = {0};
    if (parse_shape(c->shape, &shape, &type)) return EXIT_USAGE;
    shape.context_length = c->depths[c->n_depths - 1] + c->tokens + c->prompt;
    if (shape.latent_dim || shape.tied_kv)
        return usage_error("--shape %s: with compare, --kv-heads takes mla and gta", c->shape);
    choose_heads(c, shape.n_heads, shape.n_kv_heads > 0 ? shape.n_kv_heads : shape.n_heads);
    for (variant *v = c->variants; v < c->variants + c->n_variants; v++) {
        gqa_config own = shape;
        if (v->kv_heads) own.n_kv_heads = v->kv_heads;
        if (*v->attention && set_attention(&own, v->attention)) return EXIT_USAGE;
        v->kv_heads = own.n_kv_heads;
        v->model = gqa_model_random(&own, type, 1, NULL, &err);
        if (!v->model) return fail("%s: %s", *v->attention ? v->attention : "--shape", err.message);
    }
    return EXIT_SUCCESS;
}

/* ---- one file with several numbers of heads ------------------------------------------------ */

/* A checkpoint with what pooling it needs. */
typedef struct source {
    model_file file;
    gqa_kv_samples samples;
} source;

static int source_open(source *s, const comparison *c) {
    gqa_error err = {0};
    int status = model_file_open(&s->file, c->paths[0], &err);
    if (!status && c->tokenizer) status = model_file_vocab(&s->file, c->tokenizer, &err);
    return status ? fail("%s", err.message) : EXIT_SUCCESS;
}

static gqa_model *open_as_is(const comparison *c, const char *path) {
    gqa_model_options mo = {.n_threads = c->threads, .tokenizer_path = c->tokenizer};
    return open_model(path, &mo);
}

/* 0, a negative status, or an exit code after printing an error. */
static int convert_variant(const comparison *c, const source *s, variant *v, gqa_error *err) {
    gqa_convert_options o = {
        .kv_heads = v->kv_heads,
        .pool = (gqa_pool)gqa_pool_from_name(c->pool),
        .type = -1,
        .samples = s->samples.k ? &s->samples : NULL,
        .vocab = s->file.vocab,
        .seed = 1,
    };
    size_t size = 0;
    int own = s->file.checkpoint.config.n_kv_heads;
    if (v->kv_heads == own) {
        v->model = open_as_is(c, c->paths[0]);
        return v->model ? 0 : EXIT_FAILURE;
    }
    if (!gqa_can_have_kv_heads(&s->file.checkpoint.config, v->kv_heads))
        return usage_error("--kv-heads %d: must divide the model's %d, or be a multiple that "
                           "divides its %d query heads", v->kv_heads, own,
                           s->file.checkpoint.config.n_heads);
    int status = gqa_convert(&s->file.checkpoint, &o, NULL, &v->image, &size, err);
    if (status) return status;
    v->model = gqa_model_from_memory(v->image, size, NULL, err);
    return v->model ? 0 : err->code;
}

/* Where heads were not asked for, a model whose heads cannot change is shown as it is. */
static int convert_variants(comparison *c, const source *s) {
    int n = c->n_variants, is_refused = 0;
    c->n_variants = 0;
    for (int i = 0; i < n; i++) {
        gqa_error err = {0};
        variant *v = &c->variants[c->n_variants];
        v->kv_heads = c->variants[i].kv_heads;
        int code = convert_variant(c, s, v, &err);
        if (code > 0) return code;
        if (code && (code != GQA_ERR_UNSUPPORTED || c->head_list)) return fail("%s", err.message);
        if (code && !is_refused++) warning("%s", err.message);
        c->n_variants += !code;
    }
    return EXIT_SUCCESS;
}

static int open_file(comparison *c) {
    enum { N_SAMPLES = 1024 };
    const score_text *t = &c->text;
    source s = {0};
    int code = check_tokenizer(c->paths[0], c->tokenizer);
    if (!code && t->text && !strcmp(c->pool, "aligned"))
        code = calibrate(&s.samples, c->paths[0], c->tokenizer, t->text, t->len, N_SAMPLES);
    if (!code) code = source_open(&s, c);
    const gqa_config *g = &s.file.checkpoint.config;
    if (!code) choose_heads(c, g->latent_dim ? g->n_kv_heads : g->n_heads, g->n_kv_heads);
    if (!code) code = convert_variants(c, &s);
    gqa_kv_samples_free(&s.samples);
    model_file_close(&s.file);
    return code;
}

/* ---- several files ------------------------------------------------------------------------- */

static int open_files(comparison *c) {
    for (int i = 0; i < c->n_paths; i++) {
        variant *v = add_variant(c, c->paths[i], 0);
        v->model = open_as_is(c, c->paths[i]);
        if (!v->model) return EXIT_FAILURE;
        v->kv_heads = gqa_model_config(v->model)->n_kv_heads;
    }
    return EXIT_SUCCESS;
}

/* ---- names --------------------------------------------------------------------------------- */

static int is_taken(const comparison *c, const variant *v) {
    const variant *other = c->variants;
    while (other < v && strcmp(other->name, v->name)) other++;
    return other < v;
}

/* The kind of attention; where several are MLA, with the sizes of its row. */
static const char *kind_of(const comparison *c, const variant *v, char buf[32]) {
    const gqa_config *g = v->config;
    int n_latent = 0;
    for (int i = 0; i < c->n_variants; i++)
        n_latent += gqa_model_config(c->variants[i].model)->latent_dim > 0;
    if (!g->latent_dim || n_latent < 2) return attention_name(g, buf);
    snprintf(buf, 32, "MLA %d+%d", g->latent_dim, g->rope_dim);
    return buf;
}

/* The kind of attention, or a file's name without its folder and ".gguf"; if an earlier variant has
 * that name, the path, and then a number. 0, or EXIT_FAILURE after printing an error. */
static int name_variant(const comparison *c, variant *v) {
    char buf[32];
    const char *path = v->path ? v->path : kind_of(c, v, buf);
    const char *base = path + gqa_os_folder_length(path);
    size_t size = 4 * strlen(path) + 16; /* each byte as "\x1b", and a number */
    v->name = malloc(size);
    if (!v->name) return fail("out of memory");
    gqa_escape(v->name, size, base);
    size_t len = strlen(v->name);
    if (len > 5 && !strcmp(v->name + len - 5, ".gguf")) v->name[len - 5] = 0;
    if (is_taken(c, v)) gqa_escape(v->name, size, path);
    len = strlen(v->name);
    for (int n = 2; is_taken(c, v); n++) snprintf(v->name + len, size - len, " (%d)", n);
    return EXIT_SUCCESS;
}

int compare_open(comparison *c) {
    int code = c->shape ? open_random(c) : c->n_paths > 1 ? open_files(c) : open_file(c);
    for (variant *v = c->variants; v < c->variants + c->n_variants && !code; v++) {
        v->config = gqa_model_config(v->model);
        v->stats = gqa_model_get_stats(v->model);
        if (!v->stats->has_weights)
            code = fail("%s: a vocabulary without weights", v->path ? v->path : c->paths[0]);
        if (!code) code = name_variant(c, v);
        if (!code) c->name_width = max_int(c->name_width, (int)strlen(v->name));
    }
    return code;
}

void compare_close(comparison *c) {
    for (variant *v = c->variants; v < c->variants + MAX_VARIANTS; v++) {
        gqa_model_close(v->model);
        free(v->image);
        free(v->name);
        gqa_free(v->tokens);
    }
}
