/* compare.h: what `run compare` measures and how it is told. */
#ifndef GQA_COMPARE_H
#define GQA_COMPARE_H

#include "machine.h"
#include "score.h"

enum { MAX_VARIANTS = 12, MAX_DEPTHS = 12, MAX_CACHES = 5 };

/* One head count. */
typedef struct variant {
    int kv_heads;
    uint8_t *image;                      /* a converted checkpoint; NULL: random or the file itself */
    gqa_model *model;
    gqa_model_stats stats;
    sample prefill;                      /* tokens a second */
    sample decode[MAX_CACHES][MAX_DEPTHS];
    score scores[MAX_CACHES];
} variant;

typedef struct comparison {
    const char *model_path, *tokenizer, *shape_text, *pool, *text_path, *svg_path, *kv_list, *depth_list, *head_list, *memory_text;
    int tokens, prompt, rounds, threads, chunk, chunks, json, csv, quiet;
    double memory;                       /* bytes: how many sequences fit */
    gqa_config config;                   /* of the first variant */
    variant v[MAX_VARIANTS];
    int n;
    int depths[MAX_DEPTHS], n_depths;
    char kv_names[MAX_CACHES][8];
    int kv_types[MAX_CACHES], n_kv;
    int has_scores;
    machine_limits limits;
} comparison;

/* "MHA", "GQA-4", "MQA". */
const char *variant_name(const comparison *c, const variant *v, char buf[16]);
uint64_t variant_kv_bytes(const comparison *c, const variant *v, int cache); /* a position */

void compare_table(const comparison *c);
void compare_csv(const comparison *c);
void compare_json(const comparison *c);
int compare_svg(const comparison *c);    /* 0, or EXIT_FAILURE after printing an error */

#endif
