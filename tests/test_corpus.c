/* test_corpus.c: the vocabulary trainer, texts as tokens, and the order in which training visits
 * them. */
#include "../weights/model_internal.h"
#include "tiny_trainer.h"

/* The example of Sennrich et al. 2016, section 3.2 and figure 1: low 5, lower 2, newest 6,
 * widest 3. */
static void test_merges(void) {
    static const struct {
        const char *word;
        int n;
    } words[] = {{"low", 5}, {"lower", 2}, {"newest", 6}, {"widest", 3}};
    static const char *const merges[] = {"es", "est", "lo", "low"};
    char text[400] = "";
    gqa_vocab *v;
    gqa_error err = {0};
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < words[i].n; k++) strcat(strcat(text, words[i].word), "\n");
    int status = gqa_bpe_train(&v, text, strlen(text), 300, &err);
    if (!CHECK(status == 0, "%s", err.message)) return;
    for (int i = 0; i < 4; i++) {
        int id = gqa_vocab_find(v, merges[i], strlen(merges[i]));
        CHECK(id == 259 + i, "merge %d is not %s, which is token %d", i, merges[i], id);
    }
    CHECK(gqa_vocab_find(v, "newest", 6) > 0, "newest is not one token in the end");
    gqa_vocab_free(v);
}

static void test_too_small(void) {
    gqa_vocab *v;
    gqa_error err = {0};
    CHECK(gqa_bpe_train(&v, "low", 3, 299, &err) < 0, "299 tokens");
    CHECK_HAS(err.message, "299 tokens: expected 300");
}

/* A byte that is not UTF-8 does not take its neighbours along: the next word is one of its own. */
static void test_latin_1(void) {
    static const char text[] = "un caf\xE9 noir, un caf\xE9 noir, un caf\xE9 noir";
    static const char noir[] = "\xE2\x96\x81noir";
    gqa_vocab *v;
    gqa_error err = {0};
    int status = gqa_bpe_train(&v, text, sizeof text - 1, 300, &err);
    if (!CHECK(status == 0, "%s", err.message)) return;
    CHECK(gqa_vocab_find(v, noir, sizeof noir - 1) > 0, "\" noir\" is not a token");
    gqa_vocab_free(v);
}

/* Every byte of the documents comes back, in between BOS and EOS; markers, white space at the ends
 * and empty documents do not. */
static void test_documents(void) {
    static const char text[] =
        "Tom didn't go. \"Why?\" asked Ann.\n\n<|endoftext|>\n"
        "Tom didn't see 12 owls.<|endoftext|>\n \n<|endoftext|>"
        "Ann didn't, \xF0\x9F\x98\x80.";
    static const char want[] =
        " Tom didn't go. \"Why?\" asked Ann."
        " Tom didn't see 12 owls."
        " Ann didn't, \xF0\x9F\x98\x80.";
    char got[300];
    size_t n = 0;
    int starts = 0, ends = 0;
    gqa_vocab *v;
    gqa_dataset d = {0};
    gqa_error err = {0};
    int status = gqa_bpe_train(&v, text, sizeof text - 1, 320, &err);
    if (!status) status = gqa_dataset_add(&d, v, text, sizeof text - 1, &err);
    if (!CHECK(status == 0, "%s", err.message)) return;
    for (size_t i = 0; i < d.n_tokens; i++) {
        starts += d.tokens[i] == gqa_vocab_bos(v);
        ends += d.tokens[i] == gqa_vocab_eos(v);
        int size = gqa_vocab_token_bytes(v, d.tokens[i], got + n, 20);
        n += (size_t)(size > 0 ? size : 0);
    }
    got[n] = 0;
    CHECK(d.n_documents == 3, "%d documents", d.n_documents);
    CHECK(starts == 3 && ends == 3, "%d starts, %d ends", starts, ends);
    CHECK(!strcmp(got, want), "\"%s\"", got);
    size_t bytes = n - 3; /* without the spaces in front */
    CHECK(d.n_bytes == bytes, "%llu bytes", (unsigned long long)d.n_bytes);
    gqa_dataset_free(&d);
    gqa_vocab_free(v);
}

enum { WINDOWS = 99, STEP = 10 };

/* Where the windows of an epoch are cut, and the order in which they are visited. */
typedef struct epoch_order {
    size_t offset, windows[WINDOWS];
} epoch_order;

static epoch_order order_of(const gqa_dataset *d, uint64_t seed, int epoch) {
    epoch_order o;
    int seen[WINDOWS + 1] = {0};
    for (int i = 0; i < WINDOWS; i++) {
        size_t at = gqa_dataset_window(d, STEP, seed, (uint64_t)(epoch * WINDOWS + i));
        size_t window = at / STEP, offset = at % STEP;
        CHECK(at + STEP + 1 <= d->n_tokens && !seen[window]++, "window %d at %zu", i, at);
        if (i == 0) o.offset = offset;
        CHECK(offset == o.offset, "window %d at %zu, the first at offset %zu", i, at, o.offset);
        o.windows[i] = window;
    }
    return o;
}

static int moved(const size_t *a, const size_t *b) {
    int n = 0;
    for (int i = 0; i < WINDOWS; i++) n += a[i] != b[i];
    return n;
}

/* Every window once in an epoch; another order, cut at another offset, in another epoch and by
 * another seed. */
static void test_windows(void) {
    gqa_dataset d = cycle(1003);
    epoch_order first = order_of(&d, 7, 0), second = order_of(&d, 7, 1), other = order_of(&d, 8, 0);
    size_t rising[WINDOWS];
    for (size_t i = 0; i < WINDOWS; i++) rising[i] = i;
    CHECK(first.offset != second.offset, "both epochs begin at offset %zu", first.offset);
    int n = moved(first.windows, second.windows);
    CHECK(n > 90, "the epoch moves %d windows", n);
    n = moved(first.windows, other.windows);
    CHECK(n > 90, "the seed moves %d windows", n);
    n = moved(first.windows, rising);
    CHECK(n > 90, "%d windows are not in rising order", n);
    gqa_dataset_free(&d);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("merges of Sennrich et al.") test_merges();
    TEST("vocabulary too small") test_too_small();
    TEST("Latin-1") test_latin_1();
    TEST("documents") test_documents();
    TEST("windows") test_windows();
    return test_end();
}
