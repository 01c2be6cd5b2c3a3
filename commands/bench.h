/* bench.h: what `run bench` measures, and its reports. */
#ifndef GQA_BENCH_H
#define GQA_BENCH_H

#include "command.h"
#include "machine.h"

enum { MAX_LIST = 16, MAX_REPS = 100, MAX_BATCH = 256, MAX_SETS = 32, MAX_ROWS = 512 };

typedef struct settings {
    const char *shape, *depths_text, *batches_text, *kv, *kv_heads, *tokenizer, *isa, *file;
    int prompt, tokens, reps, threads, json, csv, no_repack, mix, lookup, fast, exact;
    int64_t seed;
    int depths[MAX_LIST], n_depths, batches[MAX_LIST], n_batches;
} settings;

typedef enum test_kind {
    PROMPT,                    /* tokens are evaluated at once */
    DECODE,                    /* generated one by one */
    MIXED_PROMPT,              /* in portions, each beside a token of the sequences */
    MIXED_DECODE,              /* and those tokens: not run, but measured with the above */
    TEXT,                      /* generated after the tokens of a file */
    LOOKUP                     /* the same with speculation */
} test_kind;

/* One test: what it does, and its result. */
typedef struct row {
    test_kind kind;
    int set;                   /* the engine */
    char name[32];             /* "pp512", "tg128" */
    int n, depth, batch;       /* tokens of a sequence, positions before them, sequences */
    int tokens;                /* of a repetition */
    double times[MAX_REPS];
    machine_limits limits[MAX_REPS]; /* measured before each */
    double rate, spread;       /* tokens a second */
    double seconds;            /* of one repetition */
    double ratio;              /* of rates; NaN: there is nothing to compare with */
    double first_token;        /* of a prompt: time to first token; else NaN */
    double bytes, ops;         /* a second: read from memory, multiply-adds; NaN: unknown */
    double share;              /* of the limit; NaN when everything fits in the caches */
    double kv_bytes;           /* a second, of the KV cache alone; NaN: unknown */
} row;

/* What is opened for an instruction set and, with --kv-heads, a kind of attention. */
typedef struct engine {
    const char *isa;           /* NULL: the best */
    const char *kv_heads;      /* NULL: as the model or --shape has them */
    gqa_model *model;
    const gqa_config *config;
    const gqa_model_stats *stats;
    gqa_workspace *workspace;  /* of all sessions */
    gqa_session *sessions[MAX_BATCH + 1];
    int n_sessions;
    machine *machine;          /* of the instruction set's first, as what follows; else NULL */
    machine_limits limits;     /* of the repetition in which memory was fastest */
    double error;              /* of the self-check, relative */
    const char *where;         /* it is */
} engine;

typedef struct bench {
    const settings *o;
    const char *kv_type;
    int n_threads;
    engine sets[MAX_SETS];     /* an instruction set's n_kinds, one after the other */
    int n_sets, n_kinds;
    int32_t *text;             /* [n_text] of the file; NULL: none */
    int n_text;
    row rows[MAX_ROWS];
    int n_rows;
} bench;

void bench_table(const bench *b);
void bench_json(const bench *b);
void bench_csv(const bench *b);

#endif
