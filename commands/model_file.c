/* model_file.c: reading model files, and what written ones record (model_file.h). */
#include "model_file.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../formats/formats.h"
#include "command.h"

int model_file_open(model_file *f, const char *path, gqa_error *err) {
    *f = (model_file){0};
    int status = gqa_map_open(&f->map, path, err);
    if (status) return status;
    return gqa_checkpoint_read(&f->checkpoint, f->map.data, f->map.size, path, err);
}

int model_file_describe(model_file *f, const char *path, gqa_error *err) {
    *f = (model_file){0};
    int status = gqa_map_open(&f->map, path, err);
    if (status) return status;
    return gqa_checkpoint_describe(&f->checkpoint, f->map.data, f->map.size, path, err);
}

int model_file_vocab(model_file *f, const char *tokenizer, gqa_error *err) {
    gqa_map *map = &f->tokenizer_map;
    int is_llama2c = f->checkpoint.n_meta == 0;
    if (!is_llama2c || !tokenizer) return gqa_vocab_from_gguf(&f->vocab, &f->checkpoint, err);
    int status = gqa_map_open(map, tokenizer, err);
    if (status) return status;
    return gqa_vocab_from_llama2c(&f->vocab, map->data, map->size,
                                  f->checkpoint.config.vocab_size, tokenizer, err);
}

void model_file_close(model_file *f) {
    gqa_vocab_free(f->vocab);
    gqa_checkpoint_free(&f->checkpoint);
    gqa_map_close(&f->tokenizer_map);
    gqa_map_close(&f->map);
    *f = (model_file){0};
}

int refuse_same_file(const char *in, const char *out) {
    if (!in || !gqa_same_file(in, out)) return EXIT_SUCCESS;
    return usage_error("%s is the same file as %s, which is read: give another name", out, in);
}

int refuse_other_text(const char *path, const char *begin) {
    char target[1024]; /* of a link, which must stay, wherever it leads */
    const int was_there = path && (gqa_os_exists(path) ||
                                   gqa_os_link_target(path, target, sizeof target) >= 0);
    FILE *f = path ? gqa_os_fopen(path, "a") : NULL;
    gqa_file_info info;
    if (!path) return EXIT_SUCCESS;
    if (!f) return fail("%s: cannot write: %s", path, strerror(errno));
    int has_text = !gqa_os_stream_info(f, &info) && info.kind == GQA_FILE_REGULAR &&
                   info.id.size > 0;
    fclose(f);
    if (!was_there) gqa_os_remove(path); /* what comes before it is written may fail */
    if (!has_text || file_begins(path, begin)) return EXIT_SUCCESS;
    return usage_error("%s exists and does not begin with \"%s\": give another name", path, begin);
}

/* How many words, from this one on, say the number of threads: "-j N", "-jN", "--threads=N". */
static int thread_words(const char *word) {
    if (!strcmp(word, "-j") || !strcmp(word, "--threads")) return 2;
    return !strncmp(word, "-j", 2) || !strncmp(word, "--threads=", 10);
}

/* Appends a word as a shell reads it, in quotes where it needs them; cuts what does not fit. */
static void append_word(char *out, size_t size, const char *word) {
    static const char safe[] = "-_./=,:+@%0123456789abcdefghijklmnopqrstuvwxyz"
                               "ABCDEFGHIJKLMNOPQRSTUVWXYZ";
    const int quoted = !*word || word[strspn(word, safe)];
    size_t used = strlen(out);
    used += (size_t)snprintf(out + used, size - used, quoted ? " '" : " ");
    for (; *word && used + 5 < size; word++) { /* 5: a quote in quotes, and the last one */
        if (*word == '\'') {
            memcpy(out + used, "'\\'", 3);
            used += 3;
        }
        out[used++] = *word;
        out[used] = 0;
    }
    if (quoted && used + 1 < size) memcpy(out + used, "'", 2);
}

void record_command(char *out, size_t size, const char *name, int with_threads, int argc,
                    char **argv) {
    snprintf(out, size, "run %s", name);
    for (int i = 0; i < argc; i++) {
        int skipped = with_threads ? 0 : thread_words(argv[i]);
        if (skipped) i += skipped - 1;
        else append_word(out, size, argv[i]);
    }
}
