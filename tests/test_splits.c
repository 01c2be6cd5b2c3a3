/* test_splits.c: where texts are cut before merging, against llama.cpp's pieces of them
 * (tests/golden/splits.txt): marks, joiners, scripts without spaces, digits, spaces and line ends
 * of Unicode, for every kind of pre-tokenizer. */
#include "test.h"

#include "../formats/gguf.h"
#include "../vocab/vocab.h"

static const struct {
    const char *name;
    splitter kind;
} kinds[] = {
    {"default", SPLIT_DEFAULT}, {"llama-bpe", SPLIT_LLAMA3}, {"qwen2", SPLIT_QWEN2},
    {"smollm", SPLIT_SMOLLM}, {"gpt-2", SPLIT_GPT2}, {"tekken", SPLIT_TEKKEN},
    {"gpt-4o", SPLIT_GPT4O}, {"deepseek-llm", SPLIT_DEEPSEEK_LLM},
    {"deepseek-coder", SPLIT_DEEPSEEK_CODER}, {"deepseek-v3", SPLIT_DEEPSEEK3},
    {"youtu", SPLIT_YOUTU},
};
enum { N_KINDS = sizeof kinds / sizeof kinds[0], MAX_TEXT = 64 };

static char hex[2 * MAX_TEXT + 1];   /* the text, as the file has it */
static char text[MAX_TEXT];
static size_t n;
static int seen[N_KINDS];            /* texts of each kind */

/* What deepseek-llm's and deepseek-coder's own expressions cut (HF tokenizers 0.23.3): U+1680,
 * U+2028, U+2029 and U+3000 are of [U+0800 - U+9FA5]. llama.cpp takes them for tabulations. */
static const struct {
    const char *hex, *pieces;
} own[] = {
    {"61e280a86220e280a92063c28564", " 1 3 1 1 3 2 3"},
    {"e380807720e38080e3808078e19a8079", " 3 1 1 3 3 1 3 1"},
};

static void read_text(const char *line) {
    snprintf(hex, sizeof hex, "%.*s", 2 * MAX_TEXT, line);
    n = strlen(hex) / 2;
    for (size_t i = 0; i < n; i++) {
        unsigned byte = 0;
        sscanf(hex + 2 * i, "%2x", &byte);
        text[i] = (char)byte;
    }
}

/* "NAME SIZE SIZE ...": the pieces of the text. */
static void check_line(const char *line) {
    char name[32] = "", got[4 * MAX_TEXT] = "";
    uint8_t cuts[MAX_TEXT];
    sscanf(line, "%31s", name);
    int k = 0;
    while (k < N_KINDS && strcmp(kinds[k].name, name)) k++;
    if (!CHECK(k < N_KINDS && n > 0, "a line of \"%s\"", name)) return;
    seen[k]++;
    pretokenize(kinds[k].kind, text, n, cuts);
    size_t begin = 0, used = 0;
    for (size_t i = 1; i <= n; i++) {
        if (i < n && !cuts[i]) continue;
        used += (size_t)snprintf(got + used, sizeof got - used, " %zu", i - begin);
        begin = i;
    }
    const char *want = line + strlen(name);
    int is_early = kinds[k].kind == SPLIT_DEEPSEEK_LLM || kinds[k].kind == SPLIT_DEEPSEEK_CODER;
    for (int i = 0; i < 2 && is_early; i++)
        if (!strcmp(hex, own[i].hex)) want = own[i].pieces;
    CHECK(!strcmp(got, want), "%s: %s: pieces of%s bytes, expected%s", name, hex, got, want);
}

/* A vocabulary of "1" and "11", and how many tokens "1111" is. */
static int count_of_1111(const char *pre) {
    const gqa_bytes tokens[] = {{"1", 1}, {"11", 2}}, merges[] = {{"1 1", 3}};
    gqa_error err = {0};
    uint8_t *image = NULL;
    size_t size = 0;
    int32_t *ids = NULL;
    gguf_writer *w = gguf_writer_new(NULL, &err);
    gguf_put_string(w, "general.architecture", "llama", 5);
    gguf_put_string(w, "tokenizer.ggml.model", "gpt2", 4);
    if (pre) gguf_put_string(w, "tokenizer.ggml.pre", pre, strlen(pre));
    gguf_put_strings(w, "tokenizer.ggml.tokens", tokens, 2);
    gguf_put_strings(w, "tokenizer.ggml.merges", merges, 1);
    CHECK(gguf_finish_memory(w, &image, &size, &err) == 0, "%s", err.message);
    gqa_model *m = gqa_model_from_memory(image, size, &(gqa_model_options){.vocab_only = 1}, &err);
    CHECK(m != NULL, "%s", err.message);
    int count = m ? gqa_tokenize_new(m, "1111", 4, 0, &ids, &err) : -1;
    gqa_free(ids);
    gqa_model_close(m);
    free(image);
    return count;
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("pieces of texts, against llama.cpp's") {
        char line[512];
        FILE *f = fopen("tests/golden/splits.txt", "r");
        while (f && fgets(line, sizeof line, f)) {
            line[strcspn(line, "\n")] = 0;
            if (!strncmp(line, "text ", 5)) read_text(line + 5);
            else if (line[0] != '#') check_line(line);
        }
        if (f) fclose(f);
        for (int k = 0; k < N_KINDS; k++)
            CHECK(seen[k] == 24, "%s: %d texts, expected 24", kinds[k].name, seen[k]);
    }
    TEST("without a pre-tokenizer's name as by default, after three digits") {
        int n_default = count_of_1111(NULL), n_gpt2 = count_of_1111("gpt-2");
        CHECK(n_default == 3, "%d tokens", n_default);
        CHECK(n_gpt2 == 2, "%d tokens of gpt-2", n_gpt2);
    }
    return test_end();
}
