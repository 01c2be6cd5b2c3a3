/* templates.c: the conversation formats, as the models' authors publish them. */
#include <string.h>

#include "chat_internal.h"

static const chat_template chat_templates[] = {
    {
        .name = "llama3",
        .system_before = "<|start_header_id|>system<|end_header_id|>\n\n",
        .system_after = "<|eot_id|>",
        .user_before = "<|start_header_id|>user<|end_header_id|>\n\n",
        .user_after = "<|eot_id|>",
        .answer_before = "<|start_header_id|>assistant<|end_header_id|>\n\n",
        .answer_after = "<|eot_id|>",
    },
    {
        .name = "chatml",
        .system_before = "<|im_start|>system\n",
        .system_after = "<|im_end|>\n",
        .user_before = "<|im_start|>user\n",
        .user_after = "<|im_end|>\n",
        .answer_before = "<|im_start|>assistant\n",
        .answer_after = "<|im_end|>\n",
    },
    {
        .name = "llama2",
        .system_inside = 1,
        .system_before = "<<SYS>>\n",
        .system_after = "\n<</SYS>>\n\n",
        .user_before = "[INST] ",
        .user_after = " [/INST]",
        .answer_before = "",
        .answer_after = " </s><s>",
    },
    {
        .name = "mistral",
        .system_inside = 1,
        .system_before = "",
        .system_after = "\n\n",
        .user_before = "[INST] ",
        .user_after = " [/INST]",
        .answer_before = "",
        .answer_after = "</s>",
    },
    {
        .name = "zephyr",
        .system_before = "<|system|>\n",
        .system_after = "</s>\n",
        .user_before = "<|user|>\n",
        .user_after = "</s>\n",
        .answer_before = "<|assistant|>\n",
        .answer_after = "</s>\n",
        .stop = "<|user|>",
    },
    {
        .name = "plain",
        .system_before = "",
        .system_after = "\n\n",
        .user_before = "User: ",
        .user_after = "\n",
        .answer_before = "Assistant:",
        .answer_after = "\n",
        .stop = "\nUser:",
    },
};

const chat_template *chat_template_named(const char *name) {
    for (size_t i = 0; i < sizeof chat_templates / sizeof chat_templates[0]; i++)
        if (!strcmp(name, chat_templates[i].name)) return &chat_templates[i];
    return NULL;
}

/* By what is in the Jinja text; NULL: none of those known. */
static const char *recognise_jinja(const char *jinja) {
    if (strstr(jinja, "<|start_header_id|>")) return "llama3";
    if (strstr(jinja, "<|im_start|>")) return "chatml";
    if (strstr(jinja, "[INST]")) return strstr(jinja, "<<SYS>>") ? "llama2" : "mistral";
    if (strstr(jinja, "<|user|>") && strstr(jinja, "<|assistant|>")) return "zephyr";
    return NULL;
}

const chat_template *chat_template_of(const gqa_model *model) {
    const char *jinja = gqa_model_chat_template(model);
    const char *name = jinja ? recognise_jinja(jinja) : NULL;
    if (!name && gqa_token_find(model, "<|im_start|>") >= 0) name = "chatml";
    if (!name && gqa_token_find(model, "<|start_header_id|>") >= 0) name = "llama3";
    return chat_template_named(name ? name : "plain");
}

static int is_role(const gqa_message *m, const char *role) { return !strcmp(m->role, role); }

int chat_segments(const chat_template *t, const gqa_message *messages, int n,
                  const gqa_chat_options *opt, chat_segment *out) {
    int count = 0;
    if (opt->first > 0 && is_role(&messages[opt->first - 1], "assistant"))
        out[count++].text = t->answer_after; /* the answer before was generated without its end */
    for (int i = opt->first; i < n; i++) {
        const gqa_message *m = &messages[i];
        int system = is_role(m, "system"), user = is_role(m, "user");
        int inside = t->system_inside && i > 0 && is_role(&messages[i - 1], "system");
        const char *before = system ? t->system_before : user ? t->user_before : t->answer_before;
        const char *after = system ? t->system_after : user ? t->user_after : t->answer_after;
        if (system && t->system_inside) out[count++].text = t->user_before;
        if (!inside) out[count++].text = before;
        out[count++] = (chat_segment){m->content, 1};
        out[count++].text = after;
    }
    if (!opt->no_generation_prompt && n > 0 && !is_role(&messages[n - 1], "assistant"))
        out[count++].text = t->answer_before;
    return count;
}
