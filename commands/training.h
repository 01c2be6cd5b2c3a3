/* training.h: what train and uptrain share: texts, the loop with its progress line, saving, resuming, the report. */
#ifndef GQA_TRAINING_H
#define GQA_TRAINING_H

#include "../train/train.h"
#include "command.h"

enum { N_TRAINING_OPTIONS = 20 };
typedef struct training_settings {
    opt_list texts;
    const char *val, *type_name, *log;
    int eval_every, save_seconds, json, quiet, restart, stop_after;
    int64_t seed;
    gqa_train_options opt;
    opt options[N_TRAINING_OPTIONS + 1]; /* the table that sets the above */
} training_settings;
void training_settings_init(training_settings *s); /* the defaults, and the table */

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

/* Checks the settings, reads the texts, and looks for OUT.state. 0, or an exit code after printing an error;
 * training_close either way. words: the command's name and arguments, recorded in OUT. */
int training_open(training *r, training_settings *s, const char *out, const char *name, int argc, char **argv);
/* Turns the texts into tokens of r->vocab. */
int training_tokenize(training *r);
/* Resumes if there was a state, then trains r->trainer to its last step, writes OUT and reports. */
int training_run(training *r);
void training_close(training *r);

#endif
