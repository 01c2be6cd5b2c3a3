/* uptrain.c: `run uptrain`: fewer KV heads, then a share of the parent's training once more (Ainslie et al. 2023, section
 * 2.1), optionally learning from the parent as well (Hinton et al. 2015). */
#include <stdlib.h>
#include <string.h>

#include "../formats/formats.h"
#include "../convert/convert.h"
#include "training.h"

typedef struct settings {
    int kv_heads, steps;
    const char *pool;
    float fraction;
} settings;

/* What the command line left open is as in the parent's training. */
static int inherit(training_settings *s, const settings *u, const gqa_checkpoint *parent) {
    gqa_error err = {0};
    gqa_train_options p;
    int status = gqa_train_options_read(parent, &p, &err);
    if (status < 0) return fail("%s", err.message);
    if (status > 0 && !u->steps) return usage_error("%s was not trained here: give --steps, there is nothing to take a fraction of", parent->path);
    gqa_train_options *o = &s->opt;
    o->steps = u->steps ? u->steps : (int)((double)u->fraction * p.steps + 0.5);
    if (status > 0) return EXIT_SUCCESS;
    if (!o->batch) o->batch = p.batch;
    if (!o->length) o->length = p.length;
    if (o->rate == 0) o->rate = p.rate;
    if (o->rate_end == 0) o->rate_end = p.rate_end;
    if (o->decay == 0) o->decay = p.decay;
    if (o->clip == 0) o->clip = p.clip;
    if (o->dropout == 0) o->dropout = p.dropout;
    o->beta1 = p.beta1, o->beta2 = p.beta2;
    return EXIT_SUCCESS;
}

/* The parent's keys and values on the start of the training text, for the aligned pooling. */
static int take_samples(const training *r, const char *path, gqa_kv_samples *out) {
    enum { MOST = 2048 };
    gqa_error err = {0};
    gqa_model *m = gqa_model_open(path, NULL, &err);
    int n = r->data.n_tokens < MOST ? (int)r->data.n_tokens : MOST;
    int status = m ? gqa_kv_samples_take(out, m, r->data.tokens, n, &err) : -1;
    gqa_model_close(m);
    return status ? fail("%s", err.message) : EXIT_SUCCESS;
}

/* r->trainer: the parent with fewer heads. */
static int make_child(training *r, const char *path, const gqa_checkpoint *parent, const settings *u, gqa_pool pool) {
    gqa_error err = {0};
    gqa_kv_samples samples = {0};
    gqa_checkpoint child = {0};
    uint8_t *image = NULL;
    size_t size = 0;
    int code = pool == GQA_POOL_ALIGNED ? take_samples(r, path, &samples) : EXIT_SUCCESS;
    gqa_convert_options o = {.kv_heads = u->kv_heads, .pool = pool, .type = GQA_TYPE_F32, .samples = samples.k ? &samples : NULL, .seed = r->s->opt.seed};
    if (!code && (gqa_convert(parent, &o, NULL, &image, &size, &err) || gqa_checkpoint_read(&child, image, size, path, &err))) code = fail("%s", err.message);
    if (!code) {
        r->trainer = gqa_trainer_from(&child, &r->s->opt, &err);
        if (!r->trainer || (r->s->opt.distill > 0 && gqa_trainer_set_teacher(r->trainer, parent, &err))) code = fail("%s", err.message);
    }
    gqa_kv_samples_free(&samples);
    gqa_checkpoint_free(&child);
    free(image);
    return code;
}

int command_uptrain(int argc, char **argv) {
    const char *paths[2] = {NULL, NULL};
    int n_paths = 0;
    training_settings s;
    training_settings_init(&s);
    settings u = {.pool = "mean", .fraction = 0.05f};
    const opt options[] = {
        {"--kv-heads G", OPT_INT, &u.kv_heads, 1, 4096, "KV heads to pool to; divides the parent's"},
        {"--pool HOW", OPT_STRING, &u.pool, 0, 0, "mean, first, random, renorm, aligned (mean)"},
        {"--fraction A", OPT_FLOAT, &u.fraction, 0, 10, "share of the parent's steps (0.05)"},
        {"--steps N", OPT_INT, &u.steps, 0, 1 << 30, "steps, instead of a share"},
        {"--distill W", OPT_FLOAT, &s.opt.distill, 0, 1, "weight of the divergence from the parent in the loss (0)"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options, s.options), paths, 2, &n_paths, "run uptrain PARENT OUT.gguf -f TEXT --kv-heads G [options]");
    if (code >= 0) return code;
    if (n_paths < 2 || !u.kv_heads) return usage_error("uptrain: give the parent, the file to write and --kv-heads");
    int pool = gqa_pool_from_name(u.pool);
    if (pool < 0) return usage_error("--pool %s: expected mean, first, random, renorm or aligned", u.pool);
    training r;
    gqa_error err = {0};
    gqa_map map = {0};
    gqa_checkpoint parent = {0};
    code = training_open(&r, &s, paths[1], "uptrain", argc, argv);
    if (!code && (gqa_map_open(&map, paths[0], &err) || gqa_checkpoint_read(&parent, map.data, map.size, paths[0], &err) ||
                  gqa_vocab_from_gguf(&r.vocab, &parent, &err)))
        code = fail("%s", err.message);
    if (!code && !r.vocab) code = fail("%s: no vocabulary", paths[0]);
    if (!code) code = inherit(&s, &u, &parent);
    if (!code) code = training_tokenize(&r);
    if (!code) code = make_child(&r, paths[0], &parent, &u, (gqa_pool)pool);
    if (!code) code = training_run(&r);
    training_close(&r);
    gqa_checkpoint_free(&parent);
    gqa_map_close(&map);
    return code;
}
