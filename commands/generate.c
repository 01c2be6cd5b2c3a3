/* generate.c: `run MODEL`: the text on stdout, everything else on stderr. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "json.h"
#include "terminal.h"

typedef struct settings {
    text_settings text;
    const char *prompt, *file, *cache;
    int no_bos, special, json, no_echo;
} settings;

/* Where the text goes. */
typedef struct sink {
    int keep, failed;
    char *text;          /* all of it, for JSON */
    size_t len, capacity;
    char last;           /* byte written; 0: none yet */
} sink;

static int put(void *user, const char *text, size_t len) {
    sink *out = user;
    if (len == 0) return 0;
    out->last = text[len - 1];
    if (!out->keep) {
        out->failed = fwrite(text, 1, len, stdout) != len || fflush(stdout);
        return out->failed;
    }
    if (out->capacity - out->len < len) {
        size_t capacity = (out->len + len) * 2;
        char *more = realloc(out->text, capacity);
        if (!more) return out->failed = 1;
        out->text = more;
        out->capacity = capacity;
    }
    memcpy(out->text + out->len, text, len);
    out->len += len;
    return 0;
}

/* ---- showing ----------------------------------------------------------------------------------------------------- */

static double rate(double count, double seconds) { return count > 0 && seconds > 0 ? count / seconds : 0; }

static const char *stop_name(gqa_stop stop) {
    static const char *const names[] = {"", "length", "end", "string", "context", "interrupted"};
    return names[stop];
}

static void show_stop(const text_run *run, const gqa_generate_result *r) {
    int context = gqa_session_context(run->session), trained = gqa_model_config(run->model)->context_length;
    if (r->stop == GQA_STOP_CONTEXT && context < trained)
        fprintf(stderr, "context full: %d positions; use -c N for more (the model knows %d)\n", context, trained);
    else if (r->stop == GQA_STOP_CONTEXT)
        fprintf(stderr, "context full: %d positions, all that the model was trained for\n", context);
    else if (r->stop == GQA_STOP_END)
        fprintf(stderr, "the model ended the text\n");
    else if (r->stop == GQA_STOP_STRING)
        fprintf(stderr, "a stop string came\n");
    else if (r->stop == GQA_STOP_LENGTH)
        fprintf(stderr, "%d tokens made; use -n N for more\n", r->generated_tokens);
    else
        fprintf(stderr, "interrupted\n");
}

static gqa_type kv_type(const text_run *run) {
    return run->settings->kv ? (gqa_type)gqa_type_from_name(run->settings->kv) : GQA_TYPE_F16;
}

static void show_stats(const text_run *run, const gqa_generate_result *r) {
    char t[32];
    gqa_model_stats stats = *gqa_model_get_stats(run->model);
    double position_bytes = (double)gqa_kv_bytes_per_position(gqa_model_config(run->model), kv_type(run));
    fputc('\n', stderr);
    show_stop(run, r);
    fprintf(stderr, "seed %lld; %s, %d thread%s; load %.3f s; first token after %.3f s\n", (long long)run->settings->seed,
            stats.isa, gqa_session_threads(run->session), gqa_session_threads(run->session) == 1 ? "" : "s",
            run->load_seconds, r->first_token_seconds);
    fprintf(stderr, "prompt: %d token%s, %.1f tok/s; text: %d token%s, %.1f tok/s\n", r->prompt_tokens,
            r->prompt_tokens == 1 ? "" : "s", rate(r->prompt_tokens, r->prefill_seconds), r->generated_tokens,
            r->generated_tokens == 1 ? "" : "s", rate(r->generated_tokens - 1, r->decode_seconds));
    fprintf(stderr, "KV cache: %s, %s a position; %d of %d positions used\n", gqa_type_name(kv_type(run)),
            human_bytes(position_bytes, t), gqa_session_position(run->session), gqa_session_context(run->session));
}

static void show_json(const text_run *run, const char *path, const char *prompt, size_t prompt_len, const sink *out,
                      const gqa_generate_result *r) {
    const gqa_config *config = gqa_model_config(run->model);
    double decoded = r->generated_tokens - 1; /* the first comes with the prompt */
    json_writer j = json_open();
    json_string(&j, "model", path);
    json_text(&j, "prompt", prompt, prompt_len);
    json_text(&j, "text", out->text ? out->text : "", out->len);
    json_string(&j, "stop", stop_name(r->stop));
    json_int(&j, "seed", run->settings->seed);
    json_int(&j, "prompt_tokens", r->prompt_tokens);
    json_int(&j, "generated_tokens", r->generated_tokens);
    json_double(&j, "load_seconds", run->load_seconds);
    json_double(&j, "prefill_seconds", r->prefill_seconds);
    json_double(&j, "first_token_seconds", r->first_token_seconds);
    json_double(&j, "decode_seconds", r->decode_seconds);
    json_double(&j, "prefill_tokens_per_second", rate(r->prompt_tokens, r->prefill_seconds));
    json_double(&j, "decode_tokens_per_second", rate(decoded, r->decode_seconds));
    json_string(&j, "kv", gqa_type_name(kv_type(run)));
    json_int(&j, "kv_bytes_per_position", (int64_t)gqa_kv_bytes_per_position(config, kv_type(run)));
    json_int(&j, "context", gqa_session_context(run->session));
    json_int(&j, "position", gqa_session_position(run->session));
    json_int(&j, "threads", gqa_session_threads(run->session));
    json_string(&j, "isa", gqa_model_get_stats(run->model)->isa);
    json_close(&j);
}

/* ---- prompt ------------------------------------------------------------------------------------------------------ */

/* -i TEXT, -f FILE or nothing. A file's last newline is not part of the prompt: editors and echo put it there. */
static char *read_prompt(const settings *o, size_t *len) {
    if (!o->file) {
        const char *text = o->prompt ? o->prompt : "";
        *len = strlen(text);
        char *copy = malloc(*len + 1);
        if (copy) memcpy(copy, text, *len + 1);
        else fail("no memory for the prompt");
        return copy;
    }
    char *text = read_text(o->file, len);
    if (text && *len && text[*len - 1] == '\n') text[--*len] = 0;
    return text;
}

/* Loads a saved session and goes back to where it and the prompt part; one token at least is left to evaluate. Returns
 * how many tokens need not be, or a negative status after telling why. */
static int load_cache(text_run *run, const char *path, const int32_t *tokens, int n) {
    gqa_error err = {0};
    if (access(path, F_OK)) return 0;
    if (gqa_session_load(run->session, path, &err)) return fail("%s; remove the file to start anew", err.message), -1;
    int held = gqa_session_position(run->session), same = 0;
    const int32_t *have = gqa_session_tokens(run->session);
    while (same < held && same < n && have[same] == tokens[same]) same++;
    if (same == n && same > 0) same--;
    if (gqa_session_rewind(run->session, same, NULL)) {  /* a sliding window has forgotten that part */
        same = 0;
        gqa_session_rewind(run->session, 0, NULL);
    }
    for (int i = 0; i < same; i++) gqa_sampler_accept(run->sampler, tokens[i]);
    return same;
}

/* Evaluates the prompt. Returns 0, or a negative status. */
static int feed_prompt(text_run *run, const settings *o, const char *prompt, size_t len, gqa_generate_result *r) {
    unsigned flags = (o->no_bos ? 0u : GQA_TOKENIZE_BOS) | (o->special ? GQA_TOKENIZE_SPECIAL : 0u);
    gqa_error err = {0};
    int n, skip = 0;
    int32_t *tokens = text_tokenize(run->model, prompt, len, flags, &n);
    if (!tokens) return -1;
    int status = 0;
    if (n == 0) {
        fail("the prompt is empty and no token stands for the beginning of a text: give a prompt with -i or -f");
        status = -1;
    } else if (o->cache) {
        skip = load_cache(run, o->cache, tokens, n);
        status = skip < 0 ? skip : 0;
    }
    if (!status) status = text_feed(run, tokens + skip, n - skip, &r->prefill_seconds);
    if (!status) r->prompt_tokens = n - skip;
    if (!status && o->cache && gqa_session_save(run->session, o->cache, &err)) status = -fail("%s", err.message);
    free(tokens);
    return status;
}

/* ---- the command ------------------------------------------------------------------------------------------------- */

static int generate(text_run *run, const settings *o, const char *path, const char *prompt, size_t len) {
    gqa_error err = {0};
    gqa_generate_result r = {0}, made = {0};
    sink out = {.keep = o->json};
    gqa_generate_options go = {.max_tokens = o->text.max_tokens, .stop = o->text.stop.items, .n_stop = o->text.stop.n,
                               .tokenize_flags = GQA_TOKENIZE_NONE, .ignore_end = o->text.ignore_end};
    if (!o->json && !o->no_echo && put(&out, prompt, len)) return finish_stdout();
    int status = feed_prompt(run, o, prompt, len, &r);
    if (!status) status = gqa_generate(run->session, run->sampler, "", &go, put, &out, &made, &err);
    if (status == GQA_ERR_CANCELLED) made.stop = GQA_STOP_CALLER;
    else if (status && err.code) fail("%s", err.message);
    int ok = !status || status == GQA_ERR_CANCELLED;
    made.prompt_tokens = r.prompt_tokens;
    made.first_token_seconds += r.prefill_seconds;
    made.prefill_seconds = r.prefill_seconds;
    if (ok && out.failed && o->json) ok = !fail("no memory for the text");
    if (ok && o->json) show_json(run, path, prompt, len, &out, &made);
    else if (!o->json && out.last != '\n' && (ok || out.last)) putchar('\n');
    free(out.text);
    if (finish_stdout() || !ok) return EXIT_FAILURE;
    if (!o->text.quiet) show_stats(run, &made);
    return interrupted() ? EXIT_INTERRUPTED : EXIT_SUCCESS;
}

static int check(settings *o, const char *words[2], int n_words) {
    for (int i = 0; i < o->text.stop.n; i++)
        if (!*o->text.stop.items[i]) return usage_error("--stop: the text to stop at is empty");
    if (n_words == 2) {
        if (strcmp(words[1], "-")) return usage_error("\"%s\" is one argument too many; a prompt goes after -i", words[1]);
        if (o->file) return usage_error("give the prompt once: -f FILE or -");
        o->file = "-";
    }
    if (n_words == 0) return usage_error("which model? usage: run MODEL [options]");
    if (o->prompt && o->file) return usage_error("give the prompt once: -i TEXT or -f FILE");
    return -1;
}

int command_generate(int argc, char **argv) {
    settings o = {0};
    text_settings_init(&o.text);
    const opt options[] = {
        {"-i TEXT", OPT_STRING, &o.prompt, 0, 0, "prompt"},
        {"-f FILE", OPT_STRING, &o.file, 0, 0, "prompt from a file without its last newline; -: standard input"},
        {"-n N", OPT_INT, &o.text.max_tokens, 0, INT32_MAX, "tokens to generate (default 256); 0: until the context is full"},
        {"-t T", OPT_FLOAT, &o.text.sampling.temperature, 0, 1000, "temperature (default 1.0); 0: always the likeliest token"},
        {"--no-bos", OPT_FLAG, &o.no_bos, 0, 0, "no beginning-of-sequence token before the prompt"},
        {"--special", OPT_FLAG, &o.special, 0, 0, "text like <|im_end|> in the prompt is the special token"},
        {"--no-echo", OPT_FLAG, &o.no_echo, 0, 0, "do not print the prompt before the text"},
        {"--prompt-cache FILE", OPT_STRING, &o.cache, 0, 0, "keep the evaluated prompt in FILE, and use what is there"},
        {"--json", OPT_FLAG, &o.json, 0, 0, "one JSON object with the text and the measurements"},
        OPT_END,
    };
    const char *words[2] = {NULL, NULL};
    int n_words = 0;
    int code = parse_options(argc, argv, TABLES(options, o.text.options), words, 2, &n_words,
                             "run MODEL [options]\n\nWrites text that goes on from the prompt. Only text goes to stdout; Ctrl-C ends it\n"
                             "cleanly with exit code 130.");
    if (code >= 0) return code;
    code = check(&o, words, n_words);
    if (code >= 0) return code;
    size_t len = 0;
    char *prompt = read_prompt(&o, &len);
    if (!prompt) return EXIT_FAILURE;
    text_run run = {0};
    code = text_open(&run, words[0], &o.text);
    if (code == EXIT_SUCCESS) code = generate(&run, &o, words[0], prompt, len);
    text_close(&run);
    free(prompt);
    return code;
}
