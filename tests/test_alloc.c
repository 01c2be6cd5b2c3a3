/* test_alloc.c: every allocation fails once: opening, tokenizing, sessions, evaluation, generation, saving, loading, conversion and
 * training each end with an error value and give back all they took. The linker puts the functions below in place of the real ones
 * (--wrap, see the Makefile); the address sanitizer's run shows what is not given back, and so does the count kept here. */
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
static char path[128];

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

int main(void) {
    snprintf(path, sizeof path, "/tmp/gqa-test-%ld.alloc", (long)getpid());
    if (access(shipped, R_OK)) test_skip("allocation failures", "no models/stories-gqa.gguf here");
    else {
        test_token_loop();
        test_header_bound();
        sweep("a model in use", use_model);
        sweep("convert", use_convert);
    }
    sweep("a batch", use_batch);
    sweep("train", use_train);
    unlink(path);
    return test_end();
}
