/* run.c: the program: a table of subcommands. A first word that names none is a model to generate
 * text with. */
#include <string.h>

#include "commands/command.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    {"generate", command_generate, "generate text (also: run MODEL ...)"},
    {"chat", command_chat, "talk with an instruct model"},
    {"info", command_info, "describe a model file; KV cache sizes as MHA, GQA, MQA, MLA"},
    {"tokenize", command_tokenize, "print the token ids of a text"},
    {"template", command_template, "print a conversation as a chat template writes it"},
    {"perplexity", command_perplexity, "measure how well a model predicts a text"},
    {"bench", command_bench, "measure speed, beside what this machine can reach"},
    {"compare", command_compare, "compare models, or one as MHA, GQA and MQA"},
    {"convert", command_convert, "pool KV heads, change types, llama2.c to GGUF"},
    {"train", command_train, "train a tokenizer and a model from a text"},
    {"uptrain", command_uptrain, "pool KV heads, then train for a share of the parent's steps"},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *out) {
    fprintf(out, "gqa.c %s: a tiny LLM runtime with grouped-query attention\n\n", gqa_version());
    fprintf(out, "usage: run MODEL [options]        generate text from a GGUF or llama2.c model\n"
                 "       run COMMAND [options]      run help COMMAND lists its options\n"
                 "       run version\n\n");
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].help);
}

/* Models are mapped: the file was truncated meanwhile. */
static void on_lost_page(const char *path) {
    fail("%s: truncated or unreadable while in use", path ? path : "a mapped file");
    gqa_os_exit_now(EXIT_FAILURE);
}

/* The command that a first word may be a slip for. */
static const char *nearest_command(const char *typed) {
    const char *nearest = NULL;
    int best = NO_TYPO;
    for (int i = 0; i < N_COMMANDS; i++) {
        int distance = typo_distance(typed, commands[i].name, strlen(commands[i].name));
        if (distance >= best) continue;
        best = distance;
        nearest = commands[i].name;
    }
    return nearest;
}

/* argv[0]: the name of a command, or a model. */
static int run_command(int argc, char **argv) {
    for (int i = 0; i < N_COMMANDS; i++)
        if (!strcmp(argv[0], commands[i].name)) return commands[i].run(argc - 1, argv + 1);
    const char *nearest = gqa_os_exists(argv[0]) ? NULL : nearest_command(argv[0]);
    if (nearest)
        return usage_error("%s: neither a command nor a file; did you mean %s?", argv[0], nearest);
    return command_generate(argc, argv);
}

/* run help [COMMAND]; argv[0] is COMMAND. */
static int show_help(int argc, char **argv) {
    char help[] = "--help";
    if (argc > 1) return usage_error("help: unexpected argument \"%s\"", argv[1]);
    for (int i = 0; i < N_COMMANDS && argc; i++)
        if (!strcmp(argv[0], commands[i].name)) return commands[i].run(1, (char *[]){help});
    const char *nearest = argc ? nearest_command(argv[0]) : NULL;
    if (nearest) return usage_error("help: no command %s; did you mean %s?", argv[0], nearest);
    if (argc) return usage_error("help: no command %s", argv[0]);
    print_usage(stdout);
    return finish_stdout();
}

int main(int argc, char **argv) {
    gqa_os_start(&argc, &argv);
    gqa_os_on_lost_page(on_lost_page);
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    const char *first = argv[1];
    if (!strcmp(first, "help")) return show_help(argc - 2, argv + 2);
    if (!strcmp(first, "--help") || !strcmp(first, "-h")) return show_help(0, NULL);
    if (!strcmp(first, "--version") || !strcmp(first, "version")) {
        printf("gqa.c %s\n", gqa_version());
        return finish_stdout();
    }
    return run_command(argc - 1, argv + 1);
}
