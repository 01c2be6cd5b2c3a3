/* fuzz_session.c: any bytes as a saved session: refused with the session empty, or loaded and
 * usable. Each input is tried as it is, then with the checksum that its bytes call for, then with
 * a header and a length that fit one of the sessions, so that the fuzzer gets past those checks. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../../session/session_internal.h"
#include "../saved.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { VOCAB = 40, SESSIONS = 3 };

static gqa_session *sessions[SESSIONS];
static uint8_t heads[SESSIONS][HEADER]; /* of each session, empty */
static char path[64];

/* An f16 cache of all positions, an f32 and a q8_0 cache that are rings. */
static void open_sessions(void) {
    gqa_config c = {.dim = 32, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 16,
                    .ffn_dim = 32, .vocab_size = VOCAB, .context_length = 64};
    gqa_session_options o = {.context = 64, .n_threads = 1};
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&c, GQA_TYPE_F32, 1, NULL, &err);
    if (!m || !(sessions[0] = gqa_session_new(m, &o, &err))) abort();
    c.window = 20;
    c.context_length = o.context = 128;
    o.batch = 16;
    for (int i = 1; i < SESSIONS; i++) {
        c.head_dim = 16 * i;
        o.kv = i == 1 ? "f32" : "q8_0";
        m = gqa_model_random(&c, i == 1 ? GQA_TYPE_F32 : GQA_TYPE_Q8_0, 1, NULL, &err);
        if (!m || !(sessions[i] = gqa_session_new(m, &o, &err))) abort();
    }
    snprintf(path, sizeof path, "/dev/shm/gqa-fuzz-%ld", (long)getpid());
    for (int i = 0; i < SESSIONS; i++) {
        if (gqa_session_save(sessions[i], path, &err)) abort();
        FILE *f = fopen(path, "rb");
        if (!f || fread(heads[i], 1, HEADER, f) != HEADER) abort();
        fclose(f);
    }
}

/* Makes the bytes a file that session s accepts: position, flags and contents are theirs, the
 * rest is what it must be. Returns its size. */
static size_t make_valid(const gqa_session *s, const uint8_t *head, uint8_t *p, size_t size) {
    const gqa_kv *kv = &s->kv[0];
    uint32_t ring = word_of(head, 20), position = word_of(p, 24) % (uint32_t)(s->context + 1);
    uint32_t logits = position ? word_of(p, 28) & 1 : 0;
    uint32_t tiles = (uint32_t)min_int(ceil_div((int)position, GQA_KV_TILE), kv->n_tiles);
    uint32_t words[4] = {position, logits, tiles, word_of(p, 36) % (ring + 1)};
    memcpy(p, head, 24);
    memcpy(p + 24, words, sizeof words);
    memcpy(p + AT_FILE, head + AT_FILE, HEADER - AT_FILE);
    size_t tokens_end = HEADER + position * 4u;
    size_t cache = tiles * (kv->k_tile_bytes + kv->v_tile_bytes);
    size_t wanted = tokens_end + (logits ? VOCAB * 4 : 0) + cache + 8;
    for (size_t i = size; i < wanted; i++) p[i] = p[HEADER + (i - HEADER) % (size - HEADER)];
    for (size_t i = HEADER; i < tokens_end; i += 4) set_word(p, i, word_of(p, i) % VOCAB);
    sign(p, wanted, VOCAB);
    return wanted;
}

/* Loads the file and uses the session, whether it loaded or not: decoding, prefill, rewinds. */
static int load(gqa_session *s, const uint8_t *p, size_t size) {
    gqa_error err = {0};
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, size, f) != size) abort();
    fclose(f);
    int before = gqa_session_position(s);
    int status = gqa_session_load(s, path, &err), n = gqa_session_position(s);
    int32_t tokens[12] = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8};
    if (status && ((n != 0 && n != before) || !err.message[0])) abort();
    gqa_session_eval(s, tokens, 1, &err);
    gqa_session_eval(s, tokens, 12, &err);
    int rewound = gqa_session_rewind(s, n / 2, NULL) == 0, fits = n / 2 + 12 <= s->context;
    int again = rewound && fits ? gqa_session_eval(s, tokens, 12, &err) : 0;
    if (again && again != GQA_ERR_NUMERIC) abort();
    if (gqa_session_rewind(s, 0, NULL) || gqa_session_eval(s, tokens, 2, &err)) abort();
    return status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static uint8_t copy[1 << 16];
    if (!sessions[0]) open_sessions();
    int s = SESSIONS - 1; /* the one whose cache type the file names, or the first */
    while (s > 0 && (size <= 16 || data[16] != heads[s][16])) s--;
    load(sessions[s], data, size);
    if (size > HEADER + 8 && size <= sizeof copy) {
        memcpy(copy, data, size);
        sign(copy, size, VOCAB);
        load(sessions[s], copy, size);
        if (load(sessions[s], copy, make_valid(sessions[s], heads[s], copy, size))) abort();
    }
    unlink(path);
    return 0;
}
