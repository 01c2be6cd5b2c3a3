/* convert.c: `run convert`: a checkpoint to another one: fewer KV heads, other types, llama2.c to
 * GGUF. */
#include <string.h>
#include <strings.h>

#include "../kernels/tensor.h"
#include "calibrate.h"
#include "command.h"
#include "model_file.h"

typedef struct settings {
    const char *pool_name, *type_name, *text, *tokenizer;
    int kv_heads, samples, threads, packed, force, quiet;
    int64_t seed;
} settings;

/* user: when it was shown last; NULL: not to be shown. */
static int on_progress(void *user, double done) {
    double *shown_at = user, now = seconds_now();
    if (shown_at && (now - *shown_at >= 0.2 || done >= 1)) {
        *shown_at = now;
        fprintf(stderr, "\r%3.0f%% ", 100 * done);
    }
    return signal_held();
}

/* llama2.c has its vocabulary in a file of its own: the one named, or tokenizer.bin beside the
 * model. */
static int read_tokenizer(model_file *in, const char *path, const char *tokenizer) {
    char beside[1100];
    gqa_error err = {0};
    if (!tokenizer) {
        if (gqa_path_beside(path, "tokenizer.bin", beside, sizeof beside) || !gqa_os_exists(beside))
            return fail("%s: a llama2.c checkpoint has no vocabulary; give its tokenizer file (-z)",
                        path);
        tokenizer = beside;
    }
    return model_file_vocab(in, tokenizer, &err) ? fail("%s", err.message) : EXIT_SUCCESS;
}

static int calibrate_from_file(gqa_kv_samples *samples, const char *in, const settings *s) {
    size_t len;
    char *text = read_text(s->text, &len);
    if (!text) return EXIT_FAILURE;
    int code = calibrate(samples, in, s->tokenizer, text, len, s->samples);
    free(text);
    return code;
}

static int write_result(const gqa_checkpoint *c, const gqa_convert_options *o, const char *out,
                        int quiet) {
    gqa_error err = {0};
    double shown_at = 0;
    gqa_convert_options watched = *o;
    watched.on_progress = on_progress;
    watched.user = gqa_os_is_terminal(stderr) && !quiet ? &shown_at : NULL;
    hold_signals();
    int status = gqa_convert(c, &watched, out, NULL, NULL, &err);
    if (shown_at > 0) fprintf(stderr, "\r     \r");
    release_signals();
    if (status) return fail("%s", err.message);
    if (quiet) return EXIT_SUCCESS;
    int before = c->config.n_kv_heads, after = o->kv_heads ? o->kv_heads : before;
    const char *change = after < before ? ", pooled by " : after > before ? ", repeated" : "";
    fprintf(stderr, "%s: %d query heads, %d KV heads%s%s\n", out, c->config.n_heads, after,
            change, after < before ? gqa_pool_name(o->pool) : "");
    return EXIT_SUCCESS;
}

/* Names to numbers. 0, or EXIT_USAGE after printing an error. */
static int parse_names(const settings *s, gqa_convert_options *o) {
    int pool = gqa_pool_from_name(s->pool_name);
    int type = s->type_name ? gqa_type_from_name(s->type_name) : -1;
    o->is_mixture = s->type_name && !strcasecmp(s->type_name, "q4_k_m");
    if (o->is_mixture) type = GQA_TYPE_Q4_K;
    if (pool < 0)
        return usage_error("--pool %s: expected mean, first, random, renorm or aligned",
                           s->pool_name);
    if (s->type_name && !gqa_can_quantize(type))
        return usage_error("--type %s: expected f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, "
                           "q4_k, q5_k, q6_k or q4_k_m", s->type_name);
    o->pool = (gqa_pool)pool;
    o->type = type;
    return 0;
}

static int convert(const char *in, const char *out, const settings *s, const char *command) {
    gqa_convert_options o = {
        .kv_heads = s->kv_heads, .seed = (uint64_t)s->seed, .n_threads = s->threads,
        .provenance = command,
    };
    gqa_error err = {0};
    gqa_kv_samples samples = {0};
    model_file file = {0};
    int code = parse_names(s, &o);
    if (!code) code = refuse_same_file(in, out);
    if (!code) code = refuse_same_file(s->text, out);
    if (!code) code = refuse_same_file(s->tokenizer, out);
    if (!code) code = refuse_existing(out, s->force);
    if (code) return code;
    if (model_file_open(&file, in, &err)) code = fail("%s", err.message);
    int is_llama2c = file.checkpoint.n_meta == 0;
    if (!code && is_llama2c) code = read_tokenizer(&file, in, s->tokenizer);
    if (!code && !is_llama2c && s->tokenizer)
        code = fail("-z %s: %s is a GGUF; -z is for llama2.c checkpoints", s->tokenizer, in);
    if (!code && s->text && o.pool == GQA_POOL_ALIGNED) {
        code = calibrate_from_file(&samples, in, s);
        o.samples = &samples;
    }
    o.vocab = file.vocab;
    if (!code) code = write_result(&file.checkpoint, &o, out, s->quiet);
    gqa_kv_samples_free(&samples);
    model_file_close(&file);
    return code;
}

/* Beside the model, where opening it looks for them. */
static int save_packed(const char *model, const char *tokenizer, int quiet) {
    char path[1100];
    gqa_error err = {0};
    gqa_model_options options = {.tokenizer_path = tokenizer};
    if (check_tokenizer(model, tokenizer)) return EXIT_FAILURE;
    int n = snprintf(path, sizeof path, "%s.packed", model);
    if (n < 0 || n >= (int)sizeof path) return usage_error("the path %.60s... is too long", model);
    gqa_model *m = gqa_model_open(model, &options, &err);
    hold_signals();
    int status = m ? gqa_model_save_packed(m, path, &err) : -1;
    gqa_model_close(m);
    release_signals();
    if (status) return fail("%s", err.message);
    if (!quiet) fprintf(stderr, "%s: the repacked weights\n", path);
    return EXIT_SUCCESS;
}

int command_convert(int argc, char **argv) {
    const char *paths[2] = {NULL, NULL};
    char command[1024];
    int n_paths = 0;
    settings s = {.pool_name = "mean", .samples = 1024, .seed = 1};
    const opt options[] = {
        {"--kv-heads G", OPT_INT, &s.kv_heads, 1, 4096,
         "KV heads: a divisor of the model's by pooling, or a multiple\n"
         "that divides its query heads by repeating each: the same\n"
         "function (default: as many as it has)"},
        {"--pool HOW", OPT_STRING, &s.pool_name, 0, 0,
         "mean, first, random, renorm or aligned (default mean)"},
        {"-f FILE", OPT_STRING, &s.text, 0, 0,
         "text on which aligned compares heads (default: compare\ntheir weights)"},
        {"--samples N", OPT_INT, &s.samples, 16, 1 << 20, "tokens of that text (default 1024)"},
        {"--type TYPE", OPT_STRING, &s.type_name, 0, 0,
         "type of the matrices: f32, f16, bf16, q8_0, q4_0, q4_1,\n"
         "q5_0, q5_1, q4_k, q5_k, q6_k, or the mixture q4_k_m\n(default: unchanged)"},
        {"-s SEED", OPT_INT64, &s.seed, 0, 9.3e18, "seed of --pool random (default 1)"},
        {"-j N", OPT_INT, &s.threads, 0, 1024, THREADS_HELP},
        {"-z FILE", OPT_STRING, &s.tokenizer, 0, 0, LLAMA2C_HELP},
        {"--packed", OPT_FLAG, &s.packed, 0, 0,
         "also write OUT.gguf.packed (without OUT: IN.packed), from which\n"
         "the model starts faster"},
        {"--force", OPT_FLAG, &s.force, 0, 0, FORCE_HELP},
        {"--quiet", OPT_FLAG, &s.quiet, 0, 0, QUIET_HELP},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), paths, 2, &n_paths,
                             "run convert IN OUT.gguf [options]\n\n"
                             "Converts a GGUF or llama2.c model: fewer KV heads, other types.");
    if (code >= 0) return code;
    if (n_paths == 1 && s.packed) return save_packed(paths[0], s.tokenizer, s.quiet);
    if (n_paths < 2) return usage_error("convert: give the file to read and the file to write");
    record_command(command, sizeof command, "convert", 0, argc, argv);
    code = convert(paths[0], paths[1], &s, command);
    return code || !s.packed ? code : save_packed(paths[1], NULL, s.quiet);
}
