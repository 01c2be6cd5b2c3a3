/* logits_hash.c: a hash of the logits for each instruction set, weight type, type of KV cache and
 * window, of random models. Two versions of the library compute the same bits if it prints the same
 * lines; scripts/compare-commits.sh compiles it in both. What a version lacks has no line.
 *     logits_hash [ISA ...] */
#include <stdio.h>
#include <string.h>

#include "../model.h"

enum { VOCAB = 300, N_TOKENS = 640, PREFILL = 130, DECODE = 5 };

/* FNV-1a of the session's logits. */
static unsigned long long hash_logits(const gqa_session *s) {
    const unsigned char *bytes = (const unsigned char *)gqa_session_logits(s);
    unsigned long long h = 14695981039346656037u;
    for (size_t i = 0; bytes && i < VOCAB * sizeof(float); i++) h = (h ^ bytes[i]) * 1099511628211u;
    return h;
}

/* Prefill, decoding, then both beyond a split of 512 positions, then two sessions in one pass. */
static int evaluate(gqa_session *s, gqa_session *other, gqa_error *err) {
    int32_t tokens[N_TOKENS];
    gqa_session *both[] = {s, other};
    for (int i = 0; i < N_TOKENS; i++) tokens[i] = (i * 37 + 11) % VOCAB;
    if (gqa_session_eval(s, tokens, PREFILL, err)) return -1;
    printf(" prefill %016llx", hash_logits(s));
    for (int i = 0; i < DECODE; i++)
        if (gqa_session_eval(s, tokens + PREFILL + i, 1, err)) return -1;
    printf(" decode %016llx", hash_logits(s));
    if (gqa_session_eval(s, tokens + PREFILL + DECODE, N_TOKENS - PREFILL - DECODE, err)) return -1;
    printf(" prefill %016llx", hash_logits(s));
    if (gqa_session_eval(s, tokens, 1, err)) return -1;
    printf(" decode %016llx", hash_logits(s));
    if (gqa_session_eval(other, tokens, 4, err)) return -1;
    if (gqa_sessions_eval(both, tokens, 2, err)) return -1;
    printf(" both %016llx %016llx\n", hash_logits(s), hash_logits(other));
    return 0;
}

static void print_line(const gqa_model *m, const char *isa, const char *type, const char *kv) {
    gqa_error err = {0};
    gqa_session_options opt = {.kv = kv, .context = 700, .batch = 64, .n_threads = 2};
    gqa_session *s = gqa_session_new(m, &opt, &err);
    gqa_session *other = s ? gqa_session_new(m, &opt, &err) : NULL;
    printf("%s %s kv=%s window=%d:", isa, type, kv, gqa_model_config(m)->window);
    if (!other || evaluate(s, other, &err)) printf(" %s\n", err.message);
    gqa_session_free(other);
    gqa_session_free(s);
}

static void print_isa(const char *isa) {
    static const char *const caches[] = {"f32", "f16", "bf16", "q8_0", "q4_0"};
    static const int windows[] = {0, 50};
    gqa_model_options opt = {.isa = isa};
    for (int type = 0; type < 64; type++) {
        for (int w = 0; w < 2 && gqa_type_name(type); w++) {
            gqa_config shape = {
                .dim = 256, .n_layers = 2, .n_heads = 8, .n_kv_heads = 2, .head_dim = 32,
                .ffn_dim = 512, .vocab_size = VOCAB, .context_length = 2048, .window = windows[w],
            };
            gqa_model *m = gqa_model_random(&shape, (gqa_type)type, 7, &opt, NULL);
            for (int kv = 0; m && kv < 5; kv++) print_line(m, isa, gqa_type_name(type), caches[kv]);
            gqa_model_close(m);
        }
    }
}

int main(int argc, char **argv) {
    static const char *const all[] = {"scalar", "avx2", "avx512", "neon"};
    for (int i = 1; i < argc; i++) print_isa(argv[i]);
    for (int i = 0; i < 4 && argc == 1; i++) print_isa(all[i]);
    return 0;
}
