/* uptrain.c: `run uptrain`: fewer KV heads, then a share of the parent's training once more
 * (Ainslie et al. 2023, section 2.1), optionally learning from the parent as well (Hinton et al.
 * 2015). */
#include <string.h>

#include "../convert/convert.h"
#include "../formats/formats.h"
#include "training.h"

typedef struct settings {
    int kv_heads, steps;
    const char *pool_name;
    gqa_pool pool;
    float fraction;
} settings;

/* What the command line left open is as in the parent's training. */
static int inherit(training_settings *s, const settings *u, const gqa_checkpoint *parent) {
    gqa_error err = {0};
    gqa_train_options p;
    int status = gqa_train_options_read(parent, &p, &err);
    if (status < 0) return fail("%s", err.message);
    if (status > 0 && !u->steps)
        return usage_error("%s does not record its training: give --steps", parent->path);
    gqa_train_options *o = &s->opt;
    o->steps = u->steps ? u->steps : (int)((double)u->fraction * p.steps + 0.5);
    if (status > 0) p = (gqa_train_options){0};
    p.distill = 0;
    training_settle(o, &p);
    if (status > 0) return EXIT_SUCCESS;
    if (!o->batch) o->batch = p.batch;
    if (!o->length) o->length = p.length;
    o->muon |= p.muon;
    o->beta1 = p.beta1;
    o->beta2 = p.beta2;
    return EXIT_SUCCESS;
}

/* The parent's keys and values on the start of the training text, for the aligned pooling. */
static int take_samples(const training *r, const char *path, gqa_kv_samples *out) {
    enum { MAX_TOKENS = 2048 };
    gqa_error err = {0};
    gqa_model *m = gqa_model_open(path, NULL, &err);
    int n = (int)min_size(r->data.n_tokens, MAX_TOKENS);
    int status = m ? gqa_kv_samples_take(out, m, r->data.tokens, n, &err) : -1;
    gqa_model_close(m);
    return status ? fail("%s", err.message) : EXIT_SUCCESS;
}

/* r->trainer: the parent with fewer heads. */
static int make_child(training *r, const gqa_checkpoint *parent, const gqa_convert_options *o) {
    const gqa_train_options *t = &r->s->opt;
    gqa_error err = {0};
    gqa_checkpoint child = {0};
    uint8_t *image = NULL;
    size_t size = 0;
    int status = gqa_convert(parent, o, NULL, &image, &size, &err);
    if (!status) status = gqa_checkpoint_read(&child, image, size, parent->path, &err);
    if (!status) r->trainer = gqa_trainer_from(&child, t, &err);
    if (r->trainer && t->distill > 0) status = gqa_trainer_add_teacher(r->trainer, parent, &err);
    gqa_checkpoint_free(&child);
    free(image);
    return status || !r->trainer ? fail("%s", err.message) : EXIT_SUCCESS;
}

static int pool_parent(training *r, const char *path, const gqa_checkpoint *parent,
                       const settings *u) {
    gqa_kv_samples samples = {0};
    gqa_convert_options o = {
        .kv_heads = u->kv_heads, .pool = u->pool, .type = GQA_TYPE_F32, .seed = r->s->opt.seed,
    };
    int code = EXIT_SUCCESS;
    if (u->pool == GQA_POOL_ALIGNED) {
        code = take_samples(r, path, &samples);
        o.samples = &samples;
    }
    if (!code) code = make_child(r, parent, &o);
    gqa_kv_samples_free(&samples);
    return code;
}

static int open_parent(training *r, model_file *parent, const char *path) {
    gqa_error err = {0};
    int status = model_file_open(parent, path, &err);
    if (!status) status = model_file_vocab(parent, NULL, &err);
    if (status) return fail("%s", err.message);
    r->vocab = parent->vocab;
    return r->vocab ? EXIT_SUCCESS : fail("%s: no vocabulary", path);
}

static int uptrain(training *r, const char *path, const settings *u) {
    model_file parent = {0};
    training_input(r, "pool", u->pool_name);
    int code = training_input_file(r, "parent", path);
    if (!code) code = open_parent(r, &parent, path);
    if (!code) code = inherit(r->s, u, &parent.checkpoint);
    if (!code) code = training_tokenize(r);
    if (!code) code = pool_parent(r, path, &parent.checkpoint, u);
    if (!code) code = training_run(r);
    model_file_close(&parent);
    return code;
}

int command_uptrain(int argc, char **argv) {
    const char *paths[2] = {NULL, NULL};
    int n_paths = 0;
    training_settings s;
    training_settings_init(&s);
    settings u = {.pool_name = "mean", .fraction = 0.05f};
    const opt options[] = {
        {"--kv-heads G", OPT_INT, &u.kv_heads, 1, 4096,
         "KV heads to pool to; must divide the parent's"},
        {"--pool HOW", OPT_STRING, &u.pool_name, 0, 0,
         "mean, first, random, renorm or aligned (default mean)"},
        {"--fraction A", OPT_FLOAT, &u.fraction, 0, 10,
         "share of the parent's steps (default 0.05)"},
        {"--steps N", OPT_INT, &u.steps, 0, 1 << 30, "training steps, instead of a share"},
        {"--distill W", OPT_FLOAT, &s.opt.distill, 0, 1,
         "weight in the loss of the KL divergence from the parent\n(default 0)"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options, s.options), paths, 2, &n_paths,
                             "run uptrain PARENT OUT.gguf -f TEXT --kv-heads G [options]\n\n"
                             "Pools the KV heads of a model, then trains it for a share of its\n"
                             "steps. --batch, --length, --rate, --rate-end, --decay, --clip,\n"
                             "--dropout and --muon default to the parent's, if it records them.");
    if (code >= 0) return code;
    if (n_paths < 2 || !u.kv_heads)
        return usage_error("uptrain: give the parent, the file to write and --kv-heads");
    int pool = gqa_pool_from_name(u.pool_name);
    if (pool < 0)
        return usage_error("--pool %s: expected mean, first, random, renorm or aligned",
                           u.pool_name);
    u.pool = (gqa_pool)pool;
    training r = {0};
    code = refuse_same_file(paths[0], paths[1]);
    if (!code) code = training_open(&r, &s, paths[1], "uptrain", argc, argv);
    if (!code) code = uptrain(&r, paths[0], &u);
    training_close(&r);
    return code;
}
