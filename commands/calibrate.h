/* calibrate.h: samples of a model's keys and values, for the aligned pooling of convert and
 * compare. */
#ifndef GQA_CALIBRATE_H
#define GQA_CALIBRATE_H

#include "../convert/convert.h"

/* Keys and values of the first tokens of text[len], at most max_tokens, as the model at that path
 * computes them. tokenizer as in gqa_model_options. 0, or EXIT_FAILURE after printing an error. */
int calibrate(gqa_kv_samples *samples, const char *model_path, const char *tokenizer,
              const char *text, size_t len, int max_tokens);

#endif
