/* train.c: `run train`: a tokenizer and a LLaMA-style model, learnt from a text. */
#include <math.h>
#include <string.h>

#include "../base/base.h"
#include "training.h"

static int learn_vocab(training *r, int n) {
    gqa_error err = {0};
    if (!r->s->quiet) fprintf(stderr, "learning a vocabulary of %d tokens\n", n);
    if (gqa_bpe_train(&r->learnt, r->text, r->text_len, n, &err)) return fail("%s", err.message);
    r->vocab = r->learnt;
    return EXIT_SUCCESS;
}

/* Where the vocabulary comes from, for a run that is resumed. */
static int record_tokenizer(training *r, const char *tokenizer, int n) {
    char learnt[32];
    if (tokenizer) return training_input_file(r, "tokenizer", tokenizer);
    snprintf(learnt, sizeof learnt, "one of %d learnt tokens", n);
    training_input(r, "tokenizer", learnt);
    return EXIT_SUCCESS;
}

/* The vocabulary of a model file, or a new one of n tokens: in a resumed run the same again, as its
 * text and `tokenizer` have to be the same. */
static int find_vocab(training *r, const char *tokenizer, int n) {
    gqa_error err = {0};
    if (!tokenizer) return learn_vocab(r, n);
    int status = model_file_open(&r->source, tokenizer, &err);
    if (!status) status = model_file_vocab(&r->source, NULL, &err);
    if (status) return fail("%s", err.message);
    r->vocab = r->source.vocab;
    return r->vocab ? EXIT_SUCCESS : fail("%s: no vocabulary", tokenizer);
}

/* ---- teachers -------------------------------------------------------------------------------- */

/* Adds a teacher to r->trainer; own: the model whose vocabulary the run has. */
static int add_teacher(const training *r, const gqa_model *own, const char *path) {
    const gqa_model_options options = {.no_repack = 1};
    gqa_error err = {0};
    model_file f = {0};
    int status = model_file_open(&f, path, &err);
    if (!status) status = gqa_trainer_add_teacher(r->trainer, &f.checkpoint, &err);
    model_file_close(&f);
    gqa_model *teacher = status ? NULL : gqa_model_open(path, &options, &err);
    if (teacher) status = gqa_check_vocabulary(own, teacher, &err);
    gqa_model_close(teacher);
    return status || !teacher ? fail("%s", err.message) : EXIT_SUCCESS;
}

static int add_teachers(const training *r, const char *tokenizer, const opt_list *teachers) {
    const gqa_model_options options = {.no_repack = 1};
    gqa_error err = {0};
    gqa_model *own = teachers->n ? gqa_model_open(tokenizer, &options, &err) : NULL;
    int code = teachers->n && !own ? fail("%s", err.message) : EXIT_SUCCESS;
    for (int i = 0; i < teachers->n && !code; i++) code = add_teacher(r, own, teachers->items[i]);
    gqa_model_close(own);
    return code;
}

/* Their files must be the same in a run that is resumed, and may not be the one to write. */
static int record_teachers(training *r, const opt_list *teachers) {
    char name[24], count[12];
    int code = EXIT_SUCCESS;
    if (teachers->n > GQA_MAX_TEACHERS)
        return usage_error("%d teachers, expected at most %d", teachers->n, GQA_MAX_TEACHERS);
    snprintf(count, sizeof count, "%d", teachers->n);
    if (teachers->n) training_input(r, "number of teachers", count); /* none: --distill is 0 */
    for (int i = 0; i < teachers->n && !code; i++) {
        snprintf(name, sizeof name, "teacher %d", i + 1);
        code = refuse_same_file(teachers->items[i], r->out);
        if (!code) code = training_input_file(r, name, teachers->items[i]);
    }
    return code;
}

/* ---- kinds of attention ---------------------------------------------------------------------- */

/* Puts --attention in place of what the shape's kv_heads says. */
static int choose_attention(gqa_config *c, const char *kind) {
    int64_t groups = !strcmp(kind, "mha") ? c->n_heads : !strcmp(kind, "mqa");
    if (c->latent_dim || c->tied_kv)
        return usage_error("--attention %s: the shape has another in kv_heads", kind);
    if (!strncmp(kind, "mla", 3) || !strncmp(kind, "gta", 3)) return set_attention(c, kind);
    if (!strncmp(kind, "gqa:", 4)) parse_int(kind + 4, 1, c->n_heads, &groups);
    if (!groups || c->n_heads % groups)
        return usage_error("--attention %s: expected mha, gqa:G with a G that divides %d heads, "
                           "mqa, mla or gta", kind, c->n_heads);
    c->n_kv_heads = (int)groups;
    return 0;
}

/* Gives c an FFN with which it has as many weights as MHA, but for less than one column in each
 * matrix of the FFN. */
static int match_weights(gqa_config *c, const char *what, int quiet) {
    double dim = c->dim, heads = c->n_heads, latent = c->latent_dim, rope = c->rope_dim;
    double d = c->latent_dim ? c->q_nope_dim : c->head_dim, kv = c->n_kv_heads * d;
    double more = (2 * heads * d - 2 * kv) * dim; /* of MHA in a layer */
    if (c->tied_kv) more = (2 * heads * d - kv - d / 2) * dim;
    if (c->latent_dim)
        more = (2 * heads * d - heads * rope - latent - rope) * dim - latent * (2 * heads * d + 1);
    double ffn = round(c->ffn_dim + more / (3 * dim));
    if (strcmp(what, "params")) return usage_error("--match %s: expected params", what);
    if (ffn < 1 || ffn > GQA_MAX_DIM)
        return usage_error("--match params: an FFN of %.0f would make up for the attention, "
                           "expected 1 to %d", ffn, GQA_MAX_DIM);
    if (!quiet) fprintf(stderr, "an FFN of %.0f for as many weights as with MHA\n", ffn);
    c->ffn_dim = (int)ffn;
    return 0;
}

/* ---- the command ----------------------------------------------------------------------------- */

typedef struct choices {
    const char *shape, *attention, *match, *tokenizer, *name;
    opt_list teachers;
    int vocab, untied;
} choices;

static int read_shape(const choices *o, gqa_config *c, int quiet) {
    gqa_type type = (gqa_type)-1; /* none */
    *c = (gqa_config){
        .dim = 128, .n_layers = 4, .n_heads = 8, .n_kv_heads = 2, .ffn_dim = 344,
        .context_length = 256, .tied_embeddings = !o->untied,
    };
    snprintf(c->name, sizeof c->name, "%s", o->name);
    if (o->shape && parse_shape(o->shape, c, &type)) return EXIT_USAGE;
    if ((int)type >= 0)
        return usage_error("--shape type=%s: the type of what is written is for --type",
                           gqa_type_name((int)type));
    if (!c->head_dim) c->head_dim = c->dim / c->n_heads;
    if (o->attention && choose_attention(c, o->attention)) return EXIT_USAGE;
    return o->match && match_weights(c, o->match, quiet) ? EXIT_USAGE : EXIT_SUCCESS;
}

static int train(training *r, const choices *o, gqa_config *c) {
    gqa_error err = {0};
    const int vocab = c->vocab_size ? c->vocab_size : o->vocab;
    c->vocab_size = vocab; /* about as many, until they are learnt */
    int code = record_teachers(r, &o->teachers);
    if (!code && gqa_trainer_can_train(c, &r->s->opt, &err)) code = fail("%s", err.message);
    if (!code) code = record_tokenizer(r, o->tokenizer, vocab);
    if (!code) code = find_vocab(r, o->tokenizer, vocab);
    if (!code) code = training_tokenize(r);
    if (code) return code;
    c->vocab_size = gqa_vocab_count(r->vocab);
    r->trainer = gqa_trainer_new(c, &r->s->opt, &err);
    code = r->trainer ? add_teachers(r, o->tokenizer, &o->teachers) : fail("%s", err.message);
    return code ? code : training_run(r);
}

int command_train(int argc, char **argv) {
    const char *out = NULL;
    int n_out = 0;
    training_settings s;
    training_settings_init(&s);
    s.opt.steps = 1000;
    choices o = {.name = "", .vocab = 2048};
    const opt options[] = {
        {"--shape S", OPT_STRING, &o.shape, 0, 0,
         "shape of the model (default\n"
         "dim=128,layers=4,heads=8,kv_heads=2,ffn=344,context=256)"},
        {"--attention KIND", OPT_STRING, &o.attention, 0, 0,
         "instead of kv_heads: mha, gqa:G, mqa, mla, mla:LATENT+ROPE, gta\n"
         "or gta:G"},
        {"--match params", OPT_STRING, &o.match, 0, 0,
         "set ffn so that there are as many weights as with mha"},
        {"--vocab N", OPT_INT, &o.vocab, 300, 1 << 20, "tokens of the vocabulary (default 2048)"},
        {"--tokenizer FILE", OPT_STRING, &o.tokenizer, 0, 0,
         "use the vocabulary of this model instead of learning one"},
        {"--untied", OPT_FLAG, &o.untied, 0, 0, "do not share the embedding with the classifier"},
        {"--steps N", OPT_INT, &s.opt.steps, 1, 1 << 30, "training steps (default 1000)"},
        {"--teacher FILE", OPT_STRINGS, &o.teachers, 0, 0,
         "learn from this model too, and take its vocabulary; may be\nrepeated"},
        {"--distill W", OPT_FLOAT, &s.opt.distill, 0, 1,
         "weight in the loss of the KL divergence from the teachers\n(default 0.5)"},
        {"--name NAME", OPT_STRING, &o.name, 0, 0, "the model's name, recorded in OUT"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options, s.options), &out, 1, &n_out,
                             "run train OUT.gguf -f TEXT [options]\n\n"
                             "Trains a tokenizer and a model from a text.");
    if (code >= 0) return code;
    if (!out) return usage_error("train: give the file to write");
    if (s.opt.distill > 0 && !o.teachers.n) return usage_error("--distill: give a --teacher");
    training_settle(&s.opt, &(gqa_train_options){.distill = o.teachers.n ? 0.5f : 0});
    if (s.opt.distill == 0) o.teachers.n = 0;
    if (!o.tokenizer && o.teachers.n) o.tokenizer = o.teachers.items[0];
    gqa_config c;
    if (read_shape(&o, &c, s.quiet)) return EXIT_USAGE;
    training r = {0};
    code = refuse_same_file(o.tokenizer, out);
    if (!code) code = training_open(&r, &s, out, "train", argc, argv);
    if (!code) code = train(&r, &o, &c);
    training_close(&r);
    return code;
}
