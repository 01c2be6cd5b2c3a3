/* tokenizer.h: vocabularies. All data comes from the model file; no id and no token is built in. */
#ifndef GQA_TOKENIZER_H
#define GQA_TOKENIZER_H

#include "../formats/gguf.h"

typedef struct gqa_vocab gqa_vocab;

/* From the tokenizer.ggml.* metadata of a GGUF ("llama": SentencePiece-style BPE with byte
 * fallback; "gpt2": byte-level BPE with the pre-tokeniser that tokenizer.ggml.pre names). Token
 * texts stay views into the file's memory. Returns 0 and *out; 0 and *out = NULL when the file
 * has no vocabulary; negative when it is damaged. */
int gqa_vocab_from_gguf(gqa_vocab **out, const gqa_checkpoint *c, gqa_error *err);

/* From a llama2.c tokenizer.bin in memory (which must outlive the vocabulary): max_token_length,
 * then vocab_size times {float score, int32 length, bytes}. The file does not hold vocab_size: it
 * comes from the model. By convention BOS is 1, EOS 2, and <0x00>..<0xFF> from id 3 are bytes. */
int gqa_vocab_from_llama2c(gqa_vocab **out, const void *data, size_t size, int vocab_size,
                           const char *path, gqa_error *err);

/* A SentencePiece-style vocabulary of tokens [n] made elsewhere (training). The arrays are
 * copied. types are GGUF token types: 1 normal, 2 unknown, 3 control, 4 user-defined, 6 byte. */
int gqa_vocab_new(gqa_vocab **out, const gqa_bytes *tokens, const float *scores,
                  const int32_t *types, int n, int32_t bos, int32_t eos, int32_t unk,
                  gqa_error *err);

void gqa_vocab_free(gqa_vocab *v);

/* What the functions of model.h with similar names do for a model. */
int32_t gqa_vocab_find(const gqa_vocab *v, const char *text, size_t len);
int gqa_vocab_count(const gqa_vocab *v);
int32_t gqa_vocab_bos(const gqa_vocab *v);
int32_t gqa_vocab_eos(const gqa_vocab *v);
int gqa_vocab_is_end(const gqa_vocab *v, int32_t token);
int gqa_vocab_is_control(const gqa_vocab *v, int32_t token);
/* Gives tokens that the file forbids minus infinity among logits[n] (NULL: none are changed).
 * Returns whether it names any. v may be NULL. */
int gqa_vocab_suppress(const gqa_vocab *v, float *logits, int n);
int gqa_vocab_adds_bos(const gqa_vocab *v);
/* Whether encoding puts a space before the text (SentencePiece). */
int gqa_vocab_adds_space_prefix(const gqa_vocab *v);
/* For example an unknown pre-tokeniser, by name; NULL: nothing. */
const char *gqa_vocab_warning(const gqa_vocab *v);
/* 0-terminated, owned by v; NULL: none. */
const char *gqa_vocab_chat_template(const gqa_vocab *v);

/* Writes the tokenizer.ggml.* keys (for convert and train). Failures are the writer's. */
void gqa_vocab_write(const gqa_vocab *v, gguf_writer *w);

#endif
