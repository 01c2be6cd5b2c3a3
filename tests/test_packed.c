/* test_packed.c: repacked weights in a file: mapped when they are this model's, made again when
 * they are not; cancelling a load. */
#include "test.h"

#include <time.h>
#include <unistd.h>

#include "../base/hash.h"
#include "../weights/model_internal.h"

static const char other_model[] = "tests/models/stories-mha.gguf"; /* with most sizes the same */
static char model_path[TEST_PATH], packed_path[TEST_PATH + 12];
static uint8_t model[1 << 22], packed[1 << 22];
static size_t packed_size;
static float *logits; /* [vocab_size] of the model repacked in memory */

static void write_file(const char *path, const uint8_t *data, size_t size) {
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size) CHECK(0, "%s not written", path);
    if (f) fclose(f);
}
static size_t read_file(const char *path, uint8_t *data, size_t capacity) {
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(data, 1, capacity, f) : 0;
    if (f) fclose(f);
    return n;
}

static int save_packed_of(const char *path, const gqa_model_options *o, const char *out,
                          gqa_error *err) {
    gqa_model *m = gqa_model_open(path, o, err);
    int status = m ? gqa_model_save_packed(m, out, err) : -1;
    gqa_model_close(m);
    return status;
}

/* Writes the model's panels to packed_path and reads the file. */
static void save_packed(void) {
    gqa_error err = {0};
    CHECK(save_packed_of(model_path, NULL, packed_path, &err) == 0, "%s", err.message);
    packed_size = read_file(packed_path, packed, sizeof packed);
}

/* Opens the model: whether its packed weights came from the file, and whether it computes the
 * same logits (which are kept the first time). */
static void check_opens(const char *what, int mapped) {
    static const int32_t tokens[12] = {1, 300, 17, 290, 5, 400, 333, 20, 299, 301, 512, 44};
    gqa_error err = {0};
    gqa_model *m = gqa_model_open(model_path, NULL, &err);
    gqa_session *s = m ? gqa_session_new(m, &(gqa_session_options){.context = 32}, &err) : NULL;
    int status = s ? gqa_session_eval(s, tokens, 12, &err) : -1;
    if (!CHECK(status == 0, "%s: %s", what, err.message)) return;
    unsigned long long in_memory = gqa_model_get_stats(m)->packed_bytes;
    size_t size = sizeof(float) * (size_t)gqa_model_config(m)->vocab_size;
    CHECK((in_memory == 0) == mapped, "%s: %llu bytes in memory", what, in_memory);
    if (!logits) logits = memcpy(malloc(size), gqa_session_logits(s), size);
    CHECK(!memcmp(logits, gqa_session_logits(s), size), "%s: other logits", what);
    gqa_session_free(s);
    gqa_model_close(m);
}

static void test_saved(size_t model_size) {
    save_packed();
    CHECK(packed_size > model_size / 2, "%zu bytes written", packed_size);
    check_opens("with its file", 1);
}

/* A file's pages that the process holds; -1: unknown. */
static long mapped_kib(const char *path) {
    char line[512];
    long kib = -1;
    int is_it = 0;
    FILE *f = fopen("/proc/self/smaps", "r");
    while (f && kib < 0 && fgets(line, sizeof line, f)) {
        is_it |= strstr(line, path) != NULL;
        if (is_it) sscanf(line, "Rss: %ld", &kib);
    }
    if (f) fclose(f);
    return kib;
}

/* Pages that are packed leave the process; those of an array in memory must not, which would clear
 * it. */
static void test_released(size_t model_size) {
    gqa_model *from_file = gqa_model_open(model_path, NULL, NULL);
    gqa_model *from_memory = gqa_model_from_memory(model, model_size, NULL, NULL);
    long kib = mapped_kib(model_path), all = (long)(model_size / 1024);
    CHECK(kib < all / 4, "%ld KiB of %ld are in memory twice", kib, all);
    CHECK(from_file && from_memory && memcmp(from_file->packed, from_memory->packed,
                                             from_file->packed_bytes) == 0, "other weights");
    gqa_model_close(from_file);
    gqa_model_close(from_memory);
}

static void test_damaged(void) {
    static const size_t at[] = {0, 7, 8, 15, 16, 23, 24, 4095};
    const size_t lengths[] = {0, 8, 4096, packed_size - 1};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        packed[at[i]] ^= 1;
        write_file(packed_path, packed, packed_size);
        check_opens("a damaged header", 0);
        packed[at[i]] ^= 1;
    }
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        write_file(packed_path, packed, lengths[i]);
        check_opens("truncated", 0);
    }
    unlink(packed_path);
    CHECK(test_mkdir(packed_path) == 0, "%s not made", packed_path);
    check_opens("a directory", 0);
    rmdir(packed_path);
}

static void test_other_model(void) {
    gqa_error err = {0};
    CHECK(save_packed_of(other_model, NULL, packed_path, &err) == 0, "%s", err.message);
    check_opens("another model's", 0);
    unlink(packed_path);
}

/* Whether the model at model_path takes its panels from the file. */
static int opens_mapped(void) {
    gqa_model *m = gqa_model_open(model_path, NULL, NULL);
    int mapped = m && gqa_model_get_stats(m)->packed_bytes == 0;
    CHECK(m != NULL, "not opened");
    gqa_model_close(m);
    return mapped;
}

static int verify(gqa_error *err) {
    gqa_model *m = gqa_model_open(model_path, &(gqa_model_options){.no_repack = 1}, err);
    int status = m ? gqa_model_verify_packed(m, model_path, err) : -1;
    gqa_model_close(m);
    return status;
}

/* Another weight, or key, under the same name, size and time: the content decides. Damaged panels
 * are found when they are looked at: after the model's file has changed, and when asked. */
static void test_changed_model(size_t size) {
    gqa_error err = {0};
    struct timespec tick = {0, 20000000}; /* so that the file's time differs */
    uint8_t *eps = NULL;
    for (size_t i = 0; i + 8 < 4096 && !eps; i++)
        if (!memcmp(model + i, "rms_epsilon", 11)) eps = model + i + 15;
    uint8_t *const changed[] = {model + size - 5000, eps + 3, model + 200000};
    save_packed();
    CHECK(opens_mapped() && verify(&err) == 0, "its own: %s", err.message);
    for (int i = 0; i < 3; i++) {
        nanosleep(&tick, NULL);
        *changed[i] ^= 1;
        write_file(model_path, model, size);
        CHECK(!opens_mapped(), "change %d: the old panels are taken", i);
        CHECK(verify(&err) == GQA_ERR_FORMAT, "change %d: verified", i);
        CHECK_HAS(err.message, "of another model");
        *changed[i] ^= 1;
        write_file(model_path, model, size);
        CHECK(opens_mapped(), "change %d taken back: not mapped", i);
    }
    packed[packed_size / 2] ^= 1;
    write_file(packed_path, packed, packed_size);
    CHECK(!opens_mapped(), "damaged panels are taken for a file that was written again");
    CHECK(verify(&err) == GQA_ERR_FORMAT, "damaged panels: verified");
    CHECK_HAS(err.message, ".packed: damaged panels");
    save_packed();
    packed[packed_size / 2] ^= 1;
    write_file(packed_path, packed, packed_size);
    CHECK(opens_mapped(), "panels of an unchanged file are read while opening");
    CHECK(verify(&err) == GQA_ERR_FORMAT, "damaged panels: verified");
    unlink(packed_path);
}

/* Saved again while the panels are mapped, for a model's file that is newer than they: the file at
 * PATH.packed is then trusted, so that nothing reads its panels, damaged or not. */
static void test_saved_again(size_t size) {
    gqa_error err = {0};
    struct timespec tick = {0, 20000000};
    save_packed();
    nanosleep(&tick, NULL);
    write_file(model_path, model, size);
    gqa_model *m = gqa_model_open(model_path, NULL, &err);
    CHECK(m && gqa_model_get_stats(m)->packed_bytes == 0, "the newer file: not mapped");
    CHECK(m && gqa_model_save_packed(m, packed_path, &err) == 0, "%s", err.message);
    gqa_model_close(m);
    FILE *f = fopen(packed_path, "rb");
    CHECK(f && fread(packed, 1, packed_size, f) == packed_size, "another size");
    if (f) fclose(f);
    packed[packed_size / 2] ^= 1;
    write_file(packed_path, packed, packed_size);
    CHECK(opens_mapped(), "panels of the newer file are read while opening");
    unlink(packed_path);
}

/* The hash of weights changes with every bit, with the order of words and with the length. */
static void test_hash(void) {
    enum { SIZE = 77 };
    uint8_t data[SIZE], zeros[SIZE] = {0};
    uint64_t seed = 5;
    for (int i = 0; i < SIZE; i++) data[i] = (uint8_t)test_random_bits(&seed);
    uint64_t whole = gqa_hash_lanes(1, data, SIZE);
    for (int bit = 0; bit < 8 * SIZE; bit++) {
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK(gqa_hash_lanes(1, data, SIZE) != whole, "bit %d does not count", bit);
        data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (int n = 0; n < SIZE; n++) {
        CHECK(gqa_hash_lanes(1, data, (size_t)n) != whole, "%d bytes hash like all", n);
        CHECK(gqa_hash_lanes(1, zeros, (size_t)n) != gqa_hash_lanes(1, zeros, SIZE), "%d zeros", n);
    }
    for (int word = 1; word < 8; word++) {
        uint8_t swapped[SIZE];
        memcpy(swapped, data, SIZE);
        memcpy(swapped, data + 8 * word, 8);
        memcpy(swapped + 8 * word, data, 8);
        CHECK(gqa_hash_lanes(1, swapped, SIZE) != whole, "words 0 and %d swapped", word);
    }
}

/* Scratch for activations is counted in 64 bits, also where a size has 32. */
static void test_large_acts(void) {
    uint64_t bytes = gqa_acts_bytes(1 << 20, 8192);
    CHECK(bytes > (uint64_t)8192 << 20, "%llu bytes", (unsigned long long)bytes);
}

/* A matrix of few rows would be mostly padding: it stays as it is. */
static void test_thin_matrices(void) {
    gqa_config c = {.dim = 256, .n_layers = 2, .n_heads = 2, .n_kv_heads = 1, .head_dim = 2,
                    .ffn_dim = 1, .vocab_size = 16, .context_length = 32};
    gqa_error err = {0};
    gqa_model *m = gqa_model_random(&c, GQA_TYPE_F32, 1, NULL, &err);
    if (!CHECK(m != NULL, "%s", err.message)) return;
    const gqa_model_stats *s = gqa_model_get_stats(m);
    CHECK(s->packed_bytes > 0 && s->packed_bytes < 2 * s->weight_bytes,
          "%llu bytes of panels for %llu", (unsigned long long)s->packed_bytes,
          (unsigned long long)s->weight_bytes);
    gqa_model_close(m);
}

static void test_save_refused(void) {
    gqa_error err = {0};
    gqa_model_options no_repack = {.no_repack = 1};
    int status = save_packed_of(model_path, &no_repack, packed_path, &err);
    CHECK(status == GQA_ERR_ARGUMENT, "nothing to save: status %d", status);
    CHECK_HAS(err.message, "no repacked weights");
    status = save_packed_of(model_path, NULL, "/nonexistent/x", &err);
    CHECK(status == GQA_ERR_IO, "no directory: status %d", status);
}

/* Loading calls on_progress with rising shares, and stops when it says so. */
typedef struct progress {
    int calls, stop_at, falls;
    double last;
} progress;
static int on_progress(void *user, double done) {
    progress *p = user;
    p->falls += done < p->last || done > 1;
    p->last = done;
    return ++p->calls == p->stop_at;
}
static void test_cancel(void) {
    gqa_error err = {0};
    progress all = {0};
    gqa_model_options o = {.on_progress = on_progress, .user = &all, .n_threads = 1};
    gqa_model *m = gqa_model_open(other_model, &o, &err);
    CHECK(m && all.calls > 3 && all.last >= 1 && all.falls == 0,
          "%d calls, the last with %g, %d falls", all.calls, all.last, all.falls);
    gqa_model_close(m);
    for (int i = 1; i <= all.calls; i++) {
        progress p = {.stop_at = i};
        o.user = &p;
        err.code = 0;
        m = gqa_model_open(other_model, &o, &err);
        CHECK(!m && err.code == GQA_ERR_CANCELLED && p.calls == i,
              "stopped at call %d of %d: code %d after %d", i, all.calls, err.code, p.calls);
        gqa_model_close(m);
    }
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    size_t size = read_file("tests/models/stories-gqa.gguf", model, sizeof model);
    if (!size) {
        test_skip("packed weights", "no tests/models/stories-gqa.gguf here");
        return test_end();
    }
    test_path(model_path, "packed.gguf");
    snprintf(packed_path, sizeof packed_path, "%s.packed", model_path);
    write_file(model_path, model, size);
    TEST("the hash of weights") test_hash();
    TEST("without a file") check_opens("without a file", 0);
    TEST("what is packed leaves memory") test_released(size);
    TEST("a saved file is mapped, a damaged one left alone") {
        test_saved(size);
        if (packed_size) test_damaged();
    }
    TEST("another model's file is left alone") test_other_model();
    TEST("a changed model's file is left alone") test_changed_model(size);
    TEST("saved again while it is mapped") test_saved_again(size);
    TEST("large activations") test_large_acts();
    TEST("matrices of few rows") test_thin_matrices();
    TEST("saving is refused") test_save_refused();
    unlink(packed_path);
    unlink(model_path);
    TEST("cancelling a load") test_cancel();
    free(logits);
    return test_end();
}
