/* test_alloc.c: every allocation fails once: opening, tokenizing, sessions, evaluation,
 * generation, saving, loading, conversion and training each end with an error value and free all
 * they allocated. The linker puts the functions below in place of the real ones (--wrap, see the
 * Makefile); the address sanitizer shows what is not freed, and so does a count here. */
#include "../formats/formats.h"
#include "../formats/gguf.h"
#include "test.h"

#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../base/hash.h"
#include "../chat/jinja.h"
#include "../convert/convert.h"
#include "../train/train.h"

#ifdef __GLIBC__ /* its mmap with offsets of 64 bits */
#define __real_mmap __real_mmap64
#define __wrap_mmap __wrap_mmap64
#endif

#ifdef GQA_STATIC
enum { LIBC_FAILS = 1 };        /* the C library's own allocations are wrapped too */
#else
enum { LIBC_FAILS = 0 };
#endif

static long calls;              /* allocations asked for */
static long countdown = -1;     /* of them until one fails; negative: none */
static int failed_once;
static long n_live;             /* blocks and mappings not freed yet */
static size_t live_bytes, peak; /* their bytes now, and the most there were */

static void *allocated(void *p, size_t n) {
    calls++;
    n_live += p != NULL;
    live_bytes += p ? n : 0;
    if (live_bytes > peak) peak = live_bytes;
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
    return allocated(p, malloc_usable_size(p));
}
void *__wrap_calloc(size_t n, size_t m) {
    void *p = fails() ? NULL : __real_calloc(n, m);
    return allocated(p, malloc_usable_size(p));
}
void *__wrap_realloc(void *old, size_t n) {
    if (fails()) return NULL;
    live_bytes -= malloc_usable_size(old);
    n_live -= old != NULL;
    void *p = __real_realloc(old, n);
    void *kept = p ? p : old;
    allocated(kept, malloc_usable_size(kept));
    return p;
}
void *__wrap_aligned_alloc(size_t a, size_t n) {
    void *p = fails() ? NULL : __real_aligned_alloc(a, n);
    return allocated(p, malloc_usable_size(p));
}
void *__wrap_mmap(void *at, size_t n, int prot, int flags, int fd, off_t offset) {
    void *p = fails() ? MAP_FAILED : __real_mmap(at, n, prot, flags, fd, offset);
    return p == MAP_FAILED ? p : allocated(p, n);
}
void __wrap_free(void *p) {
    n_live -= p != NULL;
    live_bytes -= malloc_usable_size(p);
    __real_free(p);
}
int __wrap_munmap(void *p, size_t n) {
    n_live--;
    live_bytes -= n;
    return __real_munmap(p, n);
}

static const char twin[] = "tests/models/stories-gqa.gguf";
static char out_path[TEST_PATH], copy_path[TEST_PATH];
static char packed_path[TEST_PATH + 12]; /* beside the copy */

/* What a use has computed or written, as a hash: the same in every run that ends with 0. */
static uint64_t output;

static void output_bytes(const void *data, size_t size) { output = gqa_hash(output, data, size); }

static void output_logits(const gqa_session *s) {
    size_t n = (size_t)gqa_model_config(gqa_session_model(s))->vocab_size;
    output_bytes(gqa_session_logits(s), n * sizeof(float));
}

static void output_file(const char *path) {
    static uint8_t data[1 << 22];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(data, 1, sizeof data, f) : 0;
    if (f) fclose(f);
    CHECK(n > 0 || LIBC_FAILS, "%s: nothing written", path);
    output_bytes(data, n);
}

static int output_text(void *user, const char *text, size_t len) {
    (void)user;
    output_bytes(text, len);
    return 0;
}

/* ---- what is done with the library ------------------------------------------------------- */

/* Each returns 0 or the status of what failed. */
static int use_model(gqa_error *err) {
    gqa_model *m = gqa_model_open(twin, NULL, err);
    gqa_session_options so = {.context = 48, .n_threads = 2};
    gqa_sampler_options sampling = {.temperature = 0.8f, .top_k = 20, .top_p = 0.9f,
                                    .repeat_penalty = 1.1f};
    gqa_generate_options go = {.max_tokens = 6, .stop = (const char *[]){"zebra"}, .n_stop = 1};
    gqa_session *s = m ? gqa_session_new(m, &so, err) : NULL;
    gqa_sampler *sampler = s ? gqa_sampler_new(&sampling, err) : NULL;
    static const char prompt[] = "Once upon a time, a long <s> way";
    int status = sampler ? 0 : -1;
    if (!status) status = gqa_generate(s, sampler, prompt, &go, output_text, NULL, NULL, err);
    if (!status) status = gqa_session_save(s, out_path, err);
    if (!status) status = gqa_session_load(s, out_path, err);
    if (!status) output_logits(s);
    gqa_sampler_free(sampler);
    gqa_session_free(s);
    gqa_model_close(m);
    return status;
}

static int use_batch(gqa_error *err) {
    gqa_config c = {.dim = 32, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 16,
                    .ffn_dim = 32, .vocab_size = 40, .context_length = 64};
    gqa_model *m = gqa_model_random(&c, GQA_TYPE_Q8_0, 1, NULL, err);
    gqa_session_options so = {.n_threads = 1};
    gqa_session *s[2] = {m ? gqa_session_new(m, &so, err) : NULL, NULL};
    if (s[0]) s[1] = gqa_session_new(m, &so, err);
    static float logits[3 * 40];
    int status = s[1] ? gqa_sessions_eval_many(s, 2, (int32_t[]){1, 2, 3}, (int[]){2, 1}, err) : -1;
    if (!status) status = gqa_session_eval_all(s[0], (int32_t[]){1, 2, 3}, 3, logits, err);
    if (!status) output_logits(s[1]);
    if (!status) output_bytes(logits, sizeof logits);
    gqa_session_free(s[0]);
    gqa_session_free(s[1]);
    gqa_model_close(m);
    return status;
}

static int use_convert(gqa_error *err) {
    const gqa_config shape = {.dim = 32, .n_layers = 2, .n_heads = 4, .n_kv_heads = 4,
                              .head_dim = 8, .ffn_dim = 32, .vocab_size = 40};
    gqa_checkpoint c = {0};
    gqa_convert_options o = {.kv_heads = 1, .pool = GQA_POOL_ALIGNED, .type = GQA_TYPE_F16};
    int status = gqa_checkpoint_random(&c, &shape, GQA_TYPE_F32, 1, err);
    if (!status) status = gqa_convert(&c, &o, out_path, NULL, NULL, err);
    if (!status) output_file(out_path);
    gqa_checkpoint_free(&c);
    return status;
}

static gqa_trainer *train_one_step(const gqa_vocab *v, const gqa_dataset *d, gqa_error *err) {
    gqa_config c = {.dim = 16, .n_layers = 1, .n_heads = 2, .n_kv_heads = 1, .head_dim = 8,
                    .ffn_dim = 16, .vocab_size = gqa_vocab_count(v), .context_length = 8,
                    .tied_embeddings = 1};
    gqa_train_options o = {.steps = 1, .batch = 1, .n_threads = 1};
    gqa_step_result r;
    gqa_trainer *t = gqa_trainer_new(&c, &o, err);
    if (!t || gqa_trainer_step(t, d, &r, err) == 0) return t;
    gqa_trainer_free(t);
    return NULL;
}

static int use_train(gqa_error *err) {
    static const char text[] = "the cat sat on the mat and the cat ran to the hat and the dog sat "
                               "on the cat and the mat";
    gqa_vocab *v = NULL;
    gqa_dataset d = {0};
    gqa_trainer *t = NULL;
    int status = gqa_bpe_train(&v, text, sizeof text - 1, 300, err);
    if (!status) status = gqa_dataset_add(&d, v, text, sizeof text - 1, err);
    if (!status && !(t = train_one_step(v, &d, err))) status = -1;
    if (!status) status = gqa_trainer_export(t, v, GQA_TYPE_F16, NULL, out_path, err);
    if (!status) output_file(out_path);
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
    gqa_vocab_free(v);
    return status;
}

/* A SentencePiece vocabulary of <unk>, <s>, </s>, 256 bytes and two letters, without weights. No
 * token holds a space. */
static uint8_t *bytes_vocab;
static size_t bytes_vocab_size;
static void make_bytes_vocab(void) {
    enum { N = 261 };
    static char names[N][8];
    gqa_bytes tokens[N];
    float scores[N];
    int32_t types[N];
    gqa_error err = {0};
    for (int i = 0; i < N; i++) {
        const char *format = i < 3 ? "<%d>" : i < 259 ? "<0x%02X>" : "%c";
        snprintf(names[i], sizeof names[i], format, i < 3 ? i : i < 259 ? i - 3 : 'a' + i - 259);
        tokens[i] = (gqa_bytes){names[i], strlen(names[i])};
        scores[i] = (float)-i;
        types[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
    }
    gguf_writer *w = gguf_writer_new(NULL, &err);
    gguf_put_string(w, "general.architecture", "llama", 5);
    gguf_put_string(w, "tokenizer.ggml.model", "llama", 5);
    gguf_put_strings(w, "tokenizer.ggml.tokens", tokens, N);
    gguf_put_array(w, "tokenizer.ggml.scores", GGUF_F32, scores, N);
    gguf_put_array(w, "tokenizer.ggml.token_type", GGUF_I32, types, N);
    int status = gguf_finish_memory(w, &bytes_vocab, &bytes_vocab_size, &err);
    CHECK(status == 0, "%s", err.message);
}

/* A space is three bytes of U+2581, each a token: an array of len + 3 ids is too small. */
static int use_tokens(gqa_error *err) {
    static const char text[] = "a         b          ";
    static const int expected = 1 + 2 + 3 * (int)(sizeof text - 2); /* with a space put before */
    int32_t *ids = NULL;
    gqa_model *m = gqa_model_from_memory(bytes_vocab, bytes_vocab_size, NULL, err);
    long before = calls;
    int n = m ? gqa_tokenize_new(m, text, sizeof text - 1, GQA_TOKENIZE_BOS, &ids, err) : -1;
    if (n >= 0 && CHECK(ids != NULL, "%d tokens, but no array of them", n)) {
        static const int32_t start[] = {1, 3 + 0xE2, 3 + 0x96, 3 + 0x81, 259, 3 + 0xE2, 3 + 0x96};
        CHECK(n == expected && !memcmp(ids, start, sizeof start), "%d tokens, or others", n);
        CHECK(calls - before >= 4, "one round of %ld allocations", calls - before);
        output_bytes(ids, sizeof *ids * (size_t)n);
    }
    CHECK(n >= 0 || !ids, "tokens in spite of an error");
    gqa_free(ids);
    gqa_model_close(m);
    return n < 0 ? n : 0;
}

/* A chat template that needs more than one block of memory. */
static int use_template(gqa_error *err) {
    static const char messages[] = "[{\"role\": \"user\", \"content\": \"a, b\", \"n\": 1.5}]";
    static const char source[] =
        "{% macro m(x, y=2) %}{{ x|upper }}{{ y }}{% endmacro %}"
        "{% for x in range(100) %}{{ messages[0].content.split(', ') }}{{ m(x) }}{% endfor %}"
        "{{ messages|tojson(indent=2) }}{{ ('a' * 9999)|replace('a', 'bc')|length }}"
        "{% for k, v in messages[0]|dictsort %}{{ k|title ~ v }}{% endfor %}{{ '7'|int }}";
    gqa_json json;
    gqa_jinja_output out = {0};
    int status = gqa_json_parse(&json, messages, sizeof messages - 1, err);
    const gqa_jinja_variable variable = {.name = "messages", .json = json.nodes};
    if (!status)
        status = gqa_jinja_render(source, sizeof source - 1, &variable, 1, NULL, &out, err);
    CHECK(status == 0 || !out.text, "a text in spite of an error");
    if (!status) output_bytes(out.text, out.len);
    if (!status) output_bytes(out.is_content, out.len);
    gqa_jinja_output_free(&out);
    gqa_json_free(&json);
    return status;
}

/* Writes the repacked weights of a copy, then opens it again with them beside it. */
static int use_packed(gqa_error *err) {
    gqa_model_options mo = {.n_threads = 1};
    unlink(packed_path);
    gqa_model *m = gqa_model_open(copy_path, &mo, err);
    int status = m ? gqa_model_save_packed(m, packed_path, err) : -1;
    gqa_model_close(m);
    if (status) return status;
    m = gqa_model_open(copy_path, &mo, err);
    if (!m) return -1;
    uint64_t in_memory = gqa_model_get_stats(m)->packed_bytes;
    CHECK(in_memory == 0 || failed_once, "repacked in memory in spite of the file");
    gqa_session *s = gqa_session_new(m, &(gqa_session_options){.context = 8, .n_threads = 1}, err);
    status = s ? gqa_session_eval(s, (int32_t[]){1, 300, 17}, 3, err) : -1;
    if (!status) output_logits(s);
    gqa_session_free(s);
    gqa_model_close(m);
    return status;
}

static const char *llama2c_model, *llama2c_tokenizer;
static int use_llama2c(gqa_error *err) {
    gqa_model_options mo = {.tokenizer_path = llama2c_tokenizer, .n_threads = 1};
    gqa_session_options so = {.context = 16, .n_threads = 1};
    gqa_model *m = gqa_model_open(llama2c_model, &mo, err);
    gqa_session *s = m ? gqa_session_new(m, &so, err) : NULL;
    int32_t *ids = NULL;
    int n = s ? gqa_tokenize_new(m, "Once upon a time", 16, GQA_TOKENIZE_BOS, &ids, err) : -1;
    int status = n < 0 ? n : gqa_session_eval(s, ids, n, err);
    if (!status) output_logits(s);
    gqa_free(ids);
    gqa_session_free(s);
    gqa_model_close(m);
    return status;
}

/* ---- checks ------------------------------------------------------------------------------ */

/* Every allocation of a use fails in turn: it ends with an error, or, in max_survived cases that
 * the caller names, with the output of a run without failure. */
static void sweep(int (*use)(gqa_error *err), int max_survived) {
    gqa_error err = {0};
    if (!CHECK(use(&err) == 0, "%s", err.message)) return; /* OpenMP allocates what it keeps */
    int survived = 0;
    output = 0;
    use(&err);
    uint64_t good = output;
    for (long n = 0;; n++) {
        long before = n_live;
        err = (gqa_error){0};
        output = 0;
        failed_once = 0;
        countdown = n;
        int status = use(&err);
        countdown = -1;
        long kept = n_live - before;
        CHECK(kept == 0, "allocation %ld failed, %ld blocks were not freed", n, kept);
        CHECK(status || output == good || LIBC_FAILS, "allocation %ld: another output", n);
        if (!failed_once) break;
        if (status == 0) survived++;
        else CHECK(err.code < 0 && err.message[0], "allocation %ld: %d, no message", n, status);
    }
    if (LIBC_FAILS)
        test_skip(test.name, "in a static program the C library's own allocations fail, unnoticed");
    else
        CHECK(survived <= max_survived, "%d failed allocations were not noticed", survived);
}

/* Generating calls the allocator for the prompt, and not again from the first token to the last. */
static int record_calls(void *user, const char *text, size_t len) {
    long *seen = user; /* [0] at the first text, [1] at the last */
    (void)text;
    (void)len;
    if (!seen[0]) seen[0] = calls;
    seen[1] = calls;
    return 0;
}
static void test_token_loop(void) {
    gqa_error err = {0};
    gqa_session_options so = {.context = 250, .n_threads = 2};
    gqa_generate_options go = {.max_tokens = 200, .ignore_end = 1};
    gqa_sampler_options sampling = {.temperature = 0.9f, .top_k = 40, .top_p = 0.9f, .min_p = 0.01f,
                                    .repeat_penalty = 1.1f, .seed = 3};
    gqa_model *m = gqa_model_open(twin, NULL, &err);
    gqa_session *s = m ? gqa_session_new(m, &so, &err) : NULL;
    gqa_sampler *sampler = gqa_sampler_new(&sampling, &err);
    gqa_generate_result r = {0};
    long seen[2] = {0};
    int status = -1;
    if (s && sampler)
        status = gqa_generate(s, sampler, "Once upon a time", &go, record_calls, seen, &r, &err);
    int n = r.generated_tokens;
    CHECK(status == 0 && n == 200, "%s: %d tokens", err.message, n);
    CHECK(seen[0] > 0 && seen[0] == seen[1], "%ld allocations from first to last of 200 tokens",
          seen[1] - seen[0]);
    gqa_sampler_free(sampler);
    gqa_session_free(s);
    gqa_model_close(m);
}

/* Changes 0 to 3 numbers of the metadata or the tensors' descriptions, of 1, 4 and 8 bytes. */
static void damage_header(uint8_t *file, int round, uint64_t *seed) {
    static const size_t sizes[] = {1, 4, 8};
    for (int k = 0; k < round % 4; k++) {
        uint64_t value = test_random_bits(seed) >> test_random_bits(seed) % 64;
        size_t at = test_random_bits(seed) % (round & 4 ? 400 : 45000);
        memcpy(file + at, &value, sizes[k]);
    }
}

/* Whatever a header says, opening allocates at most twice the file's size. */
static void test_header_bound(void) {
    static uint8_t good[1 << 22], bad[1 << 22];
    FILE *f = fopen(twin, "rb");
    size_t size = f ? fread(good, 1, sizeof good, f) : 0, most = 0;
    if (f) fclose(f);
    uint64_t seed = 5;
    int opened = 0;
    for (int i = 0; i < 300; i++) {
        memcpy(bad, good, size);
        damage_header(bad, i, &seed);
        size_t before = peak = live_bytes;
        gqa_error err = {0};
        gqa_model_options o = {.n_threads = 1};
        gqa_model *m = gqa_model_from_memory(bad, size, &o, &err);
        most = max_size(most, peak - before);
        opened += m != NULL;
        gqa_model_close(m);
    }
    CHECK(opened > 75 && opened < 300, "%d of 300 opened", opened);
    CHECK(most <= 2 * size, "%zu bytes allocated for a file of %zu", most, size);
}

static int copy_twin(void) {
    static uint8_t data[1 << 22];
    FILE *in = fopen(twin, "rb"), *out = fopen(copy_path, "wb");
    size_t n = in ? fread(data, 1, sizeof data, in) : 0;
    int ok = CHECK(n && out && fwrite(data, 1, n, out) == n, "%s not written", copy_path);
    if (in) fclose(in);
    if (out) fclose(out);
    return ok;
}

static void test_twin_model(void) {
    TEST("the token loop does not allocate") test_token_loop();
    TEST("a header cannot ask for more than the file") test_header_bound();
    TEST("a model in use") sweep(use_model, 0);
    TEST("convert") sweep(use_convert, 0);
    TEST("packed weights") {
        if (copy_twin()) sweep(use_packed, 1); /* PATH.packed not mapped: repacked in memory */
        unlink(packed_path);
        unlink(copy_path);
    }
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    test_path(out_path, "alloc");
    test_path(copy_path, "alloc.gguf");
    snprintf(packed_path, sizeof packed_path, "%s.packed", copy_path);
    if (access(twin, R_OK)) test_skip("allocation failures", "no model in tests/models");
    else test_twin_model();
    llama2c_model = test_data("models/stories260K.bin");
    llama2c_tokenizer = llama2c_model ? test_data("models/tok512.bin") : NULL;
    if (llama2c_tokenizer)
        TEST("a llama2.c checkpoint") sweep(use_llama2c, 0);
    TEST("tokens of a text of spaces") {
        make_bytes_vocab();
        sweep(use_tokens, 0);
        free(bytes_vocab);
    }
    TEST("a batch") sweep(use_batch, 0);
    TEST("a chat template") sweep(use_template, 0);
    TEST("train") sweep(use_train, 1); /* the realloc of train/dataset.c that only shrinks */
    unlink(out_path);
    return test_end();
}
