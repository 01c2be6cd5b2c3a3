/* test_session_file.c: saved sessions: they go on like those that were saved, damaged files are
 * refused, and a file made by an attacker, whose checksum fits, does no harm. */
#include "sessions.h"

#include <unistd.h>

#include "saved.h"

enum {
    N = 120,        /* tokens in a file that is damaged */
    N_HOSTILE = 40, /* and in one that is changed and signed: two tiles */
    CONTEXT = 200   /* that fit */
};

static uint8_t *read_file(const char *path, size_t *size) {
    enum { LIMIT = 1 << 22 };
    FILE *f = fopen(path, "rb");
    uint8_t *p = malloc(LIMIT);
    *size = f && p ? fread(p, 1, LIMIT, f) : 0;
    if (f) fclose(f);
    return p;
}

/* Loads s from a file of these bytes. */
static int load_bytes(gqa_session *s, const char *path, const uint8_t *p, size_t n,
                      gqa_error *err) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(p, 1, n, f) != n) return CHECK(0, "cannot write %s", path);
    fclose(f);
    return gqa_session_load(s, path, err);
}

static const char *saved_path(void) { /* this process's own */
    static char path[TEST_PATH];
    test_path(path, "session");
    return path;
}

/* ---- saving and loading ---------------------------------------------------------------------- */

static void check_refused(const gqa_model *m, const char *path, const char *what,
                          gqa_session_options o) {
    gqa_session *s = new_session(m, o);
    CHECK(gqa_session_load(s, path, NULL) < 0, "%s: accepted", what);
    CHECK(gqa_session_position(s) == 0, "%s: position %d", what, gqa_session_position(s));
    gqa_session_free(s);
}

/* Every way to cut it off in its head and near its end, some in the middle, and bits flipped. */
static void check_damaged(gqa_session *s, const char *path, uint8_t *file, size_t size) {
    int accepted = 0, tried = 0;
    uint64_t seed = 13;
    for (size_t n = 0; n < size; n += n < 100 || n + 20 > size ? 1 : 4999) {
        accepted += load_bytes(s, path, file, n, NULL) == 0;
        tried++;
    }
    for (int i = 0; i < 200; i++) { /* one bit anywhere, half of them in the head */
        size_t at = test_random_bits(&seed) % (i & 1 ? size : min_size(size, 100));
        file[at] ^= (uint8_t)(1 << (i / 2 & 7));
        accepted += load_bytes(s, path, file, size, NULL) == 0;
        file[at] ^= (uint8_t)(1 << (i / 2 & 7));
        tried++;
    }
    CHECK(accepted == 0, "%d of %d damaged files were accepted", accepted, tried);
    CHECK(gqa_session_position(s) == 0, "position %d", gqa_session_position(s));
}

static void check_saved(const char *kv, int window) {
    gqa_model *m = new_model((model_shape){.window = window, .seed = 10});
    gqa_model *stranger = new_model((model_shape){.window = window, .seed = 11});
    gqa_error err = {0};
    int32_t t[N + 10];
    const char *path = saved_path();
    size_t size;
    random_tokens(t, N + 10, 12);
    gqa_session *a = SESSION(m, .kv = kv, .context = CONTEXT);
    gqa_session *b = SESSION(m, .kv = kv, .context = 250);
    eval_ok(a, t, N);
    CHECK(gqa_session_save(a, path, &err) == 0, "%s", err.message);
    CHECK(gqa_session_load(b, path, &err) == 0, "%s", err.message);
    CHECK(gqa_session_position(b) == N && same_logits(a, b), "the same");
    eval_ok(a, t + N, 10);
    eval_ok(b, t + N, 10);
    CHECK(same_logits(a, b), "both go on alike");
    uint8_t *file = read_file(path, &size);
    const char *other = strcmp(kv, "f16") ? "f16" : "q8_0", *half = "q8_0/f16";
    gqa_session_options usual = {.kv = kv, .context = CONTEXT};
    check_refused(m, path, "a short context", (gqa_session_options){.kv = kv, .context = 100});
    check_refused(m, path, "a cache type", (gqa_session_options){.kv = other, .context = CONTEXT});
    check_refused(m, path, "V's type", (gqa_session_options){.kv = half, .context = CONTEXT});
    check_refused(stranger, path, "another model", usual);
    check_damaged(b, path, file, size);
    file[7]--;
    CHECK(load_bytes(b, path, file, size, &err) == GQA_ERR_FORMAT, "an old version");
    CHECK_HAS(err.message, "version 3, expected 4");
    CHECK(gqa_session_position(b) == 0, "empty, after the damaged file before");
    file[7]++;
    CHECK(load_bytes(b, path, file, size, &err) == 0, "the whole one again: %s", err.message);
    CHECK(gqa_session_position(b) == N, "position %d", gqa_session_position(b));
    unlink(path);
    CHECK(gqa_session_load(b, path, &err) == GQA_ERR_IO, "no file");
    CHECK_HAS(err.message, path);
    CHECK(gqa_session_position(b) == N , "a session that loads nothing is kept");
    CHECK(gqa_session_save(a, "/nonexistent/x", &err) == GQA_ERR_IO, "no folder");
    free(file);
    gqa_session_free(a);
    gqa_session_free(b);
    gqa_model_close(m);
    gqa_model_close(stranger);
}

/* Exact sessions in portions and one by one, saved and copied; not mixed with others. */
static void check_exact(void) {
    gqa_error err = {0};
    gqa_model *m = new_model((model_shape){.seed = 19, .type = GQA_TYPE_Q8_0});
    const char *path = saved_path();
    int32_t t[N];
    random_tokens(t, N, 20);
    gqa_session *a = SESSION(m, .exact = 1, .kv = "f32", .context = CONTEXT);
    gqa_session *b = SESSION(m, .exact = 1, .kv = "f32"), *plain = SESSION(m, .kv = "f32");
    for (int i = 0; i < N; i += N / 2) eval_ok(a, t + i, N / 2);
    for (int i = 0; i < N; i++) eval_ok(b, t + i, 1);
    CHECK(close_logits(a, b), "in portions");
    eval_ok(plain, t, N);
    CHECK(!same_logits(a, plain), "exact is something else");
    CHECK(gqa_session_save(a, path, &err) == 0, "%s", err.message);
    CHECK(gqa_session_load(b, path, &err) == 0 && same_logits(a, b), "%s", err.message);
    CHECK(gqa_session_load(plain, path, &err) == GQA_ERR_FORMAT, "into one that is not exact");
    CHECK_HAS(err.message, "saved by a session that is exact, unlike this one");
    CHECK(gqa_session_position(plain) == N, "it is as it was");
    CHECK(gqa_session_copy(b, a, N / 2, &err) == 0, "%s", err.message);
    CHECK(gqa_session_copy(plain, a, N / 2, &err) == GQA_ERR_ARGUMENT, "copied");
    CHECK_HAS(err.message, "copy: only one of the sessions is exact");
    CHECK(gqa_session_save(plain, path, &err) == 0, "%s", err.message);
    CHECK(gqa_session_load(a, path, &err) == GQA_ERR_FORMAT, "the other way round");
    CHECK_HAS(err.message, "saved by a session that is not exact, unlike this one");
    unlink(path);
    gqa_session_free(a);
    gqa_session_free(b);
    gqa_session_free(plain);
    gqa_model_close(m);
}

/* Windows does not replace a file that a program has open, and the message must say so. */
static void check_open_target(void) {
    gqa_model *m = new_model((model_shape){.seed = 18});
    gqa_session *s = SESSION(m, .context = CONTEXT);
    gqa_error err = {0};
    const char *path = saved_path();
    CHECK(gqa_session_save(s, path, &err) == 0, "%s", err.message);
    FILE *held = fopen(path, "rb");
    int status = gqa_session_save(s, path, &err);
    CHECK(status == (ON_WINDOWS ? GQA_ERR_IO : 0), "an open file: %d, %s", status, err.message);
    if (ON_WINDOWS) {
        CHECK_HAS(err.message, path);
        CHECK_HAS(err.message, "cannot write: Permission denied; another program may have it open");
        CHECK(gqa_session_load(s, path, &err) == 0, "the old file: %s", err.message);
    }
    if (held) fclose(held);
    CHECK(held && gqa_session_save(s, path, &err) == 0, "%s", err.message);
    unlink(path);
    gqa_session_free(s);
    gqa_model_close(m);
}

/* A ring forgets what later tokens overwrote, also when they were rewound before it was saved. */
static void check_ring(void) {
    gqa_model *m = new_model((model_shape){.window = 48, .seed = 14});
    gqa_error err = {0};
    int32_t t[200];
    const char *path = saved_path();
    random_tokens(t, 200, 15);
    gqa_session *a = SESSION(m, .kv = "f32", .context = 250);
    gqa_session *b = SESSION(m, .kv = "f32", .context = 250);
    int ring = gqa_cache_ring(a);
    int seen = 200 - ring + 47; /* the window of position `seen` is the last that is whole */
    eval_ok(a, t, 200);
    CHECK(ring < 200 && gqa_session_rewind(a, 190, &err) == 0, "ring %d: %s", ring, err.message);
    CHECK(gqa_session_save(a, path, &err) == 0, "%s", err.message);
    CHECK(gqa_session_load(b, path, &err) == 0, "%s", err.message);
    for (int back = 190; back > 0; back--) {
        int kept = gqa_session_rewind(a, back, NULL) == 0;
        int loaded = gqa_session_rewind(b, back, NULL) == 0;
        CHECK(kept == (back >= seen), "to %d of ring %d: %d", back, ring, kept);
        CHECK(loaded == kept, "to %d of ring %d: %d, loaded %d", back, ring, kept, loaded);
    }
    eval_ok(a, t, 5);
    eval_ok(b, t, 5);
    CHECK(same_logits(a, b), "both go on alike");
    gqa_session_rewind(b, 0, NULL);
    CHECK(gqa_session_save(b, path, &err) == 0, "empty: %s", err.message);
    CHECK(gqa_session_load(a, path, &err) == 0, "empty: %s", err.message);
    unlink(path);
    gqa_session_free(a);
    gqa_session_free(b);
    gqa_model_close(m);
}

/* A copy of a small model at `path`: a float key set, and one byte of a tensor changed. */
static gqa_model *changed_model(const char *path, const char *key, float value, int byte) {
    size_t size, at = 0, length = strlen(key);
    uint8_t *file = read_file("tests/models/stories-gqa.gguf", &size);
    while (at + length < size && memcmp(file + at, key, length)) at++;
    if (!CHECK(at + length < size, "no key %s", key)) return NULL;
    memcpy(file + at + length + 4, &value, 4); /* behind its type */
    file[size - 5000] ^= (uint8_t)byte;
    unlink(path); /* a file of its own */
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(file, 1, size, f) == size && fclose(f) == 0, "cannot write %s", path);
    free(file);
    return gqa_model_open(path, NULL, NULL);
}

/* Whatever changes the numbers makes another model: a weight, a key; a copy is the same one. */
static void check_identity(void) {
    static const struct {
        const char *what, *key;
        float value;
        int byte, same;
    } cases[] = {
        {"a copy", "llama.attention.layer_norm_rms_epsilon", 1e-5f, 0, 1},
        {"another eps", "llama.attention.layer_norm_rms_epsilon", 0.5f, 0, 0},
        {"another rotary base", "llama.rope.freq_base", 5000, 0, 0},
        {"a weight changed", "llama.attention.layer_norm_rms_epsilon", 1e-5f, 1, 0},
    };
    char path[TEST_PATH + 16];
    gqa_error err = {0};
    int32_t t[N];
    random_tokens(t, N, 9);
    gqa_model *m = gqa_model_open("tests/models/stories-gqa.gguf", NULL, NULL);
    gqa_session *s = m ? SESSION(m, .context = CONTEXT) : NULL;
    if (!m) return test_skip("identity of a model", "no tests/models/stories-gqa.gguf here");
    eval_ok(s, t, N);
    CHECK(gqa_session_save(s, saved_path(), &err) == 0, "%s", err.message);
    CHECK(gqa_session_load(s, saved_path(), &err) == 0, "the model itself: %s", err.message);
    snprintf(path, sizeof path, "%s.gguf", saved_path());
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        gqa_model *other = changed_model(path, cases[i].key, cases[i].value, cases[i].byte);
        gqa_session *loaded = SESSION(other, .context = CONTEXT);
        int status = gqa_session_load(loaded, saved_path(), &err);
        CHECK(status == (cases[i].same ? 0 : GQA_ERR_FORMAT), "%s: status %d", cases[i].what,
              status);
        if (!cases[i].same) CHECK_HAS(err.message, "saved from another model");
        gqa_session_free(loaded);
        gqa_model_close(other);
    }
    unlink(path);
    unlink(saved_path());
    gqa_session_free(s);
    gqa_model_close(m);
}

/* ---- hostile files --------------------------------------------------------------------------- */

/* A saved session, the path it is written to when changed, and the session that loads it. */
typedef struct victim {
    gqa_session *session;
    const char *path;
    uint8_t *good;           /* [size] the file as it was saved */
    uint8_t *file;           /* as it is changed; room for more */
    size_t size;
} victim;

/* Draws a token from the logits, if there are any, both ways. */
static int can_sample(const gqa_session *s) {
    static const gqa_sampler_options options[2] = {{0}, {.temperature = 1, .top_p = 0.9f}};
    int ok = 1;
    for (int i = 0; i < 2 && gqa_session_logits(s); i++) {
        gqa_sampler *sampler = gqa_sampler_new(&options[i], NULL);
        int32_t next = gqa_sampler_next(sampler, gqa_session_logits(s), VOCAB);
        ok &= next >= 0 && next < VOCAB;
        gqa_sampler_free(sampler);
    }
    return ok;
}

/* Whatever the cache holds, the session can be read on, sampled from and rewound. */
static int is_usable(gqa_session *s, uint64_t seed, gqa_error *err) {
    enum { ROWS = 4 }; /* few: emulated machines read thousands of such files */
    int n = gqa_session_position(s), left = gqa_session_context(s) - n, ok = 1;
    int32_t t[ROWS];
    random_tokens(t, ROWS, seed);
    for (int i = 0; i < n; i++)
        ok &= gqa_session_tokens(s)[i] >= 0 && gqa_session_tokens(s)[i] < VOCAB;
    int decoding = gqa_session_eval(s, t, 1, err), prefill = gqa_session_eval(s, t, ROWS - 1, err);
    ok &= decoding == (left < 1 ? GQA_ERR_CONTEXT : 0) || decoding == GQA_ERR_NUMERIC;
    ok &= prefill == (left < ROWS ? GQA_ERR_CONTEXT : 0) || prefill == GQA_ERR_NUMERIC;
    ok &= can_sample(s);
    if (gqa_session_rewind(s, n / 2, NULL) == 0) {
        int again = gqa_session_eval(s, t, n - n / 2 < ROWS ? 1 : ROWS, err);
        ok &= again == 0 || again == GQA_ERR_NUMERIC;
    }
    return ok && gqa_session_rewind(s, 0, NULL) == 0 && gqa_session_eval(s, t, ROWS, err) == 0;
}

/* Signs and loads v->file [size]. Refused: with a message, and the session as it was or empty.
 * Loaded: usable. Returns whether it was loaded. */
static int survives(victim *v, size_t size, const char *what) {
    gqa_error err = {0};
    int before = gqa_session_position(v->session);
    sign(v->file, size, VOCAB);
    if (load_bytes(v->session, v->path, v->file, size, &err) == 0) {
        CHECK(is_usable(v->session, size, &err), "%s: not usable: %s", what, err.message);
        return 1;
    }
    CHECK(err.code == GQA_ERR_FORMAT && strstr(err.message, v->path), "%s: %s", what, err.message);
    CHECK(!strstr(err.message, "checksum"), "%s: %s", what, err.message);
    int after = gqa_session_position(v->session);
    CHECK(after == before || (after == 0 && !gqa_session_logits(v->session)),
          "%s: refused, but changed from position %d to %d", what, before, after);
    return 0;
}

/* Every word of the header: no other value is right, but for how far a ring has been written, and
 * the file of a model that has none: of these a few are tried. */
static void hostile_header(victim *v) {
    static const uint32_t values[] = {
        0, 1, 2, 3, 4, 5, 8, 30, 31, 32, 33, 39, 41, 64, 65, 128, 129, 200, 201, 221, 1u << 24,
        0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000, 0x80000028, 0xFFFFFFD8, 0xFFFFFFFE,
        0xFFFFFFFF,
    };
    enum { N_VALUES = sizeof values / sizeof *values };
    char what[80];
    memcpy(v->file, v->good, v->size);
    for (size_t at = 0; at < HEADER; at += 4) {
        uint32_t good = word_of(v->good, at);
        for (size_t i = at < AT_FILE ? 0 : N_VALUES + 30; i < N_VALUES + 32; i++) {
            uint32_t word = i < N_VALUES ? values[i] : good ^ 1u << (i - N_VALUES);
            set_word(v->file, at, word);
            int right = word == good || at >= AT_FILE ||
                        (at == AT_AHEAD && word <= word_of(v->good, AT_RING));
            snprintf(what, sizeof what, "word at %zu: 0x%X", at, (unsigned)word);
            int loaded = survives(v, v->size, what);
            CHECK(loaded == right, "%s %s", what, right ? "refused" : "accepted");
        }
        set_word(v->file, at, good);
    }
}

/* Makes v->file whole for that position, logits and tiles, with tokens and a cache of any bytes.
 * Returns its size. */
static size_t make_whole(victim *v, uint32_t position, uint32_t logits, size_t tiles,
                         uint64_t *seed) {
    size_t good_tiles = word_of(v->good, AT_TILES), good_tokens = word_of(v->good, AT_POSITION);
    size_t good_cache = v->size - HEADER - 8 - good_tokens * 4 - VOCAB * sizeof(float);
    size_t at = HEADER, cache = at + position * (size_t)4 + (logits ? VOCAB * sizeof(float) : 0);
    size_t end = cache + tiles * (good_cache / good_tiles);
    memcpy(v->file, v->good, HEADER);
    set_word(v->file, AT_POSITION, position);
    set_word(v->file, AT_LOGITS, logits);
    set_word(v->file, AT_TILES, (uint32_t)tiles);
    uint32_t ring = word_of(v->good, AT_RING);
    set_word(v->file, AT_AHEAD, ring ? position % ring : 0);
    for (uint32_t i = 0; i < position; i++, at += 4)
        set_word(v->file, at, (uint32_t)(test_random_bits(seed) % VOCAB));
    for (; at < end; at++) v->file[at] = (uint8_t)test_random_bits(seed);
    return end + 8;
}

/* No token of a file that is whole otherwise may be out of the vocabulary. */
static void hostile_tokens(victim *v, size_t size, uint64_t *seed, const char *what) {
    static const uint32_t ids[] = {VOCAB, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF};
    uint32_t position = word_of(v->file, AT_POSITION);
    for (int i = 0; i < 4; i++) {
        size_t token = i & 1 ? position - 1 : test_random_bits(seed) % position;
        size_t at = HEADER + token * 4;
        uint32_t id = word_of(v->file, at);
        set_word(v->file, at, ids[i]);
        CHECK(!survives(v, size, what), "%s: token %u accepted", what, (unsigned)ids[i]);
        set_word(v->file, at, id);
    }
}

/* Positions in such files: every one that the context has is taken, with the tiles it needs and
 * tokens of the vocabulary. */
static void hostile_positions(victim *v) {
    static const uint32_t positions[] = {0,  1,   7,   31,  32,  33,  64,  119, 127,
                                         128, 129, 196, 197, 199, 200, 201, 232, 700};
    uint32_t ring = word_of(v->good, AT_RING), limit = (ring ? ring : CONTEXT + 31) / 32;
    uint64_t seed = 16;
    char what[80];
    for (size_t i = 0; i < 2 * sizeof positions / sizeof *positions; i++) {
        uint32_t position = positions[i / 2], logits = i & 1, tiles = (position + 31) / 32;
        int right = position <= CONTEXT && !(logits && position == 0);
        if (tiles > limit) tiles = limit;
        const uint32_t others[] = {0, tiles - 1, tiles + 1, limit + 1};
        for (size_t k = 0; k < sizeof others / sizeof *others; k++) {
            uint32_t other = others[k];
            if (other == tiles || other > limit + 1) continue;
            snprintf(what, sizeof what, "position %u in %u tiles, not %u", (unsigned)position,
                     (unsigned)other, (unsigned)tiles);
            size_t size = make_whole(v, position, logits, other, &seed);
            CHECK(!survives(v, size, what), "%s: accepted", what);
        }
        snprintf(what, sizeof what, "position %u, logits %u", (unsigned)position,
                 (unsigned)logits);
        size_t size = make_whole(v, position, logits, tiles, &seed);
        int loaded = survives(v, size, what);
        CHECK(loaded == right, "%s %s", what, right ? "refused" : "accepted");
        if (position > 0 && position <= CONTEXT) hostile_tokens(v, size, &seed, what);
    }
}

/* Infinities, NaN and the largest numbers, as f32 and as two 16-bit numbers or scales, in one
 * place, in a stretch, everywhere. */
static void hostile_values(victim *v) {
    static const uint32_t values[] = {
        0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x7F7FFFFF, 0xFF7FFFFF,
        0x00000001, 0x7C007C00, 0xFC00FC00, 0x7E007E00, 0x7C017C01, 0x7BFFFBFF,
        0x7FC07FC0, 0x7F80FF80, 0x80808080, 0xFFFFFFFF,
    };
    uint64_t seed = 17;
    char what[80];
    size_t logits = HEADER + word_of(v->good, AT_POSITION) * (size_t)4;
    size_t cache = logits + VOCAB * sizeof(float), end = v->size - 8;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        for (int kind = 0; kind < 6; kind++) {
            size_t from = kind == 0 ? logits : cache, to = end; /* 0: the logits too */
            if (kind > 1) {
                from += test_random_bits(&seed) % ((end - cache) / 4) * 4;
                to = min_size(end, from + (kind & 1 ? 4 : 256));
            }
            memcpy(v->file, v->good, v->size);
            for (; from < to; from += 4) set_word(v->file, from, values[i]);
            snprintf(what, sizeof what, "0x%08X, kind %d", (unsigned)values[i], kind);
            CHECK(survives(v, v->size, what), "%s: any value may be cached", what);
        }
}

/* The file signed here is the one that was saved, and goes on like the session. */
static void check_signature(const gqa_model *m, victim *v, const int32_t *t, const char *kv) {
    gqa_session_options o = {.kv = kv, .context = CONTEXT};
    gqa_session *again = new_session(m, o), *fresh = new_session(m, o);
    gqa_error err = {0};
    uint32_t ring = word_of(v->good, AT_RING);
    memcpy(v->file, v->good, v->size);
    sign(v->file, v->size, VOCAB);
    CHECK(!memcmp(v->file, v->good, v->size), "another checksum than the library's");
    CHECK(v->size > HEADER && (ring > 0) == (gqa_model_config(m)->window > 0), "ring %u", ring);
    CHECK(load_bytes(again, v->path, v->file, v->size, &err) == 0, "%s", err.message);
    eval_ok(again, t, 9);
    eval_ok(fresh, t, N_HOSTILE);
    eval_ok(fresh, t, 9);
    CHECK(same_logits(again, fresh), "it goes on like the session that was saved");
    gqa_session_free(again);
    gqa_session_free(fresh);
}

/* A file whose checksum fits is not to be trusted either: anybody can compute it. */
static void check_hostile(const char *kv, model_shape shape) {
    gqa_model *m = new_model(shape);
    gqa_error err = {0};
    int32_t t[N_HOSTILE];
    victim v = {.path = saved_path()};
    random_tokens(t, N_HOSTILE, 19);
    v.session = SESSION(m, .kv = kv, .context = CONTEXT, .n_threads = 1);
    eval_ok(v.session, t, N_HOSTILE);
    CHECK(gqa_session_save(v.session, v.path, &err) == 0, "%s", err.message);
    v.good = read_file(v.path, &v.size);
    v.file = malloc(v.size * 9 + 4096); /* nine tiles and 700 tokens are the most */
    check_signature(m, &v, t, kv);
    hostile_header(&v);
    hostile_positions(&v);
    hostile_values(&v);
    unlink(v.path);
    free(v.good);
    free(v.file);
    gqa_session_free(v.session);
    gqa_model_close(m);
}

int main(int argc, char **argv) {
    static const struct {
        const char *kv;
        gqa_type weights;
        int window;
    } hostile[] = {
        {"q8_0", GQA_TYPE_Q8_0, 0}, {"f16", GQA_TYPE_Q4_0, 48},    {"f32", GQA_TYPE_F32, 0},
        {"bf16", GQA_TYPE_Q8_0, 0}, {"f32", GQA_TYPE_Q8_0, 48},    {"q4_0", GQA_TYPE_F32, 48},
        {"q8_0/f16", GQA_TYPE_Q8_0, 0},
    };
    char name[80];
    test_start(argc, argv);
    TEST("saved and loaded, f16 cache") check_saved("f16", 0);
    TEST("saved and loaded, q8_0 cache") check_saved("q8_0", 0);
    TEST("saved and loaded, q8_0/q4_0 cache") check_saved("q8_0/q4_0", 0);
    TEST("saved and loaded, sliding window") check_saved("f32", 48);
    TEST("exact: in portions, saved, copied; refused by others") check_exact();
    TEST("a file that is open is replaced, or the message says why not") check_open_target();
    TEST("a session of another model") check_identity();
    TEST("a rewound ring is saved as it is") check_ring();
    const int n_hostile = test_is_emulated() ? 2 : 7; /* without and with a window */
    for (int i = 0; i < n_hostile; i++) {
        snprintf(name, sizeof name, "a hostile file: %s cache, window %d", hostile[i].kv,
                 hostile[i].window);
        TEST(name) check_hostile(hostile[i].kv, (model_shape){.type = hostile[i].weights,
                                                              .layers = 2,
                                                              .kv_heads = 1,
                                                              .window = hostile[i].window,
                                                              .seed = 18});
    }
    return test_end();
}
