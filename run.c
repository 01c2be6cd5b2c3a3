/* run.c: the program: a table of subcommands. A first word that names none is a model to generate
 * text with. */
#include <signal.h>
#include <string.h>
#include <unistd.h>

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
    {"perplexity", command_perplexity, "measure how well a model predicts a text"},
    {"bench", command_bench, "measure speed, beside what this machine can reach"},
    {"compare", command_compare, "compare MHA, GQA and MQA: memory, speed, quality"},
    {"convert", command_convert, "pool KV heads, change types, llama2.c to GGUF"},
    {"train", command_train, "train a tokenizer and a model from a text"},
    {"uptrain", command_uptrain, "pool KV heads, then train for a share of the parent's steps"},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *out) {
    fprintf(out, "gqa.c %s: a tiny LLM runtime with grouped-query attention\n\n", gqa_version());
    fprintf(out, "usage: run MODEL [options]        generate text from a GGUF or llama2.c model\n"
                 "       run COMMAND [options]      run COMMAND --help lists its options\n\n");
    for (int i = 0; i < N_COMMANDS; i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].help);
}

/* Models are mapped: when the file is truncated meanwhile, reading the lost pages raises SIGBUS. */
static void on_bus_error(int signal_number) {
    static const char message[] = "run: a file in use was truncated or could not be read\n";
    (void)signal_number;
    ssize_t unused = write(STDERR_FILENO, message, sizeof message - 1);
    (void)unused;
    _exit(EXIT_FAILURE);
}

/* Between two parallel regions the threads of gcc's OpenMP spin for milliseconds, which on a shared
 * machine are taken from the work itself (a small model ran at a tenth of its speed beside another
 * program). 10000 rounds are some 50 microseconds, enough to reach the next token. libgomp reads
 * the number before main, so the program sets it and executes itself again. */
static void spin_briefly(char **argv) {
#ifdef _OPENMP
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY")) return;
    if (setenv("GOMP_SPINCOUNT", "10000", 1)) return;
    execv("/proc/self/exe", argv);
#else
    (void)argv;
#endif
}

int main(int argc, char **argv) {
    spin_briefly(argv);
    struct sigaction action = {.sa_handler = on_bus_error};
    sigaction(SIGBUS, &action, NULL);
    if (argc < 2) {
        print_usage(stderr);
        return EXIT_USAGE;
    }
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) {
        print_usage(stdout);
        return finish_stdout();
    }
    if (!strcmp(argv[1], "--version")) {
        printf("gqa.c %s\n", gqa_version());
        return finish_stdout();
    }
    for (int i = 0; i < N_COMMANDS; i++)
        if (!strcmp(argv[1], commands[i].name)) return commands[i].run(argc - 2, argv + 2);
    return command_generate(argc - 1, argv + 1);
}
