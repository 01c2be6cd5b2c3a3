/* chat_internal.h: a conversation as text (render.c), by a template of the table (templates.c) or
 * the model's own, and as token ids (format.c). */
#ifndef GQA_CHAT_INTERNAL_H
#define GQA_CHAT_INTERNAL_H

#include "jinja.h"

/* A template for models that have none. */
typedef struct chat_template {
    const char *name;
    const char *jinja;
    const char *stop;            /* text that ends an answer where no token does; NULL: none */
} chat_template;

const chat_template *chat_template_named(const char *name);  /* NULL: no template has that name */
/* The one that the special tokens of the vocabulary call for; "plain" where they call for none. */
const chat_template *chat_template_for_tokens(const gqa_model *model);

/* What a conversation is rendered with. */
typedef struct chat_setting {
    const char *source;          /* Jinja */
    char bos[256], eos[256];     /* "": none */
} chat_setting;

/* The model's own template or the one that *opt names, and the model's tokens. */
void chat_setting_of(const gqa_model *model, const gqa_chat_options *opt, chat_setting *setting);

/* opt->messages_json: an array of objects, at least one. */
int chat_parse_messages(const gqa_chat_options *opt, gqa_json *json, gqa_error *err);

/* Renders messages, a JSON array of objects with role and content, with the variables that
 * transformers gives: add_generation_prompt, bos_token, eos_token, messages, tools, documents, and
 * those of *opt. */
int chat_render(const chat_setting *setting, const gqa_json_node *messages,
                const gqa_chat_options *opt, gqa_jinja_output *out, gqa_error *err);

/* As text, and then as ids: text that came from messages never becomes a special token; the tokens
 * of messages [n] (NULL: none) stand where the template writes their content unchanged. from:
 * where in the text to begin. Returns how many ids *tokens has. */
int chat_tokenize(const gqa_model *model, const gqa_jinja_output *out, size_t from,
                  const gqa_message *messages, int n, int32_t **tokens, gqa_error *err);

#endif
