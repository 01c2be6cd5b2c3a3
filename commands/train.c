/* train.c: `run train`: a tokenizer and a LLaMA-style model, learnt from a text. */
#include <stdlib.h>
#include <string.h>

#include "../formats/formats.h"
#include "training.h"

/* The vocabulary of the saved run, of a model file, or a new one. */
static int find_vocab(training *r, const char *tokenizer, int n) {
    gqa_error err = {0};
    if (r->has_saved) {
        if (gqa_vocab_from_gguf(&r->vocab, &r->saved, &err)) return fail("%s", err.message);
    } else if (tokenizer) { /* its text must outlive the vocabulary: keep the file mapped, as a saved run's is */
        if (gqa_map_open(&r->state_map, tokenizer, &err) || gqa_checkpoint_read(&r->saved, r->state_map.data, r->state_map.size, tokenizer, &err) ||
            gqa_vocab_from_gguf(&r->vocab, &r->saved, &err))
            return fail("%s", err.message);
    } else {
        if (!r->s->quiet) fprintf(stderr, "learning a vocabulary of %d tokens\n", n);
        if (gqa_bpe_train(&r->vocab, r->text, r->text_len, n, &err)) return fail("%s", err.message);
    }
    return r->vocab ? EXIT_SUCCESS : fail("%s: no vocabulary", r->saved.path);
}

int command_train(int argc, char **argv) {
    const char *out = NULL, *shape_text = NULL, *tokenizer = NULL, *name = "";
    int n_out = 0, vocab = 2048, untied = 0;
    training_settings s;
    training_settings_init(&s);
    s.opt.steps = 1000;
    const opt options[] = {
        {"--shape S", OPT_STRING, &shape_text, 0, 0, "dim=128,layers=4,heads=8,kv_heads=2,ffn=344,context=256"},
        {"--vocab N", OPT_INT, &vocab, 300, 1 << 20, "tokens of the vocabulary that is learnt (2048)"},
        {"--tokenizer FILE", OPT_STRING, &tokenizer, 0, 0, "take the vocabulary of this model instead"},
        {"--untied", OPT_FLAG, &untied, 0, 0, "a classifier of its own instead of the embedding"},
        {"--steps N", OPT_INT, &s.opt.steps, 1, 1 << 30, "steps (1000)"},
        {"--name NAME", OPT_STRING, &name, 0, 0, "the model's name, kept in the file"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options, s.options), &out, 1, &n_out, "run train OUT.gguf -f TEXT [options]");
    if (code >= 0) return code;
    if (!out) return usage_error("train: give the file to write");
    gqa_config c = {.dim = 128, .n_layers = 4, .n_heads = 8, .n_kv_heads = 2, .ffn_dim = 344, .context_length = 256};
    gqa_type unused;
    if (shape_text && parse_shape(shape_text, &c, &unused)) return EXIT_USAGE;
    if (c.vocab_size) vocab = c.vocab_size;
    c.tied_embeddings = !untied;
    snprintf(c.name, sizeof c.name, "%s", name);
    training r;
    gqa_error err = {0};
    code = training_open(&r, &s, out, "train", argc, argv);
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
