/* test_documents.c: what stands between the documents of a text (train, perplexity --documents). */
#include "../train/train.h"
#include "test.h"

enum { UNK, BOS, EOS, MARK, A, B, SPACE, N };

/* The tokens of a text with two documents, in a vocabulary with these special tokens. */
static void check_documents(int32_t bos, int32_t eos, const char *mark, const int32_t *want,
                            int n) {
    const char *text = " \n<|endoftext|>\n\na\n<|endoftext|>  <|endoftext|> \tb\r\n";
    const char *names[N] = {"<unk>", "<s>", "</s>", mark, "a", "b", "\xE2\x96\x81"};
    static const int32_t types[N] = {2, 3, 3, 3, 1, 1, 1};
    static const float scores[N];
    gqa_bytes tokens[N];
    gqa_dataset d = {0};
    gqa_error err = {0};
    gqa_vocab *v;
    for (int i = 0; i < N; i++) tokens[i] = (gqa_bytes){names[i], strlen(names[i])};
    CHECK(gqa_vocab_new(&v, tokens, scores, types, N, bos, eos, UNK, &err) == 0, "%s", err.message);
    int status = gqa_dataset_add(&d, v, text, strlen(text), &err);
    CHECK(status == (n ? 0 : GQA_ERR_UNSUPPORTED), "status %d: %s", status, err.message);
    int32_t found[16]; /* without the space that encoding puts before a text */
    int n_found = 0;
    for (size_t i = 0; i < d.n_tokens && n_found < 16; i++)
        if (d.tokens[i] != SPACE) found[n_found++] = d.tokens[i];
    CHECK(n_found == n, "%d tokens, expected %d", n_found, n);
    for (int i = 0; i < n && i < n_found; i++)
        CHECK(found[i] == want[i], "token %d is %d, expected %d", i, found[i], want[i]);
    gqa_dataset_free(&d);
    gqa_vocab_free(v);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("EOS ends a document, BOS begins it")
        check_documents(BOS, EOS, "<x>", (int32_t[]){BOS, A, EOS, BOS, B, EOS}, 6);
    TEST("the token of the marker's name goes before EOS")
        check_documents(BOS, EOS, "<|endoftext|>", (int32_t[]){BOS, A, MARK, BOS, B, MARK}, 6);
    TEST("no BOS where the vocabulary has none")
        check_documents(-1, EOS, "<|endoftext|>", (int32_t[]){A, MARK, B, MARK}, 4);
    TEST("without both it is refused") check_documents(BOS, -1, "<x>", NULL, 0);
    return test_end();
}
