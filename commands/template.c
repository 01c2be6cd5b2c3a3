/* template.c: the conversation formats (template.h), as their models' authors publish them. */
#include "template.h"

#include <string.h>

static const chat_template table[] = {
    {"llama3", "<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>", 0, "<|start_header_id|>user<|end_header_id|>\n\n",
     "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>", NULL},
    {"chatml", "<|im_start|>system\n", "<|im_end|>\n", 0, "<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n", NULL},
    {"llama2", "<<SYS>>\n", "\n<</SYS>>\n\n", 1, "[INST] ", " [/INST]", " </s><s>", NULL},
    {"mistral", "", "\n\n", 1, "[INST] ", " [/INST]", "</s>", NULL},
    {"zephyr", "<|system|>\n", "</s>\n", 0, "<|user|>\n", "</s>\n<|assistant|>\n", "</s>\n", "<|user|>"},
    {"plain", "", "\n\n", 0, "User: ", "\nAssistant:", "\n", "\nUser:"},
};
enum { N_TEMPLATES = sizeof table / sizeof *table };

const chat_template *chat_template_named(const char *name) {
    for (int i = 0; i < N_TEMPLATES; i++)
        if (!strcmp(name, table[i].name)) return &table[i];
    return NULL;
}

const char *chat_template_names(void) { return "llama3, chatml, llama2, mistral, zephyr, plain"; }

const chat_template *chat_template_recognise(const char *jinja) {
    if (strstr(jinja, "<|start_header_id|>")) return chat_template_named("llama3");
    if (strstr(jinja, "<|im_start|>")) return chat_template_named("chatml");
    if (strstr(jinja, "[INST]")) return chat_template_named(strstr(jinja, "<<SYS>>") ? "llama2" : "mistral");
    if (strstr(jinja, "<|user|>") && strstr(jinja, "<|assistant|>")) return chat_template_named("zephyr");
    return NULL;
}

static void part(chat_turn *turn, const char *text, int said) {
    if (!*text) return;
    turn->parts[turn->n].text = text;
    turn->parts[turn->n++].said = said;
}

chat_turn chat_turn_make(const chat_template *t, const char *system, const char *user, int first) {
    chat_turn turn = {.n = 0};
    int with_system = first && system && *system;
    if (t->system_inside) part(&turn, t->user_before, 0);
    if (with_system) {
        part(&turn, t->system_before, 0);
        part(&turn, system, 1);
        part(&turn, t->system_after, 0);
    }
    if (!t->system_inside) part(&turn, t->user_before, 0);
    part(&turn, user, 1);
    part(&turn, t->user_after, 0);
    return turn;
}
