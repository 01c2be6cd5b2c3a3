/* train.c: `run train`: a tokenizer and a LLaMA-style model, learnt from a text. */
#include <math.h>
#include <string.h>

#include "../formats/checkpoint.h"
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

/* The vocabulary of the saved run, of a model file, or a new one of n tokens. */
static int find_vocab(training *r, const char *tokenizer, int n) {
    gqa_error err = {0};
    int status = 0;
    if (!r->resuming && !tokenizer) return learn_vocab(r, n);
    if (!r->resuming) status = model_file_open(&r->saved, tokenizer, &err);
    if (!status) status = model_file_vocab(&r->saved, NULL, &err);
    if (status) return fail("%s", err.message);
    r->vocab = r->saved.vocab;
    return r->vocab ? EXIT_SUCCESS : fail("%s: no vocabulary", r->saved.checkpoint.path);
}

/* ---- kinds of attention ---------------------------------------------------------------------- */

/* GTA, or MLA in DeepSeek-V2's proportions: a latent of 4 heads, half a head more that RoPE
 * rotates. */
static int make_shared(gqa_config *c, const char *name) {
    if (c->head_dim % 16 || c->head_dim > GQA_MAX_HEAD_DIM / 5)
        return usage_error("--attention %s: expected a head_dim of at most %d that is a multiple "
                           "of 16, got %d", name, GQA_MAX_HEAD_DIM / 5, c->head_dim);
    c->rope_dim = c->head_dim / 2;
    c->tied_kv = !strcmp(name, "gta");
    if (c->tied_kv) return 0;
    c->n_kv_heads = 1;
    c->q_nope_dim = c->value_dim = c->head_dim;
    c->latent_dim = 4 * c->head_dim;
    c->head_dim = c->latent_dim + c->rope_dim;
    return 0;
}

/* A shape with another attention; NULL: as it is. */
static int set_attention(gqa_config *c, const char *name) {
    int64_t groups = 0;
    if (!name) return 0;
    if (!strcmp(name, "mla") || !strcmp(name, "gta")) return make_shared(c, name);
    if (!strcmp(name, "mha")) groups = c->n_heads;
    if (!strcmp(name, "mqa")) groups = 1;
    if (!strncmp(name, "gqa:", 4)) parse_int(name + 4, 1, c->n_heads, &groups);
    if (!groups || c->n_heads % groups)
        return usage_error("--attention %s: expected mha, gqa:G with a G that divides %d heads, "
                           "mqa, mla or gta", name, c->n_heads);
    c->n_kv_heads = (int)groups;
    return 0;
}

/* Of a layer. */
static double attention_weights(const gqa_config *c) {
    double heads = c->n_heads, dim = c->dim, latent = c->latent_dim;
    double nope = c->q_nope_dim, rope = c->rope_dim, value = c->value_dim;
    double kv = (double)c->n_kv_heads * c->head_dim;
    if (!c->latent_dim) return (2 * heads * c->head_dim + kv + (c->tied_kv ? rope : kv)) * dim;
    double outer = heads * (nope + rope + value) + latent + rope;
    return outer * dim + latent + heads * latent * (nope + value);
}

/* Gives c an FFN with which it has as many weights as the MHA of the shape, but for less than one
 * column in each of an FFN's matrices. */
static int match_weights(gqa_config *c, const gqa_config *shape, int quiet) {
    gqa_config mha = *shape;
    mha.n_kv_heads = mha.n_heads;
    double more = attention_weights(&mha) - attention_weights(c);
    double ffn = round(shape->ffn_dim + more / (3.0 * shape->dim));
    if (ffn < 1 || ffn > GQA_MAX_DIM)
        return usage_error("--match params: an FFN of %.0f instead of %d would make up for the "
                           "attention, expected 1 to %d", ffn, c->ffn_dim, GQA_MAX_DIM);
    if (!quiet) fprintf(stderr, "an FFN of %.0f for as many weights as with MHA\n", ffn);
    c->ffn_dim = (int)ffn;
    return 0;
}

/* c is the shape as given; it becomes the model to train. */
static int choose_attention(gqa_config *c, const char *name, const char *match, int quiet) {
    if (!c->head_dim) c->head_dim = c->dim / c->n_heads;
    gqa_config shape = *c;
    int code = set_attention(c, name);
    if (code || !match) return code;
    if (strcmp(match, "params")) return usage_error("--match %s: expected params", match);
    return match_weights(c, &shape, quiet);
}

/* ---- the command ----------------------------------------------------------------------------- */

int command_train(int argc, char **argv) {
    const char *out = NULL, *shape = NULL, *tokenizer = NULL, *name = "";
    const char *attention = NULL, *match = NULL;
    int n_out = 0, vocab = 2048, untied = 0;
    training_settings s;
    training_settings_init(&s);
    s.opt.steps = 1000;
    const opt options[] = {
        {"--shape S", OPT_STRING, &shape, 0, 0,
         "shape of the model (default\n"
         "dim=128,layers=4,heads=8,kv_heads=2,ffn=344,context=256)"},
        {"--attention KIND", OPT_STRING, &attention, 0, 0,
         "mha, gqa:G (G KV heads), mqa, mla (a latent of 4 heads, half a\n"
         "head for RoPE) or gta (of the shape's kv_heads)"},
        {"--match params", OPT_STRING, &match, 0, 0,
         "set ffn so that there are as many weights as with mha"},
        {"--vocab N", OPT_INT, &vocab, 300, 1 << 20, "tokens of the vocabulary (default 2048)"},
        {"--tokenizer FILE", OPT_STRING, &tokenizer, 0, 0,
         "use the vocabulary of this model instead of learning one"},
        {"--untied", OPT_FLAG, &untied, 0, 0, "do not share the embedding with the classifier"},
        {"--steps N", OPT_INT, &s.opt.steps, 1, 1 << 30, "training steps (default 1000)"},
        {"--name NAME", OPT_STRING, &name, 0, 0, "the model's name, recorded in OUT"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options, s.options), &out, 1, &n_out,
                             "run train OUT.gguf -f TEXT [options]\n\n"
                             "Trains a tokenizer and a model from a text.");
    if (code >= 0) return code;
    if (!out) return usage_error("train: give the file to write");
    gqa_config c = {
        .dim = 128, .n_layers = 4, .n_heads = 8, .n_kv_heads = 2, .ffn_dim = 344,
        .context_length = 256,
    };
    gqa_type unused;
    if (shape && parse_shape(shape, &c, &unused)) return EXIT_USAGE;
    code = choose_attention(&c, attention, match, s.quiet);
    if (code) return code;
    if (c.vocab_size) vocab = c.vocab_size;
    c.tied_embeddings = !untied;
    snprintf(c.name, sizeof c.name, "%s", name);
    training r = {0};
    gqa_error err = {0};
    code = refuse_same_file(tokenizer, out);
    if (!code) code = training_open(&r, &s, out, "train", argc, argv);
    if (!code) code = record_tokenizer(&r, tokenizer, vocab);
    if (!code) code = find_vocab(&r, tokenizer, vocab);
    if (!code) code = training_tokenize(&r);
    if (!code) {
        c.vocab_size = gqa_vocab_count(r.vocab);
        r.trainer = gqa_trainer_new(&c, &s.opt, &err);
        code = r.trainer ? training_run(&r) : fail("%s", err.message);
    }
    training_close(&r);
    return code;
}
