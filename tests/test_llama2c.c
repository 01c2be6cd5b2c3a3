/* test_llama2c.c: one small random model as llama2.c's export.py writes it in its three versions:
 * v0 and v1 in f32, v2 in groups of int8 and a scale. Every weight is an int8 times a scale of 11
 * bits, so that the three hold the same numbers: their logits are the same bits, and near those
 * of the double-precision reference. Truncated or lying v2 files are refused. */
#include "test.h"

#include <unistd.h>

#include "../base/base.h"
#include "reference.h"

enum {
    DIM = 24, FFN = 40, LAYERS = 2, HEADS = 4, KV_HEADS = 2, HEAD = DIM / HEADS,
    KV_DIM = KV_HEADS * HEAD, VOCAB = 37, CONTEXT = 16, GROUP = 8,
    N_TOKENS = 12, HEADER = 256, MATRICES = 7, FILE_CAPACITY = 1 << 17
};

/* A matrix: codes and scales as v2 stores them, and their products. */
typedef struct matrix {
    int rows, cols;
    int8_t codes[FFN * DIM];
    float scales[FFN * DIM / GROUP], values[FFN * DIM];
} matrix;

static struct {
    matrix embedding, classifier, layers[LAYERS][MATRICES]; /* wq, wk, wv, wo, w1, w2, w3 */
    float attn_norm[LAYERS][DIM], ffn_norm[LAYERS][DIM], norm[DIM];
} model;

/* Returns how many of the products are not floats exactly. */
static int fill_matrix(matrix *m, int rows, int cols, uint64_t *seed) {
    int rounded = 0;
    m->rows = rows;
    m->cols = cols;
    for (int i = 0; i < rows * cols; i++) {
        float *scale = &m->scales[i / GROUP];
        if (i % GROUP == 0) *scale = (float)(800 + test_random_bits(seed) % 800) / 262144;
        m->codes[i] = (int8_t)(test_random_bits(seed) % 255 - 127);
        m->values[i] = (float)m->codes[i] * *scale;
        rounded += (double)m->values[i] != (double)m->codes[i] * (double)*scale;
    }
    return rounded;
}

static void fill_norm(float *norm, uint64_t *seed) {
    for (int i = 0; i < DIM; i++) norm[i] = 1 + 0.4f * test_random(seed);
}

static int fill_model(void) {
    static const int shapes[MATRICES][2] = {{DIM, DIM}, {KV_DIM, DIM}, {KV_DIM, DIM}, {DIM, DIM},
                                            {FFN, DIM}, {DIM, FFN}, {FFN, DIM}};
    uint64_t seed = 3;
    int rounded = fill_matrix(&model.embedding, VOCAB, DIM, &seed);
    rounded += fill_matrix(&model.classifier, VOCAB, DIM, &seed);
    for (int l = 0; l < LAYERS; l++) {
        for (int i = 0; i < MATRICES; i++)
            rounded += fill_matrix(&model.layers[l][i], shapes[i][0], shapes[i][1], &seed);
        fill_norm(model.attn_norm[l], &seed);
        fill_norm(model.ffn_norm[l], &seed);
    }
    fill_norm(model.norm, &seed);
    return rounded;
}

/* ---- files ------------------------------------------------------------------------------- */

typedef struct file {
    int version;
    size_t size;
    uint8_t data[FILE_CAPACITY];
} file;

static void put(file *f, const void *data, size_t size) {
    memcpy(f->data + f->size, data, size);
    f->size += size;
}
static void put_int(file *f, int32_t v) { put(f, &v, 4); }
static void put_matrix(file *f, const matrix *m) {
    size_t n = (size_t)(m->rows * m->cols);
    if (f->version < 2) {
        put(f, m->values, 4 * n);
    } else {
        put(f, m->codes, n);
        put(f, m->scales, 4 * n / GROUP);
    }
}
static void put_layers(file *f, int first, int last) {
    for (int i = first; i <= last; i++)
        for (int l = 0; l < LAYERS; l++) put_matrix(f, &model.layers[l][i]);
}

static void put_header(file *f, int shared) {
    int vocab_size = f->version == 0 && !shared ? -VOCAB : VOCAB;
    const int32_t fields[] = {DIM, FFN, LAYERS, HEADS, KV_HEADS, vocab_size, CONTEXT};
    if (f->version) {
        put_int(f, 0x616b3432);
        put_int(f, f->version);
    }
    put(f, fields, sizeof fields);
    if (!f->version) return;
    put(f, &(uint8_t){(uint8_t)shared}, 1);
    if (f->version == 2) put_int(f, GROUP);
    memset(f->data + f->size, 0, HEADER - f->size);
    f->size = HEADER;
}

/* The order of export.py's legacy_export, version1_export and version2_export. */
static void make_file(file *f, int version, int shared) {
    *f = (file){.version = version};
    put_header(f, shared);
    if (version == 0) {
        put_matrix(f, &model.embedding);
        put(f, model.attn_norm, sizeof model.attn_norm);
        put_layers(f, 0, 3);
        put(f, model.ffn_norm, sizeof model.ffn_norm);
        put_layers(f, 4, 6);
        put(f, model.norm, sizeof model.norm);
        /* rotary tables, which must not be read */
        for (int i = 0; i < CONTEXT * HEAD; i++) put(f, &(float){NAN}, 4);
    } else {
        put(f, model.attn_norm, sizeof model.attn_norm);
        put(f, model.ffn_norm, sizeof model.ffn_norm);
        put(f, model.norm, sizeof model.norm);
        put_matrix(f, &model.embedding);
        put_layers(f, 0, 6);
    }
    if (!shared) put_matrix(f, &model.classifier);
}

/* ---- logits ------------------------------------------------------------------------------ */

static int32_t tokens[N_TOKENS];

static ref_matrix ref_of(const matrix *m) { return (ref_matrix){m->values, m->rows, m->cols, 0}; }

static void reference(int shared, double *want) {
    ref_layer layers[LAYERS];
    for (int l = 0; l < LAYERS; l++) {
        const matrix *w = model.layers[l];
        layers[l] = (ref_layer){
            .attn_norm = model.attn_norm[l], .ffn_norm = model.ffn_norm[l],
            .wq = ref_of(&w[0]), .wk = ref_of(&w[1]), .wv = ref_of(&w[2]), .wo = ref_of(&w[3]),
            .w_gate = ref_of(&w[4]), .w_down = ref_of(&w[5]), .w_up = ref_of(&w[6]),
        };
    }
    ref_model m = {
        .dim = DIM, .n_layers = LAYERS, .n_heads = HEADS, .n_kv_heads = KV_HEADS, .head_dim = HEAD,
        .ffn_dim = FFN, .vocab = VOCAB, .rope_dim = HEAD, .rope_theta = 10000, .norm_eps = 1e-5,
        .embedding = model.embedding.values, .output_norm = model.norm, .layers = layers,
        .classifier = ref_of(shared ? &model.embedding : &model.classifier),
    };
    ref_forward(&m, tokens, N_TOKENS, want);
}

static void check_description(const gqa_model *m, int version, int shared) {
    char format[16];
    snprintf(format, sizeof format, "llama2.c v%d", version);
    const gqa_model_stats *stats = gqa_model_get_stats(m);
    const gqa_config *c = gqa_model_config(m);
    CHECK(!strcmp(stats->format, format), "v%d opened as %s", version, stats->format);
    CHECK(c->tied_embeddings == shared, "v%d: another classifier", version);
    CHECK(c->vocab_size == VOCAB, "v%d: %d tokens", version, c->vocab_size);
    CHECK(c->context_length == CONTEXT, "v%d: context %d", version, c->context_length);
}

static int run_file(const file *f, int shared, int no_repack, float *logits) {
    gqa_error err = {0};
    gqa_model_options mo = {.n_threads = 1, .no_repack = no_repack};
    gqa_session_options so = {.kv = "f32", .n_threads = 1};
    uint8_t *copy = malloc(f->size); /* exact: the address sanitizer sees a read past its end */
    memcpy(copy, f->data, f->size);
    gqa_model *m = gqa_model_from_memory(copy, f->size, &mo, &err);
    gqa_session *s = m ? gqa_session_new(m, &so, &err) : NULL;
    int status = s ? gqa_session_eval_all(s, tokens, N_TOKENS, logits, &err) : -1;
    CHECK(status == 0, "v%d: %s", f->version, err.message);
    if (m) check_description(m, f->version, shared);
    gqa_session_free(s);
    gqa_model_close(m);
    free(copy);
    return status;
}

static void test_same_logits(int shared, int no_repack) {
    static file f;
    static float got[3][N_TOKENS * VOCAB];
    static double want[N_TOKENS * VOCAB];
    reference(shared, want);
    for (int version = 0; version < 3; version++) {
        make_file(&f, version, shared);
        if (run_file(&f, shared, no_repack, got[version])) continue;
        double distance = ref_distance(got[version], want, N_TOKENS * VOCAB);
        CHECK(distance < 1e-5, "v%d: %g from the reference", version, distance);
        CHECK(!memcmp(got[version], got[0], sizeof got[0]), "v%d: other logits than v0", version);
    }
}

/* ---- files that are refused -------------------------------------------------------------- */

static void check_refused(const uint8_t *data, size_t size, const char *what) {
    gqa_error err = {0};
    uint8_t *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    gqa_model *m = gqa_model_from_memory(copy, size, &(gqa_model_options){.n_threads = 1}, &err);
    CHECK(!m && err.code == GQA_ERR_FORMAT, "%zu bytes: opened or code %d", size, (int)err.code);
    CHECK_HAS(err.message, what);
    gqa_model_close(m);
    free(copy);
}

static void test_truncated(int shared) {
    static file f;
    make_file(&f, 2, shared);
    size_t norms = sizeof model.attn_norm + sizeof model.ffn_norm + sizeof model.norm;
    size_t codes = HEADER + norms + VOCAB * DIM; /* the end of the embedding's */
    static const struct { size_t size; const char *message; } headers[] = {
        {0, "empty"},
        {3, "too few"},
        {4, "header: 4 of 256"},
        {8, "header: 8 of 256"},
        {36, "header: 36 of"},
        {37, "header: 37 of"},
        {41, "header: 41 of"},
        {HEADER - 1, "header: 255 of"},
        {HEADER, "the file has 256"},
        {HEADER + 1, "the file has 257"},
    };
    const size_t sizes[] = {
        HEADER + norms - 1, HEADER + norms, codes - 1, codes, codes + 3,
        codes + 4 * VOCAB * DIM / GROUP, f.size - 4, f.size - 1, f.size + 1,
    };
    for (size_t i = 0; i < array_length(headers); i++)
        check_refused(f.data, headers[i].size, headers[i].message);
    for (size_t i = 0; i < array_length(sizes); i++)
        check_refused(f.data, sizes[i], "bytes, the file has");
}

static void test_lying(int shared) {
    enum {
        DIM_AT = 8, FFN_AT = 12, LAYERS_AT = 16, HEADS_AT = 20, VOCAB_AT = 28,
        SHARED_AT = 36, GROUP_AT = 37
    };
    static const struct { size_t at; int32_t value; const char *message; } lies[] = {
        {DIM_AT, DIM * 2, "bytes, the file has"},
        {FFN_AT, 2 * FFN, "bytes, the file has"},
        {LAYERS_AT, 1, "bytes, the file has"},
        {HEADS_AT, 5, "not a multiple"},
        {VOCAB_AT, -VOCAB, "vocab_size"},
        {VOCAB_AT, VOCAB + 1, "bytes, the file has"},
        {GROUP_AT, 0, "group_size is 0"},
        {GROUP_AT, -8, "group_size is -8"},
        {GROUP_AT, 4, "bytes, the file has"},
        {GROUP_AT, 5, "group_size 5 does not divide dim 24 and ffn_dim 40"},
        {GROUP_AT, 24, "group_size 24 does not divide"},
        {GROUP_AT, INT32_MAX, "group_size is 2147483647"},
    };
    static file f;
    for (size_t i = 0; i < array_length(lies); i++) {
        make_file(&f, 2, shared);
        memcpy(f.data + lies[i].at, &lies[i].value, 4);
        check_refused(f.data, f.size, lies[i].message);
    }
    make_file(&f, 2, shared);
    f.data[SHARED_AT] = 2;
    check_refused(f.data, f.size, "shared_classifier is 2");
    f.data[SHARED_AT] = !shared;
    check_refused(f.data, f.size, "bytes, the file has");
}

/* A file of 1.05 GB of int8, nearly all of it a hole, whose floats pass 4 GiB: on a 32-bit machine
 * too large, not as many as their size modulo 2^32. */
static void test_floats_beyond_32_bits(void) {
    const int32_t header[9] = {0x616b3432, 2, 1024, 1024, 1, 1, 1, 1 << 20, 16};
    const int32_t group = 1024;
    const long long n = (1LL << 30) + 7 * (1 << 20), size = 256 + 3 * 4096 + n + n / 1024 * 4;
    char path[TEST_PATH];
    gqa_error err = {0};
    if (sizeof(size_t) > 4) return test_skip("floats beyond 32 bits", "a 64-bit machine");
    test_path(path, "large.bin");
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(header, 4, 9, f) == 9 && fputc(1, f) == 1 && fwrite(&group, 4, 1, f) == 1 &&
          fflush(f) == 0 && ftruncate(fileno(f), size) == 0 && fclose(f) == 0, "%s", path);
    gqa_model *m = gqa_model_open(path, NULL, &err);
    CHECK(!m && err.code == GQA_ERR_MEMORY, "opened, or code %d: %s", err.code, err.message);
    gqa_model_close(m);
    unlink(path);
}

static void test_not_a_number(int version) {
    static file f;
    gqa_error err = {0};
    float kept = model.attn_norm[1][3];
    model.attn_norm[1][3] = NAN;
    make_file(&f, version, 1);
    model.attn_norm[1][3] = kept;
    gqa_model *m = gqa_model_from_memory(f.data, f.size, NULL, &err);
    gqa_session *s = m ? gqa_session_new(m, NULL, &err) : NULL;
    if (!CHECK(s, "version %d: %s", version, err.message)) return;
    int status = gqa_session_eval(s, tokens, N_TOKENS, &err);
    CHECK(status == GQA_ERR_NUMERIC, "version %d: status %d", version, status);
    CHECK_HAS(err.message, "layer 1 gives NaN");
    gqa_session_free(s);
    gqa_model_close(m);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    uint64_t seed = 8;
    int rounded = fill_model();
    for (int i = 0; i < N_TOKENS; i++) tokens[i] = (int32_t)(test_random_bits(&seed) % VOCAB);
    TEST("weights are floats") CHECK(rounded == 0, "%d are not", rounded);
    TEST("a shared classifier") test_same_logits(1, 0);
    TEST("a shared classifier, not repacked") test_same_logits(1, 1);
    TEST("a classifier of its own") test_same_logits(0, 0);
    TEST("a classifier of its own, not repacked") test_same_logits(0, 1);
    TEST("truncated") {
        test_truncated(0);
        test_truncated(1);
    }
    TEST("lying headers") {
        test_lying(0);
        test_lying(1);
    }
    TEST("a norm that is not a number")
        for (int version = 0; version < 3; version++) test_not_a_number(version);
    TEST("floats beyond 32 bits") test_floats_beyond_32_bits();
    return test_end();
}
