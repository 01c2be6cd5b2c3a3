/* choice.h: an answer that is exactly one of the texts of --choice. */
#ifndef GQA_CHOICE_H
#define GQA_CHOICE_H

#include "command.h"

typedef struct choice_state {
    const opt_list *texts;     /* none: everything is allowed */
    const gqa_model *model;
    int has_begun, start;      /* start: tokens before the answer */
    int is_complete;           /* the answer is one of the texts */
} choice_state;

enum { MAX_CHOICE = 4000 };    /* bytes of a text */
/* 0, or EXIT_USAGE after printing an error: a text is empty or too long. */
int check_choices(const opt_list *texts);

/* For gqa_on_logits: bans every token after which the answer would begin none of the texts. Nonzero
 * when it is one of them, and no longer one begins so. */
int allow_choices(choice_state *s, const int32_t *tokens, int n_tokens, float *logits, int n_vocab);

#endif
