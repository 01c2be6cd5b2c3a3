/* templates.c: templates for models whose file has none, as the models' authors publish the
 * format. */
#include <string.h>

#include "chat_internal.h"

/* Of formats that write the system message inside the first message of the user. */
#define SYSTEM_INSIDE(before, after)                                                               \
    "{% set system = '' %}"                                                                        \
    "{% if messages[0].role == 'system' %}"                                                        \
    "{% set system = '" before "' + messages[0].content + '" after "' %}"                          \
    "{% set messages = messages[1:] %}"                                                            \
    "{% endif %}"                                                                                  \
    "{% for m in messages %}"                                                                      \
    "{% if m.role == 'system' %}"                                                                  \
    "{{ raise_exception('a system message is only possible at the beginning') }}"                  \
    "{% endif %}"
#define ANSWER(text) "{% if add_generation_prompt %}" text "{% endif %}"

static const chat_template chat_templates[] = {
    {
        .name = "llama3",
        .jinja = "{{ bos_token }}{% for m in messages %}"
                 "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content }}<|eot_id|>"
                 "{% endfor %}" ANSWER("<|start_header_id|>assistant<|end_header_id|>\n\n"),
    },
    {
        .name = "chatml",
        .jinja = "{% for m in messages %}"
                 "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
                 "{% endfor %}" ANSWER("<|im_start|>assistant\n"),
    },
    {
        .name = "llama2",
        .jinja = SYSTEM_INSIDE("<<SYS>>\\n", "\\n<</SYS>>\\n\\n")
                 "{% if m.role == 'assistant' %}{{ m.content }} {{ eos_token }}"
                 "{% else %}{{ bos_token }}[INST] {{ system if loop.first }}{{ m.content }} [/INST]"
                 "{% endif %}{% endfor %}",
    },
    {
        .name = "mistral", /* v3 and later; SentencePiece puts its blank after a control token */
        .jinja = "{{ bos_token }}" SYSTEM_INSIDE("", "\\n\\n")
                 "{% if m.role == 'assistant' %}{{ m.content }}{{ eos_token }}"
                 "{% else %}[INST]{{ system if loop.first }}{{ m.content }}[/INST]"
                 "{% endif %}{% endfor %}",
    },
    {
        .name = "zephyr",
        .jinja = "{% for m in messages %}"
                 "<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n"
                 "{% endfor %}" ANSWER("<|assistant|>\n"),
        .stop = "<|user|>",
    },
    {
        .name = "plain",
        .jinja = "{% for m in messages %}"
                 "{% if m.role == 'system' %}{{ m.content }}\n\n"
                 "{% elif m.role == 'assistant' %}Assistant:{{ m.content }}\n"
                 "{% else %}User: {{ m.content }}\n{% endif %}"
                 "{% endfor %}" ANSWER("Assistant:"),
        .stop = "\nUser:",
    },
};

const chat_template *chat_template_named(const char *name) {
    for (size_t i = 0; i < array_length(chat_templates); i++)
        if (!strcmp(name, chat_templates[i].name)) return &chat_templates[i];
    return NULL;
}

const chat_template *chat_template_for_tokens(const gqa_model *model) {
    static const struct {
        const char *token, *name;
    } known[] = {
        {"<|im_start|>", "chatml"}, {"<|start_header_id|>", "llama3"}, {"[INST]", "mistral"},
    };
    for (size_t i = 0; i < array_length(known); i++) {
        int32_t id = gqa_token_find(model, known[i].token);
        if (id >= 0 && gqa_token_is_control(model, id)) return chat_template_named(known[i].name);
    }
    return chat_template_named("plain");
}
