/* choice.h: an answer that is exactly one of the texts of --choice. */
#ifndef GQA_CHOICE_H
#define GQA_CHOICE_H

#include "command.h"

enum { MAX_CHOICE = 4000 };    /* bytes of a text */
typedef struct choice_state {
    const opt_list *texts;     /* none: everything is allowed */
    const gqa_model *model;
    char answer[MAX_CHOICE];         /* [len] so far */
    int len;
} choice_state;

#define CHOICE_CUT "the choice does not fit the context; -c N gives more"
/* 0, or EXIT_USAGE after printing an error: a text is empty or too long. */
int check_choices(const opt_list *texts);

/* For gqa_on_token: the answer goes on by a token. */
void add_to_choice(choice_state *s, int32_t token);
/* Whether the answer is one of the texts. */
int is_whole_choice(const choice_state *s);
/* For gqa_on_logits: bans every token after which the answer would begin none of the texts. Nonzero
 * when it is one of them, and no longer one begins so. */
int allow_choices(const choice_state *s, float *logits, int n_vocab);

#endif
