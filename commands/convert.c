/* convert.c: `run convert`: a checkpoint to another one: fewer KV heads, other types, llama2.c to GGUF. */
#include "../formats/formats.h"
#include "calibrate.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "command.h"

static int show(void *user, double done) {
    double *last = user, now = seconds_now();
    if (now - *last < 0.2 && done < 1) return 0;
    *last = now;
    fprintf(stderr, "\r%3.0f%% ", 100 * done);
    return 0;
}

/* llama2.c keeps its vocabulary in a file of its own: the one named, or tokenizer.bin beside the model. */
static int read_tokenizer(const char *model, const char *named, int vocab_size, gqa_map *map, gqa_vocab **vocab) {
    char beside[1100];
    gqa_error err = {0};
    const char *slash = strrchr(model, '/'), *path = named;
    if (!named) {
        int n = snprintf(beside, sizeof beside, "%.*stokenizer.bin", slash ? (int)(slash - model) + 1 : 0, model);
        if (n < 0 || n >= (int)sizeof beside || access(beside, R_OK))
            return fail("%s: a llama2.c checkpoint has no vocabulary; name its tokenizer file with -z", model);
        path = beside;
    }
    if (gqa_map_open(map, path, &err) || gqa_vocab_from_llama2c(vocab, map->data, map->size, vocab_size, path, &err)) return fail("%s", err.message);
    return EXIT_SUCCESS;
}

typedef struct settings {
    const char *pool, *type, *file, *tokenizer;
    int kv_heads, samples, packed, quiet;
    int64_t seed;
} settings;

static int convert(const char *in, const char *out, const settings *s, const char *words) {
    gqa_error err = {0};
    gqa_map map = {0}, tokenizer_map = {0};
    gqa_checkpoint c = {0};
    gqa_vocab *vocab = NULL;
    gqa_kv_samples samples = {0};
    double last = 0;
    int pool = gqa_pool_from_name(s->pool), type = s->type ? gqa_type_from_name(s->type) : -1, code = EXIT_SUCCESS;
    if (pool < 0) return usage_error("--pool %s: expected mean, first, random, renorm or aligned", s->pool);
    if (s->type && type < 0) return usage_error("--type %s: expected f32, f16, bf16, q8_0, q4_0, q5_0, q4_k, q5_k or q6_k", s->type);
    if (gqa_map_open(&map, in, &err) || gqa_checkpoint_read(&c, map.data, map.size, in, &err)) code = fail("%s", err.message);
    if (!code && c.n_meta == 0) code = read_tokenizer(in, s->tokenizer, c.config.vocab_size, &tokenizer_map, &vocab);
    if (!code && s->file && pool == GQA_POOL_ALIGNED) {
        size_t len;
        char *text = read_text(s->file, &len);
        code = text ? calibrate(&samples, in, s->tokenizer, text, len, s->samples) : EXIT_FAILURE;
        free(text);
    }
    if (!code) {
        gqa_convert_options o = {.kv_heads = s->kv_heads, .pool = (gqa_pool)pool, .type = type, .samples = samples.k ? &samples : NULL,
                                 .seed = (uint64_t)s->seed, .vocab = vocab, .provenance = words};
        if (isatty(2) && !s->quiet) o.on_progress = show, o.user = &last;
        int status = gqa_convert(&c, &o, out, NULL, NULL, &err);
        if (o.on_progress) fprintf(stderr, "\r     \r");
        if (status) code = fail("%s", err.message);
        else if (!s->quiet)
            fprintf(stderr, "%s: %d query heads, %d KV heads%s%s\n", out, c.config.n_heads, s->kv_heads ? s->kv_heads : c.config.n_kv_heads,
                    s->kv_heads && s->kv_heads != c.config.n_kv_heads ? ", pooled by " : "",
                    s->kv_heads && s->kv_heads != c.config.n_kv_heads ? s->pool : "");
    }
    gqa_kv_samples_free(&samples);
    gqa_vocab_free(vocab);
    gqa_checkpoint_free(&c);
    gqa_map_close(&tokenizer_map);
    gqa_map_close(&map);
    return code;
}

/* Beside the model, where opening it looks for them. */
static int save_packed(const char *model, const settings *s) {
    char path[1100];
    gqa_error err = {0};
    gqa_model_options mo = {.tokenizer_path = s->tokenizer};
    int n = snprintf(path, sizeof path, "%s.packed", model);
    if (n < 0 || n >= (int)sizeof path) return usage_error("the path %.60s... is too long", model);
    gqa_model *m = gqa_model_open(model, &mo, &err);
    int status = m ? gqa_model_save_packed(m, path, &err) : -1;
    gqa_model_close(m);
    if (status) return fail("%s", err.message);
    if (!s->quiet) fprintf(stderr, "%s: the weights, repacked\n", path);
    return EXIT_SUCCESS;
}

int command_convert(int argc, char **argv) {
    const char *paths[2] = {NULL, NULL};
    int n_paths = 0;
    settings s = {.pool = "mean", .samples = 1024, .seed = 1};
    const opt options[] = {
        {"--kv-heads G", OPT_INT, &s.kv_heads, 1, 4096, "KV heads to pool to; divides the model's (as they are)"},
        {"--pool HOW", OPT_STRING, &s.pool, 0, 0, "mean, first, random, renorm, aligned (mean)"},
        {"-f FILE", OPT_STRING, &s.file, 0, 0, "text that aligned looks at (without: the weights alone)"},
        {"--samples N", OPT_INT, &s.samples, 16, 1 << 20, "tokens of that text (1024)"},
        {"--type TYPE", OPT_STRING, &s.type, 0, 0, "of matrices: f32, f16, bf16, q8_0, q4_0, ... (as they are)"},
        {"-s SEED", OPT_INT64, &s.seed, 0, 9.3e18, "of random (1)"},
        {"-z FILE", OPT_STRING, &s.tokenizer, 0, 0, "tokenizer of a llama2.c checkpoint (tokenizer.bin beside it)"},
        {"--packed", OPT_FLAG, &s.packed, 0, 0, "also write OUT.gguf.packed (without OUT: IN.packed), for a quick start"},
        {"--quiet", OPT_FLAG, &s.quiet, 0, 0, "nothing on stderr but errors"},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), paths, 2, &n_paths, "run convert IN OUT.gguf [options]");
    if (code >= 0) return code;
    if (n_paths == 1 && s.packed) return save_packed(paths[0], &s);
    if (n_paths < 2) return usage_error("convert: give the file to read and the file to write");
    char words[1024];
    int n = snprintf(words, sizeof words, "run convert");
    for (int i = 0; i < argc && n < (int)sizeof words; i++) n += snprintf(words + n, sizeof words - (size_t)n, " %s", argv[i]);
    code = convert(paths[0], paths[1], &s, words);
    return code || !s.packed ? code : save_packed(paths[1], &s);
}
