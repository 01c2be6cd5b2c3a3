/* training.h: what train and uptrain share: options, texts, the loop with its progress line,
 * saving, resuming, the report. */
#ifndef GQA_TRAINING_H
#define GQA_TRAINING_H

#include "../train/train.h"
#include "command.h"
#include "model_file.h"

enum { N_TRAINING_OPTIONS = 23 };
typedef struct training_settings {
    opt_list texts;
    const char *val, *type_name, *log;
    int eval_every, save_seconds, json, quiet, restart, force, stop_after;
    int64_t seed;
    gqa_train_options opt;
    opt options[N_TRAINING_OPTIONS + 1]; /* the table that sets the above */
} training_settings;
void training_settings_init(training_settings *s); /* the defaults, and the table */

/* A run in progress. */
typedef struct training {
    training_settings *s;
    const char *out;
    char state_path[1100];     /* OUT.state: what a stopped run resumes from */
    gqa_type type;
    char *text;                /* all -f files, as separate documents */
    size_t text_len;
    model_file saved;          /* OUT.state, until it is resumed: Windows replaces no mapped file */
    model_file source;         /* the model whose vocabulary train takes, or nothing */
    int resuming;              /* there is an OUT.state */
    const gqa_vocab *vocab;
    gqa_vocab *learnt;         /* vocab, when it is the run's own */
    gqa_dataset data, val;
    uint64_t fingerprint;      /* of data: a saved run resumes with the same text only */
    gqa_train_input inputs[5 + GQA_MAX_TEACHERS]; /* what else must be the same; the last one stays
                                                   * empty */
    int n_inputs;
    gqa_trainer *trainer;
    char command[1024];        /* the command line, recorded in OUT */
} training;

/* Checks the settings, reads the texts, and opens OUT.state if there is one. name, argc, argv: the
 * command line. 0, or an exit code after printing an error; training_close either way. */
int training_open(training *r, training_settings *s, const char *out, const char *name, int argc,
                  char **argv);
/* Adds what a resumed run must have as well: a word, or a hash of a file. */
void training_input(training *r, const char *name, const char *value);
int training_input_file(training *r, const char *name, const char *path);
/* Gives options that were not given their defaults, and those that were given as 0 what has the
 * effect of 0; of defaults, 0 is the trainer's own. */
void training_settle(gqa_train_options *o, const gqa_train_options *defaults);
/* Turns the texts into tokens of r->vocab. */
int training_tokenize(training *r);
/* Resumes from OUT.state if there is one, trains r->trainer to its last step, writes OUT and
 * reports. */
int training_run(training *r);
void training_close(training *r);

#endif
