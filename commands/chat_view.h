/* chat_view.h: an answer as it comes, on stdout. On a terminal, words are not split at its right
 * edge, and thoughts (<think> to </think> ...) are dim; elsewhere the text is written as it is. */
#ifndef GQA_CHAT_VIEW_H
#define GQA_CHAT_VIEW_H

#include <stddef.h>

#include "../model.h"

/* What begins and ends a thought, in text or as tokens. */
typedef struct thought_tags {
    const char *open, *close;
} thought_tags;
/* The tags that the model has tokens for; <think> where it has none. */
const thought_tags *view_tags(const gqa_model *model);

typedef struct chat_view {
    const thought_tags *tags;
    int is_terminal, hides_thoughts; /* is_terminal: one that is not dumb */
    int is_thinking;
    int is_after_thoughts;     /* that were hidden: blanks are left out until text comes */
    int columns, column;       /* of the terminal; where the text is */
    char tag[24];              /* what may become a tag */
    size_t n_tag;
    char word[256];            /* not yet written */
    size_t n_word;
    int word_columns, n_blanks; /* of the word; before it */
} chat_view;

/* is_thinking: the prompt ends inside a thought. */
void view_begin(chat_view *view, const thought_tags *tags, int hides_thoughts, int is_thinking);
/* Nonzero when stdout cannot be written. */
int view_put(chat_view *view, const char *text, size_t len);
int view_end(chat_view *view);

#endif
