/* chat_internal.h: how models expect a conversation to be written: a table of templates. */
#ifndef GQA_CHAT_INTERNAL_H
#define GQA_CHAT_INTERNAL_H

#include "../base/base.h"

/* What stands around each message. */
typedef struct chat_template {
    const char *name;
    const char *system_before, *system_after;
    int system_inside;           /* the system message stands inside the user's that follows it */
    const char *user_before, *user_after;
    const char *answer_before, *answer_after;
    const char *stop;            /* text that ends an answer where no token does; NULL: none */
} chat_template;

const chat_template *chat_template_named(const char *name);  /* NULL: no template has that name */
/* The template of a model, by its Jinja text (NULL: none) and its special tokens; "plain" where
 * neither tells. */
const chat_template *chat_template_of(const gqa_model *model);

/* A conversation is written as segments; the content of messages never becomes a special token. */
typedef struct chat_segment {
    const char *text;
    int is_content;
} chat_segment;

/* Segments of messages first .. n - 1 to out [4 * n + 2]; returns how many. */
int chat_segments(const chat_template *t, const gqa_message *messages, int n,
                  const gqa_chat_options *opt, chat_segment *out);

#endif
