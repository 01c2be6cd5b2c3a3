/* training.h: what train and uptrain share: texts, the loop with its progress line, saving, resuming, the report. */
#ifndef GQA_TRAINING_H
#define GQA_TRAINING_H

#include "../train/train.h"
#include "command.h"

typedef struct training_settings {
    opt_list texts;
    const char *val, *type_name, *log;
    int eval_every, save_seconds, json, quiet, restart, stop_after;
    int64_t seed;
    gqa_train_options opt;
} training_settings;

#define TRAINING_DEFAULTS .type_name = "f16", .save_seconds = 60, .seed = 1

/* The rows of an option table that both commands have. s: a training_settings. */
#define TRAINING_OPTIONS(s)                                                                                                 \
    {"-f", OPT_STRINGS, &(s).texts, 0, 0, "FILE", "text to learn from; may be repeated; <|endoftext|> parts documents"},    \
    {"--val", OPT_STRING, &(s).val, 0, 0, "FILE", "text to measure the loss on"},                                           \
    {"--batch", OPT_INT, &(s).opt.batch, 0, 1 << 16, "N", "sequences a step (32)"},                                         \
    {"--length", OPT_INT, &(s).opt.length, 0, 1 << 16, "N", "tokens a sequence (the model's context)"},                     \
    {"--rate", OPT_FLOAT, &(s).opt.rate, 0, 1, "R", "highest learning rate (0.002)"},                                       \
    {"--rate-end", OPT_FLOAT, &(s).opt.rate_end, 0, 1, "R", "last rate, a share of the highest (0.1)"},                     \
    {"--warmup", OPT_INT, &(s).opt.warmup, 0, 1 << 30, "N", "steps until the highest rate (a twentieth, at most 200)"},     \
    {"--decay", OPT_FLOAT, &(s).opt.decay, -1, 1, "D", "weight decay; negative: none (0.1)"},                               \
    {"--clip", OPT_FLOAT, &(s).opt.clip, 0, 1e6, "C", "largest norm of the gradient (1)"},                                  \
    {"--dropout", OPT_FLOAT, &(s).opt.dropout, -1, 0.9, "P", "share of embeddings and layer outputs left out a step (0)"},   \
    {"-s", OPT_INT64, &(s).seed, 0, 9.3e18, "SEED", "the same seed gives the same model (1)"},                              \
    {"-j", OPT_INT, &(s).opt.n_threads, 0, 1024, "N", "threads (physical cores allowed)"},                                  \
    {"--type", OPT_STRING, &(s).type_name, 0, 0, "TYPE", "of the matrices in OUT: f32, f16, q8_0, ... (f16)"},              \
    {"--eval-every", OPT_INT, &(s).eval_every, 0, 1 << 30, "N", "steps between two looks at --val (a tenth of all)"},       \
    {"--save-every", OPT_INT, &(s).save_seconds, 1, 1 << 20, "S", "seconds between two saves of OUT.state (60)"},           \
    {"--stop-after", OPT_INT, &(s).stop_after, 0, 1 << 30, "N", "save and stop N steps from here; 0: go to the end"},       \
    {"--restart", OPT_FLAG, &(s).restart, 0, 0, NULL, "forget OUT.state instead of going on from it"},                      \
    {"--log", OPT_STRING, &(s).log, 0, 0, "FILE", "CSV of steps and losses, appended to"},                                  \
    {"--json", OPT_FLAG, &(s).json, 0, 0, NULL, "the result as one JSON object"},                                           \
    {"--quiet", OPT_FLAG, &(s).quiet, 0, 0, NULL, "nothing on stderr but errors"}

/* A run under way. */
typedef struct training {
    training_settings *s;
    const char *out;
    char state[1100];          /* OUT.state: what a stopped run goes on from */
    gqa_type type;
    char *text;                /* all -f files, documents apart */
    size_t text_len;
    gqa_map state_map;         /* of OUT.state, or of the file the vocabulary is from */
    gqa_checkpoint saved;
    int has_saved;             /* it is OUT.state */
    gqa_vocab *vocab;
    gqa_dataset data, val;
    uint64_t fingerprint;      /* of data: a saved run goes on with the text it began with */
    gqa_trainer *trainer;
    char command[1024];        /* the words that started it, for the file */
} training;

/* Checks the settings, reads the texts, and looks for OUT.state. EXIT_DONE or an exit code after telling why;
 * training_close either way. words: the command's name and arguments, recorded in OUT. */
int training_open(training *r, training_settings *s, const char *out, const char *name, int argc, char **argv);
/* Turns the texts into tokens of r->vocab. */
int training_tokenize(training *r);
/* Resumes if there was a state, then trains r->trainer to its last step, writes OUT and reports. */
int training_run(training *r);
void training_close(training *r);

#endif
