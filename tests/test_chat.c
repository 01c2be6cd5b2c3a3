/* test_chat.c: conversations are written as the models' authors publish it. */
#include "test.h"

#include "../commands/template.h"

static void expect(const char *name, const char *system, int first, const char *want) {
    const chat_template *t = chat_template_named(name);
    if (!CHECK(t, "%s", name)) return;
    chat_turn turn = chat_turn_make(t, system, "Hi {u}", first);
    char all[400] = "", said[100] = "";
    for (int i = 0; i < turn.n; i++) {
        strcat(all, turn.parts[i].text);
        if (turn.parts[i].said) strcat(said, turn.parts[i].text);
    }
    CHECK(!strcmp(all, want), "%s: \"%s\", expected \"%s\"", name, all, want);
    CHECK(strstr(said, "Hi {u}") && (!first || !system || strstr(said, system)) && strlen(said) == strlen("Hi {u}") + (first && system ? strlen(system) : 0),
          "%s: \"%s\" was said", name, said);
}

int main(void) {
    /* meta-llama/llama3, MODEL_CARD and prompt_format; BOS is the vocabulary's affair */
    expect("llama3", "Be kind", 1,
           "<|start_header_id|>system<|end_header_id|>\n\nBe kind<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nHi {u}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
    expect("llama3", "Be kind", 0, "<|start_header_id|>user<|end_header_id|>\n\nHi {u}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
    /* openai/chatml, as Qwen and SmolLM2 use it */
    expect("chatml", "Be kind", 1, "<|im_start|>system\nBe kind<|im_end|>\n<|im_start|>user\nHi {u}<|im_end|>\n<|im_start|>assistant\n");
    expect("chatml", NULL, 1, "<|im_start|>user\nHi {u}<|im_end|>\n<|im_start|>assistant\n");
    /* meta-llama/llama, generation.py */
    expect("llama2", "Be kind", 1, "[INST] <<SYS>>\nBe kind\n<</SYS>>\n\nHi {u} [/INST]");
    expect("llama2", "Be kind", 0, "[INST] Hi {u} [/INST]");
    expect("mistral", NULL, 1, "[INST] Hi {u} [/INST]");
    expect("mistral", "Be kind", 1, "[INST] Be kind\n\nHi {u} [/INST]");
    /* TinyLlama-1.1B-Chat's model card */
    expect("zephyr", "Be kind", 1, "<|system|>\nBe kind</s>\n<|user|>\nHi {u}</s>\n<|assistant|>\n");
    expect("plain", NULL, 1, "User: Hi {u}\nAssistant:");

    static const struct { const char *jinja, *name; } known[] = {
        {"{% for m in messages %}{{ '<|start_header_id|>' + m['role'] }}", "llama3"}, {"{{'<|im_start|>' + message['role'] + '\\n'", "chatml"},
        {"{{ '[INST] ' + '<<SYS>>\\n' + system }}", "llama2"}, {"{{ bos_token + '[INST] ' + content + ' [/INST]' }}", "mistral"},
        {"{{ '<|user|>\\n' + message['content'] + eos_token }} {{ '<|assistant|>' }}", "zephyr"}};
    for (int i = 0; i < 5; i++) {
        const chat_template *t = chat_template_recognise(known[i].jinja);
        CHECK(t && !strcmp(t->name, known[i].name), "%s was taken for %s", known[i].name, t ? t->name : "nothing");
    }
    CHECK(!chat_template_recognise("{{ something else }}") && !chat_template_named("x"), "unknown");
    return test_end();
}
