/* llama_cpp_kl.c: what `run perplexity MODEL -f TEXT -c 512 --chunks 1 --kl REFERENCE` prints, by
 * llama.cpp's logits: for docs/quality.md. Needs llama.h and libllama of v0.5.0 or later:
 *     cc -O2 -I llama.cpp/include -I llama.cpp/ggml/include tests/golden/llama_cpp_kl.c \
 *         -L LIB -lllama -lggml -lggml-base -lm -o llama_cpp_kl
 *     ./llama_cpp_kl REFERENCE.gguf KV MODEL.gguf KV TEXT [TOKENS]
 * KV: f32, f16, q8_0, q4_0, or of K and V: q8_0/q4_0. */
#include <ggml-backend.h>
#include <llama.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { STEP = 64, MAX_TOKENS = 1 << 16 };

static void quiet(enum ggml_log_level level, const char *text, void *user) {
    (void)user;
    if (level == GGML_LOG_LEVEL_ERROR) fputs(text, stderr);
}

static enum ggml_type type_named(const char *name, size_t len) {
    for (int type = 0; type < GGML_TYPE_COUNT; type++) {
        const char *known = ggml_type_name((enum ggml_type)type);
        if (known && strlen(known) == len && !strncmp(known, name, len)) return type;
    }
    fprintf(stderr, "unknown type %s\n", name);
    exit(2);
}

static struct llama_context *open(const char *file, const char *kv, int n) {
    struct llama_context_params p = llama_context_default_params();
    size_t len = strcspn(kv, "/");
    p.n_ctx = (uint32_t)n;
    p.type_k = type_named(kv, len);
    p.type_v = kv[len] ? type_named(kv + len + 1, strlen(kv + len + 1)) : p.type_k;
    p.n_threads = p.n_threads_batch = 1;
    struct llama_model *m = llama_model_load_from_file(file, llama_model_default_params());
    struct llama_context *c = m ? llama_init_from_model(m, p) : NULL;
    if (!c) exit(1);
    return c;
}

/* Of the first 64 KB of a text; how many. */
static int read_tokens(const struct llama_vocab *vocab, const char *file, llama_token *tokens) {
    static char text[MAX_TOKENS];
    FILE *f = fopen(file, "rb");
    int len = f ? (int)fread(text, 1, sizeof text - 1, f) : 0;
    if (f) fclose(f);
    return llama_tokenize(vocab, text, len, tokens, MAX_TOKENS, true, false);
}

/* Evaluates n tokens, with logits after each. */
static const float *evaluate(struct llama_context *c, const llama_token *tokens, int from, int n) {
    struct llama_batch b = llama_batch_init(n, 0, 1);
    b.n_tokens = n;
    for (int i = 0; i < n; i++) {
        b.token[i] = tokens[from + i];
        b.pos[i] = from + i;
        b.n_seq_id[i] = 1;
        b.seq_id[i][0] = 0;
        b.logits[i] = 1;
    }
    if (llama_decode(c, b)) exit(1);
    llama_batch_free(b);
    return llama_get_logits(c);
}

/* The logarithm of the sum of exponentials; *top: the index of the largest. */
static double log_sum(const float *z, int n, int *top) {
    double sum = 0;
    *top = 0;
    for (int i = 1; i < n; i++)
        if (z[i] > z[*top]) *top = i;
    for (int i = 0; i < n; i++) sum += exp((double)z[i] - (double)z[*top]);
    return (double)z[*top] + log(sum);
}

static double kl_of(const float *p, const float *q, int n, int *same) {
    int top_p, top_q;
    double p_lse = log_sum(p, n, &top_p), q_lse = log_sum(q, n, &top_q), sum = 0;
    for (int i = 0; i < n; i++) {
        double log_p = (double)p[i] - p_lse;
        sum += exp(log_p) * (log_p - ((double)q[i] - q_lse));
    }
    *same += top_p == top_q;
    return sum;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv) {
    static llama_token tokens[MAX_TOKENS];
    static double kl[MAX_TOKENS];
    int n = argc > 6 ? atoi(argv[6]) : 512, same = 0;
    if (argc < 6) return 2;
    llama_log_set(quiet, NULL);
    if (getenv("GGML_BACKENDS")) ggml_backend_load_all_from_path(getenv("GGML_BACKENDS"));
    else ggml_backend_load_all();
    struct llama_context *a = open(argv[1], argv[2], n), *b = open(argv[3], argv[4], n);
    const struct llama_vocab *vocab = llama_model_get_vocab(llama_get_model(b));
    int n_vocab = llama_vocab_n_tokens(vocab), n_text = read_tokens(vocab, argv[5], tokens);
    if (n_text < n || n > MAX_TOKENS) return 1;
    double sum = 0, squares = 0;
    for (int at = 0; at < n; at += STEP) {
        int rows = n - at < STEP ? n - at : STEP;
        const float *p = evaluate(a, tokens, at, rows), *q = evaluate(b, tokens, at, rows);
        for (int i = 0; i < rows; i++, p += n_vocab, q += n_vocab) {
            double d = kl_of(p, q, n_vocab, &same);
            kl[at + i] = d;
            sum += d;
            squares += d * d;
        }
    }
    double mean = sum / n, error = sqrt((squares / n - mean * mean) / (n - 1));
    double place = 0.99 * (n - 1), below = floor(place);
    qsort(kl, (size_t)n, sizeof *kl, by_value);
    int i = (int)below;
    printf("| %.6f ± %.6f | %.5f | %.4f | %.1f%% ± %.1f |\n", mean, error,
           kl[i] + (place - below) * (kl[i + 1 < n ? i + 1 : i] - kl[i]), kl[n - 1],
           100.0 * same / n, 100 * sqrt((double)same / n * (1 - (double)same / n) / (n - 1)));
    return 0;
}
