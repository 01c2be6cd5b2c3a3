/* train.c: `run train`: a tokenizer and a LLaMA-style model, learnt from a text. */
#include <string.h>

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

int command_train(int argc, char **argv) {
    const char *out = NULL, *shape = NULL, *tokenizer = NULL, *name = "";
    int n_out = 0, vocab = 2048, untied = 0;
    training_settings s;
    training_settings_init(&s);
    s.opt.steps = 1000;
    const opt options[] = {
        {"--shape S", OPT_STRING, &shape, 0, 0,
         "shape of the model (default\n"
         "dim=128,layers=4,heads=8,kv_heads=2,ffn=344,context=256)"},
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
