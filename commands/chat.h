/* chat.h: the state of `run chat` (chat.c) and what is typed after a slash (chat_commands.c). */
#ifndef GQA_CHAT_H
#define GQA_CHAT_H

#include "chat_view.h"
#include "terminal.h"

typedef struct turn {
    const char *role;          /* "system", "user" or "assistant" */
    char *content;             /* owned, as tokens is */
    int32_t *tokens;           /* of an answer, as it was generated; NULL: not known */
    int n_tokens;
} turn;

typedef struct conversation {
    text_run run;
    int64_t seed;
    gqa_chat_options format;
    int hides_thoughts, quiet;
    const thought_tags *tags;
    turn *turns;               /* [n], the system message first if there is one */
    int n, capacity;
    int32_t *held;             /* [n_held] loaded without messages: two turns stand for them */
    int n_held;
    int n_generated;           /* answers so far, those taken back too */
    int has_dropped;           /* oldest turns, which was said */
    int has_failed;            /* to answer a message */
    int has_checked_thinking;
    /* of the last answer */
    int n_kept, n_evaluated;
    double prefill_seconds;
    gqa_generate_result last;
} conversation;

/* Adds a turn with a copy of text[len] without zero bytes. 0, or EXIT_FAILURE after printing an
 * error. */
int add_turn(conversation *c, const char *role, const char *text, size_t len);
/* Forgets turns from `first` on. */
void drop_turns(conversation *c, int first, int count);
/* Warns, once, of a template that cannot turn thinking on or off as is asked for. */
void check_thinking(conversation *c);
int has_system(const conversation *c);
/* Token ids of the conversation without the n_left_out turns after the system prompt, for
 * gqa_free(). How many, or negative after printing an error. */
int format_turns(conversation *c, int n_left_out, int32_t **tokens);
/* Generates the answer to the last turn and adds it; without one (Ctrl-C, a message that does not
 * fit) the turns stay as they are. 0 unless the program should end. */
int answer(conversation *c);

/* Whether a line begins with a command, or with what looks like one: "/word", not "/etc/hosts". */
int is_chat_command(const char *line);
/* Runs it. Returns 1 for /exit, else 0. */
int chat_command(conversation *c, char *line);

#endif
