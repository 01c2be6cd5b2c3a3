/* test_packed.c: repacked weights in a file: mapped when they are this model's, made anew when they are not. */
#include "test.h"

#include <sys/stat.h>
#include <unistd.h>

#include "../model.h"

static char model_path[128], packed_path[140];

static void write_file(const char *path, const uint8_t *data, size_t size) {
    FILE *f = fopen(path, "wb");
    CHECK(f && fwrite(data, 1, size, f) == size, "%s not written", path);
    if (f) fclose(f);
}
static size_t read_file(const char *path, uint8_t *data, size_t room) {
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(data, 1, room, f) : 0;
    if (f) fclose(f);
    return n;
}

/* Opens the model; whether its packed weights came from the file; and they compute what logits says. */
static void check_open(const char *what, int mapped, float *logits, int first) {
    static const int32_t tokens[12] = {1, 300, 17, 290, 5, 400, 333, 20, 299, 301, 512, 44};
    gqa_error err = {0};
    gqa_model_stats stats;
    gqa_model *m = gqa_model_open(model_path, NULL, &err);
    gqa_session *s = m ? gqa_session_new(m, &(gqa_session_options){.context = 32}, &err) : NULL;
    if (!CHECK(s && gqa_session_eval(s, tokens, 12, &err) == 0, "%s: %s", what, err.message)) return;
    stats = *gqa_model_get_stats(m);
    size_t bytes = sizeof(float) * (size_t)gqa_model_config(m)->vocab_size;
    CHECK((stats.packed_bytes == 0) == mapped, "%s: %llu bytes in memory", what, (unsigned long long)stats.packed_bytes);
    if (first) memcpy(logits, gqa_session_logits(s), bytes);
    else CHECK(!memcmp(logits, gqa_session_logits(s), bytes), "%s: other logits", what);
    if (first) CHECK(gqa_model_save_packed(m, packed_path, &err) == 0, "%s", err.message);
    gqa_session_free(s);
    gqa_model_close(m);
}

/* Loading asks on_progress, with rising shares, and stops when it says so. */
typedef struct asked {
    int calls, stop_at, falls;
    double last;
} asked;
static int on_progress(void *user, double done) {
    asked *a = user;
    a->falls += done < a->last || done > 1;
    a->last = done;
    return ++a->calls == a->stop_at;
}
static void test_cancel(void) {
    gqa_error err = {0};
    asked all = {0};
    gqa_model *m = gqa_model_open("models/stories-mha.gguf", &(gqa_model_options){.on_progress = on_progress, .user = &all, .n_threads = 1}, &err);
    CHECK(m && all.calls > 3 && all.last >= 1 && all.falls == 0, "%d calls, the last with %g, %d falls", all.calls, all.last, all.falls);
    gqa_model_close(m);
    for (int i = 1; i <= all.calls; i++) {
        asked a = {.stop_at = i};
        err.code = 0;
        m = gqa_model_open("models/stories-mha.gguf", &(gqa_model_options){.on_progress = on_progress, .user = &a, .n_threads = 1}, &err);
        CHECK(!m && err.code == GQA_ERR_CANCELLED && a.calls == i, "stopped at call %d of %d: code %d after %d", i, all.calls, err.code, a.calls);
        gqa_model_close(m);
    }
}

int main(void) {
    static uint8_t model[1 << 22], packed[1 << 22];
    static float logits[1 << 16];
    gqa_error err = {0};
    size_t size = read_file("models/stories-gqa.gguf", model, sizeof model);
    if (!size) return test_skip("packed weights", "no models/stories-gqa.gguf here"), test_end();
    snprintf(model_path, sizeof model_path, "/tmp/gqa-test-%ld.gguf", (long)getpid());
    snprintf(packed_path, sizeof packed_path, "%s.packed", model_path);
    write_file(model_path, model, size);
    check_open("without a file", 0, logits, 1);
    size_t n = read_file(packed_path, packed, sizeof packed);
    CHECK(n > size / 2, "%zu bytes written", n);
    check_open("with its file", 1, logits, 0);
    const size_t at[] = {0, 7, 8, 15, 16, 23, 24, 4095};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        packed[at[i]] ^= 1;
        write_file(packed_path, packed, n);
        check_open("a damaged header", 0, logits, 0);
        packed[at[i]] ^= 1;
    }
    const size_t lengths[] = {0, 8, 4096, n - 1};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        write_file(packed_path, packed, lengths[i]);
        check_open("cut off", 0, logits, 0);
    }
    unlink(packed_path);
    CHECK(mkdir(packed_path, 0700) == 0, "a folder");
    check_open("a folder", 0, logits, 0);
    rmdir(packed_path);
    gqa_model *m = gqa_model_open(model_path, &(gqa_model_options){.no_repack = 1}, &err);
    CHECK(m && gqa_model_save_packed(m, packed_path, &err) == GQA_ERR_ARGUMENT, "nothing to save");
    CHECK_HAS(err.message, "no repacked weights");
    gqa_model_close(m);
    m = gqa_model_open("models/stories-mha.gguf", NULL, &err); /* the same sizes of most, another model */
    CHECK(m && gqa_model_save_packed(m, packed_path, &err) == 0, "%s", err.message);
    gqa_model_close(m);
    check_open("another model's", 0, logits, 0);
    CHECK((m = gqa_model_open(model_path, NULL, &err)) && gqa_model_save_packed(m, "/nonexistent/x", &err) == GQA_ERR_IO, "no folder");
    gqa_model_close(m);
    unlink(packed_path);
    unlink(model_path);
    test_cancel();
    return test_end();
}
