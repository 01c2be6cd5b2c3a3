/* compare.h: what `run compare` measures, and its reports. */
#ifndef GQA_COMPARE_H
#define GQA_COMPARE_H

#include "../base/json.h"
#include "machine.h"
#include "score.h"

enum { MAX_VARIANTS = 16, MAX_DEPTHS = 12, MAX_CACHES = 5, MAX_BATCHES = 6, MAX_BATCH = 64 };

/* One model. */
typedef struct variant {
    const char *path;                    /* NULL: one of several numbers of KV heads */
    int kv_heads;
    char attention[24];                  /* "mla", "gta:4", ...; empty: so many KV heads */
    char *name;                          /* of the file, or "GQA-4"; no other variant's */
    uint8_t *image;                      /* a converted checkpoint, or NULL */
    gqa_model *model;
    const gqa_config *config;
    const gqa_model_stats *stats;
    sample prefill;                      /* tokens a second */
    sample decode[MAX_CACHES][MAX_DEPTHS];
    sample batch[MAX_BATCHES];           /* of all sequences; empty: they do not fit */
    int refused[MAX_BATCHES];            /* the system had no memory for them */
    int32_t *tokens;                     /* of the text */
    int n_chunks;
    score scores[MAX_CACHES];            /* compared with an f32 cache, its own and the first's */
} variant;

typedef struct comparison {
    const char *paths[MAX_VARIANTS], *tokenizer, *shape, *pool, *svg_path, *html_path;
    const char *cache_list, *depth_list, *head_list, *batch_list, *memory_text;
    const char *baseline_path;
    score_text text;                     /* file NULL: none */
    int tokens, prompt, rounds, threads, json, csv, quiet;

    char command[1024];                  /* as record_command has it */
    double memory;                       /* bytes: how many sequences fit */
    int depths[MAX_DEPTHS], n_depths;    /* ascending */
    struct { char name[16]; } caches[MAX_CACHES];
    int n_caches;
    int batches[MAX_BATCHES], n_batches; /* sequences decoded together, at the last depth */

    variant variants[MAX_VARIANTS];
    int n_variants, n_paths;
    int name_width;                      /* of the longest name, at least 8 */
    machine_limits limits;
    gqa_json baseline;                   /* of baseline_path, if there is one */
    int has_scores, same_vocab;          /* of all variants */
} comparison;

/* Opens the models that the command line names. 0, or an exit code after printing an error;
 * compare_close either way. */
int compare_open(comparison *c);
void compare_close(comparison *c);

/* Tokens a second. */
double decode_speed(const variant *v, int cache, int depth);
/* Whether the weights and c->batches[b] sequences at the greatest depth have room. */
int batch_fits(const comparison *c, const variant *v, int b);
/* Tokens a second of all sequences of c->batches[b] together, or that they do not fit. */
const char *batch_cell(const comparison *c, const variant *v, int b, char buf[16]);
/* Why perplexities and KL are left out. */
extern const char different_vocabularies[];
/* Numbers of a query head: head_dim, but for MLA, whose config has the row that it caches there. */
int query_head_dim(const variant *v);
/* "4 layers, dim 64, ...". */
void describe_shape(const variant *v, char *out, size_t size);
/* Bytes of a cache of that many positions; v NULL: of MLA. */
double cache_at(const comparison *c, const variant *v, int cache, int positions);

void compare_table(const comparison *c);
void compare_csv(const comparison *c);
void compare_json(const comparison *c);
/* Write a file. 0, or EXIT_FAILURE after printing an error. */
int compare_svg(const comparison *c);
int compare_html(const comparison *c);

/* Reads an earlier --json, for gqa_json_free. 0, or EXIT_FAILURE after printing an error. */
int baseline_read(gqa_json *json, const char *path);
/* What changed since then beyond the spread. */
void baseline_show(const gqa_json *json, const comparison *c, FILE *out);

#endif
