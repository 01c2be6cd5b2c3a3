/* test_alloc.c: every allocation fails once: opening, tokenizing, sessions, evaluation, generation, saving, loading, conversion and
 * training each end with an error value and give back all they took. The linker puts the functions below in place of the real ones
 * (--wrap, see the Makefile); the address sanitizer's run shows what is not given back, and so does the count kept here. */
#include "../formats/formats.h"
#include "../formats/gguf.h"
#include "test.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../convert/convert.h"
#include "../train/train.h"

#ifdef __GLIBC__ /* its mmap with offsets of 64 bits */
#define __real_mmap __real_mmap64
#define __wrap_mmap __wrap_mmap64
#endif

static long countdown = -1; /* allocations until one fails; negative: none */
static long held;           /* blocks and pages not given back yet */
static int failed_once;
static size_t bytes, peak;  /* held now, and at most */
static long calls;

static void *took(void *p, size_t n) {
    calls++;
    held += p != NULL;
    bytes += p ? n : 0;
    if (bytes > peak) peak = bytes;
    return p;
}

static int fails(void) {
    if (countdown < 0) return 0;
    if (countdown-- > 0) return 0;
    failed_once = 1;
    return 1;
}

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t m);
void *__real_realloc(void *p, size_t n);
void *__real_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
void *__real_aligned_alloc(size_t a, size_t n);
void *__wrap_aligned_alloc(size_t a, size_t n);
void __real_free(void *p);
int __real_munmap(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t m);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset);
void __wrap_free(void *p);
int __wrap_munmap(void *p, size_t n);

void *__wrap_malloc(size_t n) {
    void *p = fails() ? NULL : __real_malloc(n);
    return took(p, malloc_usable_size(p));
}
void *__wrap_calloc(size_t n, size_t m) {
    void *p = fails() ? NULL : __real_calloc(n, m);
    return took(p, malloc_usable_size(p));
}
void *__wrap_realloc(void *old, size_t n) {
    if (fails()) return NULL;
    bytes -= malloc_usable_size(old);
    held -= old != NULL;
    void *p = __real_realloc(old, n);
    return took(p ? p : old, malloc_usable_size(p ? p : old)), p;
}
void *__wrap_aligned_alloc(size_t a, size_t n) {
    void *p = fails() ? NULL : __real_aligned_alloc(a, n);
    return took(p, malloc_usable_size(p));
}
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset) {
    void *p = fails() ? MAP_FAILED : __real_mmap(at, n, prot, flags, fd, offset);
    return p == MAP_FAILED ? p : took(p, n);
}
void __wrap_free(void *p) {
    held -= p != NULL;
    bytes -= malloc_usable_size(p);
    __real_free(p);
}
int __wrap_munmap(void *p, size_t n) {
    held--;
    bytes -= n;
    return __real_munmap(p, n);
}

static const char shipped[] = "models/stories-gqa.gguf";
static char path[128], copy_path[128], packed_path[140]; /* a copy of the model, and what is mapped beside it */

static int hear(void *user, const char *text, size_t len) {
    (void)text;
    *(size_t *)user += len;
    return 0;
}

/* Each returns 0 or the status of what failed. */
static int use_model(gqa_error *err) {
    gqa_model *m = gqa_model_open(shipped, NULL, err);
    gqa_session_options so = {.context = 48, .n_threads = 2};
    gqa_sampler_options sampling = {.temperature = 0.8f, .top_k = 20, .top_p = 0.9f, .repeat_penalty = 1.1f};
    gqa_generate_options go = {.max_tokens = 6, .stop = (const char *[]){"zebra"}, .n_stop = 1};
    gqa_session *s = m ? gqa_session_new(m, &so, err) : NULL;
    gqa_sampler *sampler = s ? gqa_sampler_new(&sampling, err) : NULL;
    size_t heard = 0;
    int status = sampler ? 0 : -1;
    if (!status) status = gqa_generate(s, sampler, "Once upon a time, a long <s> way", &go, hear, &heard, NULL, err);
    if (!status) status = gqa_session_save(s, path, err);
    if (!status) status = gqa_session_load(s, path, err);
    gqa_sampler_free(sampler);
    gqa_session_free(s);
    gqa_model_close(m);
    return status;
}

static int use_batch(gqa_error *err) {
    gqa_config c = {.dim = 32, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 16, .ffn_dim = 32, .vocab_size = 40, .context_length = 64};
    gqa_model *m = gqa_model_random(&c, GQA_TYPE_Q8_0, 1, NULL, err);
    gqa_session_options so = {.n_threads = 1};
    gqa_session *s[2] = {m ? gqa_session_new(m, &so, err) : NULL, NULL};
    if (s[0]) s[1] = gqa_session_new(m, &so, err);
    static float logits[3 * 40];
    int status = s[1] ? gqa_sessions_eval(s, (int32_t[]){1, 2}, 2, err) : -1;
    if (!status) status = gqa_session_eval_all(s[0], (int32_t[]){1, 2, 3}, 3, logits, err);
    gqa_session_free(s[0]);
    gqa_session_free(s[1]);
    gqa_model_close(m);
    return status;
}

static int use_convert(gqa_error *err) {
    gqa_map map = {0};
    gqa_checkpoint c = {0};
    gqa_convert_options o = {.kv_heads = 1, .pool = GQA_POOL_ALIGNED, .type = GQA_TYPE_F16};
    int status = gqa_map_open(&map, shipped, err);
    if (!status) status = gqa_checkpoint_read(&c, map.data, map.size, shipped, err);
    if (!status) status = gqa_convert(&c, &o, path, NULL, NULL, err);
    gqa_checkpoint_free(&c);
    gqa_map_close(&map);
    return status;
}

static int use_train(gqa_error *err) {
    static const char text[] = "the cat sat on the mat and the cat ran to the hat and the dog sat on the cat and the mat";
    gqa_vocab *v = NULL;
    gqa_dataset d = {0};
    gqa_trainer *t = NULL;
    gqa_step_result r;
    int status = gqa_bpe_train(&v, text, sizeof text - 1, 300, err);
    if (!status) status = gqa_dataset_add(&d, v, text, sizeof text - 1, err);
    if (!status) {
        gqa_config c = {.dim = 16, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 8, .ffn_dim = 16, .vocab_size = gqa_vocab_count(v), .context_length = 8, .tied_embeddings = 1};
        t = gqa_trainer_new(&c, &(gqa_train_options){.steps = 1, .batch = 1, .n_threads = 1}, err);
        status = t ? gqa_trainer_step(t, &d, &r, err) : -1;
    }
    if (!status) status = gqa_trainer_export(t, v, GQA_TYPE_F16, NULL, path, err);
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
    gqa_vocab_free(v);
    return status;
}

/* A SentencePiece vocabulary of <unk>, <s>, </s>, 256 bytes and two letters, without weights. No token holds a space. */
static uint8_t *bytes_vocab;
static size_t bytes_vocab_size;
static void make_bytes_vocab(void) {
    enum { N = 261 };
    static char names[N][8];
    gqa_bytes pieces[N];
    float scores[N];
    int32_t types[N];
    gqa_error err = {0};
    for (int i = 0; i < N; i++) {
        snprintf(names[i], sizeof names[i], i < 3 ? "<%d>" : i < 259 ? "<0x%02X>" : "%c", i < 3 ? i : i < 259 ? i - 3 : 'a' + i - 259);
        pieces[i] = (gqa_bytes){names[i], strlen(names[i])};
        scores[i] = (float)-i;
        types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
    }
    gguf_writer *w = gguf_writer_new(NULL, &err);
    gguf_put_string(w, "general.architecture", "llama", 5);
    gguf_put_string(w, "tokenizer.ggml.model", "llama", 5);
    gguf_put_strings(w, "tokenizer.ggml.tokens", pieces, N);
    gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, N);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, N);
    CHECK(gguf_finish_memory(w, &bytes_vocab, &bytes_vocab_size, &err) == 0, "%s", err.message);
}

/* A space is three bytes of U+2581, each a token: the room of len + 3 is too small, and a second one is asked for. */
static int use_tokens(gqa_error *err) {
    static const char text[] = "a         b          ";
    int32_t *ids = NULL;
    gqa_model *m = gqa_model_from_memory(bytes_vocab, bytes_vocab_size, NULL, err);
    long before = calls;
    int n = m ? gqa_tokenize_new(m, text, sizeof text - 1, GQA_TOKENIZE_BOS, &ids, err) : -1;
    if (n >= 0 && CHECK(ids != NULL, "%d tokens, but no memory of them", n)) {
        CHECK(n == 1 + 2 + 3 * (int)(sizeof text - 2), "%d tokens", n); /* <s>, a, b, and the spaces with the one put before */
        CHECK(ids[0] == 1 && ids[4] == 259 && ids[5] == 3 + 0xE2 && ids[6] == 3 + 0x96 && ids[7] == 3 + 0x81, "other tokens");
        CHECK(calls - before >= 4, "one round of %ld allocations", calls - before);
    }
    CHECK(n >= 0 || !ids, "tokens in spite of an error");
    free(ids);
    gqa_model_close(m);
    return n < 0 ? n : 0;
}

/* Writes the repacked weights of a copy, then opens it again with them beside it. */
static int use_packed(gqa_error *err) {
    gqa_model_options mo = {.n_threads = 1};
    gqa_model_stats stats;
    unlink(packed_path);
    gqa_model *m = gqa_model_open(copy_path, &mo, err);
    int status = m ? gqa_model_save_packed(m, packed_path, err) : -1;
    gqa_model_close(m);
    if (status) return status;
    if (!(m = gqa_model_open(copy_path, &mo, err))) return -1;
    stats = *gqa_model_get_stats(m);
    CHECK(stats.packed_bytes == 0 || failed_once, "repacked in memory in spite of the file");
    gqa_session *s = gqa_session_new(m, &(gqa_session_options){.context = 8, .n_threads = 1}, err);
    status = s ? gqa_session_eval(s, (int32_t[]){1, 300, 17}, 3, err) : -1;
    gqa_session_free(s);
    gqa_model_close(m);
    return status;
}

static const char *llama2c_model, *llama2c_tokenizer;
static int use_llama2c(gqa_error *err) {
    gqa_model *m = gqa_model_open(llama2c_model, &(gqa_model_options){.tokenizer_path = llama2c_tokenizer, .n_threads = 1}, err);
    gqa_session *s = m ? gqa_session_new(m, &(gqa_session_options){.context = 16, .n_threads = 1}, err) : NULL;
    int32_t *ids = NULL;
    int n = s ? gqa_tokenize_new(m, "Once upon a time", 16, GQA_TOKENIZE_BOS, &ids, err) : -1, status = n < 0 ? n : gqa_session_eval(s, ids, n, err);
    free(ids);
    gqa_session_free(s);
    gqa_model_close(m);
    return status;
}

static void sweep(const char *what, int (*use)(gqa_error *err)) {
    gqa_error err = {0};
    if (!CHECK(use(&err) == 0, "%s: %s", what, err.message)) return; /* warms up what OpenMP keeps */
    int survived = 0;
    for (long n = 0;; n++) {
        long before = held;
        err = (gqa_error){0};
        failed_once = 0;
        countdown = n;
        int status = use(&err);
        countdown = -1;
        CHECK(held == before, "%s: allocation %ld failed, %ld blocks were not given back", what, n, held - before);
        if (!failed_once) break;
        if (status == 0) survived++; /* some can be done without, a cache for instance */
        else CHECK(err.code < 0 && err.message[0], "%s: allocation %ld: status %d without a message", what, n, status);
    }
#ifdef GQA_STATIC
    test_skip(what, "in a static program the C library's own allocations fail as well, unnoticed");
#else
    CHECK(survived <= 4, "%s: %d failed allocations were not noticed", what, survived);
#endif
}

/* Generating calls the allocator for the prompt, and not again from the first token to the last. */
static int hear_calls(void *user, const char *text, size_t len) {
    long *seen = user; /* [0] at the first text, [1] at the last */
    (void)text, (void)len;
    if (!seen[0]) seen[0] = calls;
    seen[1] = calls;
    return 0;
}
static void test_token_loop(void) {
    gqa_error err = {0};
    gqa_model *m = gqa_model_open(shipped, NULL, &err);
    gqa_session *s = m ? gqa_session_new(m, &(gqa_session_options){.context = 250, .n_threads = 2}, &err) : NULL;
    gqa_sampler_options how = {.temperature = 0.9f, .top_k = 40, .top_p = 0.9f, .min_p = 0.01f, .repeat_penalty = 1.1f, .seed = 3};
    gqa_sampler *sampler = gqa_sampler_new(&how, &err);
    gqa_generate_result r = {0};
    long seen[2] = {0};
    int status = s && sampler ? gqa_generate(s, sampler, "Once upon a time", &(gqa_generate_options){.max_tokens = 200, .ignore_end = 1}, hear_calls, seen, &r, &err) : -1;
    CHECK(status == 0 && r.generated_tokens == 200, "%s: %d tokens", err.message, r.generated_tokens);
    CHECK(seen[0] > 0 && seen[0] == seen[1], "%ld allocations from the first of 200 tokens to the last", seen[1] - seen[0]);
    gqa_sampler_free(sampler);
    gqa_session_free(s);
    gqa_model_close(m);
}

/* Whatever a header says, opening takes at most twice the file's size (and some pages for small files). */
static void test_header_bound(void) {
    static uint8_t good[1 << 22], bad[1 << 22];
    FILE *f = fopen(shipped, "rb");
    size_t size = f ? fread(good, 1, sizeof good, f) : 0, most = 0, before;
    if (f) fclose(f);
    uint64_t seed = 5;
    int opened = 0;
    for (int i = 0; i < 300; i++) {
        memcpy(bad, good, size);
        for (int k = 0; k < i % 4; k++) { /* one byte, or a number of 4 or 8 bytes, in the metadata or the tensors' descriptions */
            uint64_t value = test_random_bits(&seed) >> test_random_bits(&seed) % 64;
            size_t at = test_random_bits(&seed) % (i & 4 ? 400 : 45000);
            memcpy(bad + at, &value, k == 0 ? 1 : k == 1 ? 4 : 8);
        }
        before = bytes, peak = bytes;
        gqa_error err = {0};
        gqa_model *m = gqa_model_from_memory(bad, size, &(gqa_model_options){.n_threads = 1}, &err);
        if (peak - before > most) most = peak - before;
        opened += m != NULL;
        gqa_model_close(m);
    }
    CHECK(opened > 75 && opened < 300, "%d of 300 opened", opened);
    CHECK(most <= 2 * size, "%zu bytes taken for a file of %zu", most, size);
}

static int copy_shipped(void) {
    static uint8_t data[1 << 22];
    FILE *in = fopen(shipped, "rb"), *out = fopen(copy_path, "wb");
    size_t n = in ? fread(data, 1, sizeof data, in) : 0;
    int ok = CHECK(n && out && fwrite(data, 1, n, out) == n, "%s not written", copy_path);
    if (in) fclose(in);
    if (out) fclose(out);
    return ok;
}

int main(void) {
    snprintf(path, sizeof path, "/tmp/gqa-test-%ld.alloc", (long)getpid());
    if (access(shipped, R_OK)) test_skip("allocation failures", "no models/stories-gqa.gguf here");
    else {
        test_token_loop();
        test_header_bound();
        sweep("a model in use", use_model);
        sweep("convert", use_convert);
        snprintf(copy_path, sizeof copy_path, "/tmp/gqa-test-%ld.alloc.gguf", (long)getpid());
        snprintf(packed_path, sizeof packed_path, "%s.packed", copy_path);
        if (copy_shipped()) sweep("packed weights", use_packed);
        unlink(packed_path);
        unlink(copy_path);
    }
    if ((llama2c_model = test_data("models/stories260K.bin")) && (llama2c_tokenizer = test_data("models/tok512.bin"))) sweep("a llama2.c checkpoint", use_llama2c);
    make_bytes_vocab();
    sweep("tokens of a text of spaces", use_tokens);
    free(bytes_vocab);
    sweep("a batch", use_batch);
    sweep("train", use_train);
    unlink(path);
    return test_end();
}
