/* formats.h: where checkpoints come from: a file of either format, or random numbers. */
#ifndef GQA_FORMATS_H
#define GQA_FORMATS_H

#include "checkpoint.h"

/* Parses data[size], which must outlive the checkpoint. The format is recognised by its magic;
 * llama2.c v0 has none, and is recognised by plausible header fields that agree exactly with the
 * file's size. path is for messages only. On failure the checkpoint is empty. */
int gqa_checkpoint_read(gqa_checkpoint *c, const void *data, size_t size, const char *path,
                        gqa_error *err);

/* The same for a file that need not be one that can be run: any well-formed GGUF. Its tensors may
 * be of unknown types (then of size 0), and c->refusal says what is wrong with its metadata. */
int gqa_checkpoint_describe(gqa_checkpoint *c, const void *data, size_t size, const char *path,
                            gqa_error *err);

/* n random values, uniform in -limit..limit, as blocks of a type: into values [n], and as they are
 * stored into dst. Of a type that gqa_quantize does not write, dst gets random codes of about the
 * same deviation, and values are others. n: a multiple of 256. */
void gqa_random_values(int type, float limit, uint64_t *state, float *values, void *dst, size_t n);

/* A checkpoint of that shape with random weights, owned (random.c; gqa_model_random in model.h). */
int gqa_checkpoint_random(gqa_checkpoint *c, const gqa_config *shape, gqa_type type, uint64_t seed,
                          gqa_error *err);

/* Reads a llama2.c checkpoint in data[size] into an empty checkpoint. */
int llama2c_read(gqa_checkpoint *c, const uint8_t *data, size_t size, gqa_error *err);

#endif
