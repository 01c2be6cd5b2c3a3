/* run.c: the program: a table of subcommands. A first word that names none is a model to generate text with. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "commands/command.h"

static const struct { const char *name; int (*run)(int argc, char **argv); const char *what; } commands[] = {
    {"generate", command_generate, "generate text (also: run MODEL ...)"},
    {"chat", command_chat, "a conversation with an instruct model"},
    {"info", command_info, "what a model file holds; memory of its KV cache as MHA, GQA, MQA, MLA"},
    {"tokenize", command_tokenize, "token ids of a text"},
    {"perplexity", command_perplexity, "how well a model predicts a text"},
    {"bench", command_bench, "speed, beside what this machine can reach"},
    {"compare", command_compare, "MHA, GQA and MQA side by side: memory, speed, quality"},
    {"convert", command_convert, "fewer KV heads, other types, llama2.c to GGUF"},
    {"train", command_train, "a tokenizer and a model, learnt from a text"},
    {"uptrain", command_uptrain, "pool KV heads, then train on for a share of the parent's steps"},
};
enum { N_COMMANDS = sizeof commands / sizeof commands[0] };

static void print_usage(FILE *out) {
    fprintf(out, "gqa.c %s: a tiny LLM runtime with grouped-query attention\n\n"
                 "usage: run MODEL [options]        generate text from a GGUF or llama2.c checkpoint\n"
                 "       run COMMAND ...            COMMAND --help tells its options\n\n", gqa_version());
    for (int i = 0; i < N_COMMANDS; i++) fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].what);
}

/* Models are mapped; a file that is cut off meanwhile takes pages away that are still to be read. */
static void on_bus_error(int signal_number) {
    static const char message[] = "run: a file in use was cut off or could not be read any more\n";
    (void)signal_number;
    ssize_t unused = write(STDERR_FILENO, message, sizeof message - 1);
    (void)unused;
    _exit(EXIT_FAILURE);
}

/* Between two parallel regions the threads of gcc's OpenMP spin for milliseconds; on a machine that is shared, those are
 * taken from the work itself (a small model ran at a tenth of its speed beside another program). 10000 rounds are some
 * 50 microseconds, enough to reach the next token. The library reads the number before main, hence the second start. */
static void spin_briefly(char **argv) {
#ifdef _OPENMP
    if (getenv("GOMP_SPINCOUNT") || getenv("OMP_WAIT_POLICY") || setenv("GOMP_SPINCOUNT", "10000", 1)) return;
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
    if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h")) return print_usage(stdout), finish_stdout();
    if (!strcmp(argv[1], "--version")) return printf("gqa.c %s\n", gqa_version()), finish_stdout();
    for (int i = 0; i < N_COMMANDS; i++)
        if (!strcmp(argv[1], commands[i].name)) return commands[i].run(argc - 2, argv + 2);
    return command_generate(argc - 1, argv + 1);
}
