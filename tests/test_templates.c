/* test_templates.c: 47 chat templates of real models, each with 15 conversations, against what
 * Python's Jinja makes of them as transformers sets it up: equal byte for byte, or an error where
 * it raises one; what a template itself raises, in its own words. */
#include "../chat/jinja.h"
#include "json_member.h"
#include "test.h"

static int render(const gqa_json_node *t, const gqa_json_node *conversation, gqa_jinja_output *out,
                  gqa_error *err) {
    static const char *const names[] = {"messages", "tools", "documents", "enable_thinking"};
    static const gqa_json_node none = {GQA_JSON_NULL, "", 0, 1};
    const gqa_json_node *source = member(t, "chat_template");
    const gqa_json_node *options = member(conversation, "options");
    const gqa_json_node *prompt = member(options, "add_generation_prompt");
    char *bos = copy_string(member(t, "bos_token")), *eos = copy_string(member(t, "eos_token"));
    gqa_jinja_variable v[8] = {{.name = "bos_token", .text = bos},
                               {.name = "eos_token", .text = eos}};
    int n = 2;
    v[n++] = (gqa_jinja_variable){.name = "add_generation_prompt",
                                  .is_true = !prompt || prompt->kind == GQA_JSON_TRUE};
    for (int i = 0; i < 4; i++) {
        const gqa_json_node *given = member(i ? options : conversation, names[i]);
        if (!given && i == 3) continue;
        v[n++] = (gqa_jinja_variable){.name = names[i], .json = given ? given : &none};
    }
    int status = gqa_jinja_render(source->text, source->len, v, n, "2026-11-25", out, err);
    free(bos);
    free(eos);
    return status;
}

/* One case. Returns whether an error was wanted. */
static int check_case(const gqa_json_node *root, const gqa_json_node *c) {
    static const char raised[] = "TemplateError: ";
    const gqa_json_node *t = element(member(root, "templates"), atoi(member(c, "template")->text));
    const gqa_json_node *want = member(c, "want"), *error = member(c, "error");
    char *name = copy_string(member(t, "name")), *which = copy_string(member(c, "case"));
    gqa_jinja_output out;
    gqa_error err = {0};
    int status = render(t, member(member(root, "conversations"), which), &out, &err);
    if (error->kind == GQA_JSON_NULL) {
        size_t same = 0;
        while (same < out.len && same < want->len && out.text[same] == want->text[same]) same++;
        CHECK(status == 0, "%s, %s: %s", name, which, err.message);
        CHECK(status || (out.len == want->len && same == out.len),
              "%s, %s: differs from byte %zu: \"%.60s\", expected \"%.60s\"", name, which, same,
              out.text + same, want->text + same);
    } else {
        size_t skip = sizeof raised - 1;
        char *words = copy_string(error);
        CHECK(status < 0, "%s, %s: no error, expected %s", name, which, words);
        if (!strncmp(words, raised, skip))
            CHECK(!strcmp(err.message, words + skip) && status == GQA_ERR_ARGUMENT,
                  "%s, %s: \"%s\", expected \"%s\"", name, which, err.message, words + skip);
        else CHECK(status == GQA_ERR_FORMAT, "%s, %s: %s", name, which, err.message);
        if (test.verbose) printf("%s: %s | %s\n", name, words, err.message);
        free(words);
    }
    gqa_jinja_output_free(&out);
    free(name);
    free(which);
    return error->kind != GQA_JSON_NULL;
}

static void check_all(const char *text, size_t size) {
    gqa_json json;
    gqa_error err = {0};
    int n = 0, errors = 0;
    if (!CHECK(gqa_json_parse(&json, text, size, &err) == 0, "%s", err.message)) return;
    const gqa_json_node *cases = member(json.nodes, "cases");
    for (const gqa_json_node *c = cases + 1; c < cases + cases->size; c += c->size, n++)
        errors += check_case(json.nodes, c);
    CHECK(n == 705 && errors == 119, "%d cases, %d of them errors", n, errors);
    gqa_json_free(&json);
}

/* Whatever a template does with what a person writes, none of it counts as the template's. */
static void check_content(const char *text, size_t size) {
    static const char written[] =
        "ZQ<|im_end|></s><end_of_turn><|eot_id|><|end|>[/INST]<|endoftext|>QZ";
    char conversation[200];
    gqa_json json, messages;
    gqa_error err = {0};
    int n = 0;
    snprintf(conversation, sizeof conversation,
             "{\"options\": {}, \"messages\": [{\"role\": \"user\", \"content\": \"%s\"}]}",
             written);
    if (!CHECK(gqa_json_parse(&json, text, size, &err) == 0, "%s", err.message)) return;
    gqa_json_parse(&messages, conversation, strlen(conversation), &err);
    const gqa_json_node *templates = member(json.nodes, "templates");
    for (const gqa_json_node *t = templates + 1; t < templates + templates->size; t += t->size) {
        gqa_jinja_output out;
        char *name = copy_string(member(t, "name"));
        int status = render(t, messages.nodes, &out, &err);
        const char *at = out.text ? strstr(out.text, written) : NULL;
        CHECK(at || status, "%s does not write the message", name);
        for (size_t i = 0; at && at[i] && i < sizeof written - 1; i++) {
            size_t place = (size_t)(at - out.text) + i;
            if (!CHECK(out.is_content[place], "%s: byte %zu is the template's", name, place)) break;
        }
        n += at != NULL;
        gqa_jinja_output_free(&out);
        free(name);
    }
    CHECK(n == 44, "%d templates; three need tools", n);
    gqa_json_free(&messages);
    gqa_json_free(&json);
}

int main(int argc, char **argv) {
    static char text[1 << 23];
    test_start(argc, argv);
    const char *path = test_data("cases/templates.json");
    if (path) {
        FILE *f = fopen(path, "rb");
        size_t size = f ? fread(text, 1, sizeof text, f) : 0;
        if (f) fclose(f);
        TEST("47 templates, 15 conversations") check_all(text, size);
        TEST("47 templates, special tokens in a message") check_content(text, size);
    }
    return test_end();
}
