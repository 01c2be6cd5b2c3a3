/* tokenize.c: `run tokenize`: the token ids of a text on one line. */
#include <string.h>

#include "terminal.h"

static int print_ids(const gqa_model *model, const char *text, size_t len, unsigned flags,
                     int quiet) {
    int n;
    int32_t *ids = text_tokenize(model, text, len, flags, quiet, &n);
    if (!ids) return EXIT_FAILURE;
    for (int i = 0; i < n; i++) printf("%s%d", i ? " " : "", ids[i]);
    printf("\n");
    gqa_free(ids);
    return finish_stdout();
}

int command_tokenize(int argc, char **argv) {
    const char *text = NULL, *file = NULL, *path = NULL;
    int no_bos = 0, special = 0, quiet = 0, n_paths = 0;
    gqa_model_options mo = {.vocab_only = 1};
    const opt options[] = {
        {"-i TEXT", OPT_STRING, &text, 0, 0, "the text"},
        {"-f FILE", OPT_STRING, &file, 0, 0, "read the text from a file; -: standard input"},
        {"-z FILE", OPT_STRING, &mo.tokenizer_path, 0, 0, LLAMA2C_HELP},
        {"--no-bos", OPT_FLAG, &no_bos, 0, 0, "no beginning-of-sequence token"},
        {"--special", OPT_FLAG, &special, 0, 0, "text such as <|im_end|> is that special token"},
        {"--quiet", OPT_FLAG, &quiet, 0, 0, QUIET_HELP},
        OPT_END,
    };
    int code = parse_options(argc, argv, TABLES(options), &path, 1, &n_paths,
                             "run tokenize MODEL -i TEXT|-f FILE [options]\n\n"
                             "Prints the token ids of a text.");
    if (code >= 0) return code;
    if (!path) return usage_error("tokenize: no model given");
    if (!text == !file) return usage_error("tokenize: give a text by either -i or -f");
    size_t len = text ? strlen(text) : 0;
    char *whole = file ? read_text(file, &len) : NULL;
    if (file && !whole) return EXIT_FAILURE;
    unsigned flags = (no_bos ? 0u : GQA_TOKENIZE_BOS) | (special ? GQA_TOKENIZE_SPECIAL : 0u);
    gqa_model *model = open_model(path, &mo);
    code = model ? print_ids(model, file ? whole : text, len, flags, quiet) : EXIT_FAILURE;
    gqa_model_close(model);
    free(whole);
    return code;
}
