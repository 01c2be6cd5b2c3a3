/* model_file.h: a model file as the commands see it that read its tensors and metadata. */
#ifndef GQA_MODEL_FILE_H
#define GQA_MODEL_FILE_H

#include "../vocab/tokenizer.h"

typedef struct model_file {
    gqa_map map, tokenizer_map;
    gqa_checkpoint checkpoint;
    gqa_vocab *vocab;          /* NULL: none, or not asked for */
} model_file;

/* Maps and reads a model file. Returns 0 or a negative status; model_file_close either way. */
int model_file_open(model_file *f, const char *path, gqa_error *err);
/* The same for any well-formed file, also one that cannot be run (gqa_checkpoint_describe). */
int model_file_describe(model_file *f, const char *path, gqa_error *err);
/* Then its vocabulary: that of a GGUF, or, for a llama2.c checkpoint, of that tokenizer file. */
int model_file_vocab(model_file *f, const char *tokenizer, gqa_error *err);
void model_file_close(model_file *f); /* f may be all zero */

/* 0, or EXIT_USAGE after printing an error, when the file to write is one that is read. */
int refuse_same_file(const char *in, const char *out);

/* 0, or an exit code after printing an error, when a text cannot be written to path, or would spoil
 * a file that is not empty and begins otherwise. Creates the file. path NULL: nothing to write. */
int refuse_other_text(const char *path, const char *begin);

/* The command line as the files that it writes record it: "run NAME WORD...", for a shell, cut to
 * size. Without -j, unless with_threads: no model depends on it. */
void record_command(char *out, size_t size, const char *name, int with_threads, int argc,
                    char **argv);

#endif
