/* template.h: how models want a conversation written. A fixed table, no Jinja: the file's template only tells which row. */
#ifndef GQA_TEMPLATE_H
#define GQA_TEMPLATE_H

#include <stddef.h>

typedef struct chat_template {
    const char *name;
    const char *system_before, *system_after; /* around the system prompt */
    int system_inside;                        /* the system prompt stands inside the first message of the user */
    const char *user_before, *user_after;     /* around a message; user_after ends where the answer begins */
    const char *answer_end;                   /* closes an answer before the next message */
    const char *stop;                         /* text that ends an answer when no token does; NULL: none */
} chat_template;

const chat_template *chat_template_named(const char *name);  /* NULL: there is none of that name */
const char *chat_template_names(void);                       /* for messages: "llama2, llama3, ..." */
/* The row for a Jinja template from a model file, by what is in it; NULL: none fits. */
const chat_template *chat_template_recognise(const char *jinja);

/* One turn in parts, in order. Said parts are the user's or the system's words and never become special tokens. */
typedef struct chat_turn {
    struct { const char *text; int said; } parts[6];
    int n;
} chat_turn;
/* system: NULL or "" for none; it goes with the first turn. */
chat_turn chat_turn_make(const chat_template *t, const char *system, const char *user, int first);

#endif
