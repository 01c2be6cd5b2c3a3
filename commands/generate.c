/* generate.c: `run MODEL`: the text on stdout, everything else on stderr. */
#include <string.h>

#include "choice.h"
#include "json.h"
#include "terminal.h"

typedef struct settings {
    text_settings text;
    const char *prompt, *file, *cache;
    int no_bos, special, json, no_echo;
} settings;

/* Where the text goes. */
typedef struct output {
    int keep;            /* in text, for JSON; else to stdout */
    int failed;
    char *text;
    size_t len, capacity;
    char last;           /* byte written; 0: none yet */
    choice_state choice;
} output;

static int put(void *user, const char *text, size_t len) {
    output *out = user;
    if (len == 0) return 0;
    out->last = text[len - 1];
    if (!out->keep) {
        out->failed = write_text(stdout, text, len) || fflush(stdout);
        stdout_text(out->last == '\n');
        return out->failed;
    }
    if (out->capacity - out->len < len) {
        size_t capacity = (out->len + len) * 2;
        char *grown = realloc(out->text, capacity);
        if (!grown) return out->failed = 1;
        out->text = grown;
        out->capacity = capacity;
    }
    memcpy(out->text + out->len, text, len);
    out->len += len;
    return 0;
}

static int on_text(void *user, const char *text, size_t len) {
    return put(user, text, len) || interrupted();
}

static int on_logits(void *user, const int32_t *tokens, int n_tokens, float *logits, int n_vocab) {
    output *out = user;
    (void)tokens;
    (void)n_tokens;
    return allow_choices(&out->choice, logits, n_vocab);
}

static int on_token(void *user, int32_t token, float log_probability) {
    output *out = user;
    (void)log_probability;
    add_to_choice(&out->choice, token);
    return 0;
}

/* ---- the report ----------------------------------------------------------------------------- */

static double rate(double count, double seconds) {
    return count > 0 && seconds > 0 ? count / seconds : 0;
}

static const char *stop_name(gqa_stop stop) {
    static const char *const names[] = {"", "length", "end", "string", "context", "interrupted"};
    return names[stop];
}

static void show_stop(const text_run *run, const gqa_generate_result *r) {
    int context = gqa_session_context(run->session);
    int trained = gqa_model_config(run->model)->context_length;
    if (r->stop == GQA_STOP_CONTEXT && context < trained)
        fprintf(stderr, "context full: %d positions; -c N allows more (trained for %d)\n", context,
                trained);
    else if (r->stop == GQA_STOP_CONTEXT)
        fprintf(stderr, "context full: %d positions, what the model was trained for\n", context);
    else if (r->stop == GQA_STOP_END)
        fprintf(stderr, "the model ended the text\n");
    else if (r->stop == GQA_STOP_STRING)
        fprintf(stderr, "stopped at a stop string\n");
    else if (r->stop == GQA_STOP_LENGTH)
        fprintf(stderr, "stopped after %d token%s; -n N allows more\n", r->generated_tokens,
                plural(r->generated_tokens));
    else
        fprintf(stderr, "interrupted\n");
}

static const char *kv_type(const text_run *run) {
    return run->settings->kv ? run->settings->kv : "f16";
}

static uint64_t position_bytes(const text_run *run) {
    return kv_cache_bytes(run->model, kv_type(run), 1);
}

static void show_stats(const text_run *run, const gqa_generate_result *r) {
    char bytes[32];
    int n_threads = gqa_session_threads(run->session);
    fputc('\n', stderr);
    show_stop(run, r);
    const gqa_model_stats *stats = gqa_model_get_stats(run->model);
    fprintf(stderr, "seed %lld; %s%s%s, %d thread%s; load %.3f s; first token after %.3f s\n",
            (long long)run->settings->seed, stats->isa,
            stats->fast_prefill ? ", fast prefill" : "", run->settings->exact ? ", exact" : "",
            n_threads, plural(n_threads), run->load_seconds, r->first_token_seconds);
    fputs("prompt: ", stderr);
    show_tokens(r->prompt_tokens, r->prompt_tokens, r->prefill_seconds);
    fputs("; text: ", stderr); /* its first token comes with the prompt */
    show_tokens(r->generated_tokens, r->generated_tokens - 1, r->decode_seconds);
    fputc('\n', stderr);
    show_speculation(run, r);
    fprintf(stderr, "KV cache: %s, %s a position; %d of %d positions used\n",
            kv_type(run), human_bytes((double)position_bytes(run), bytes),
            gqa_session_position(run->session), gqa_session_context(run->session));
}

static void show_json(const text_run *run, const char *path, const char *prompt, size_t prompt_len,
                      const output *out, const gqa_generate_result *r) {
    int decoded = r->generated_tokens - 1; /* the first one comes with the prompt */
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
    if (run->settings->lookup || run->draft) {
        json_int(&j, "proposed_tokens", r->proposed_tokens);
        json_int(&j, "accepted_tokens", r->accepted_tokens);
        json_double(&j, "speculation_gain", r->speculation_gain);
    }
    json_string(&j, "kv", kv_type(run));
    json_int(&j, "kv_bytes_per_position", (int64_t)position_bytes(run));
    json_int(&j, "context", gqa_session_context(run->session));
    json_int(&j, "position", gqa_session_position(run->session));
    json_int(&j, "threads", gqa_session_threads(run->session));
    json_string(&j, "isa", gqa_model_get_stats(run->model)->isa);
    json_bool(&j, "fast_prefill", gqa_model_get_stats(run->model)->fast_prefill);
    json_bool(&j, "exact", run->settings->exact);
    json_close(&j);
}

/* ---- the prompt ----------------------------------------------------------------------------- */

/* "\r\n" becomes "\n". Returns the new length. */
static size_t join_line_ends(char *text, size_t len) {
    size_t kept = 0;
    for (size_t i = 0; i < len; i++)
        if (text[i] != '\r' || i + 1 == len || text[i + 1] != '\n') text[kept++] = text[i];
    text[kept] = 0;
    return kept;
}

/* -i TEXT, -f FILE or nothing. A file's last newline, which editors and echo put there, is not part
 * of the prompt. */
static char *read_prompt(const settings *o, size_t *len) {
    if (!o->file) {
        char *copy = strdup(o->prompt ? o->prompt : "");
        if (copy) *len = strlen(copy);
        else fail("out of memory for the prompt");
        return copy;
    }
    char *text = read_text(o->file, len);
    if (text) *len = join_line_ends(text, *len);
    if (text && *len && text[*len - 1] == '\n') text[--*len] = 0;
    return text;
}

static int32_t *tokenize_prompt(const text_run *run, const settings *o, const char *prompt,
                                size_t len, int *n) {
    unsigned flags = o->no_bos ? 0 : GQA_TOKENIZE_BOS;
    if (o->special) flags |= GQA_TOKENIZE_SPECIAL;
    if (!o->prompt && !o->file && !o->text.quiet && gqa_os_stdin_holds_text())
        fputs("run: note: standard input is not read; -f - takes the prompt from it\n", stderr);
    return text_tokenize(run->model, prompt, len, flags, o->text.quiet, n);
}

/* Loads a saved session, if there is one. 0, or -1 after printing an error. */
static int load_cache(text_run *run, const char *path) {
    gqa_error err = {0};
    if (!gqa_os_exists(path) || !gqa_session_load(run->session, path, &err)) return 0;
    int is_ours = err.code != GQA_ERR_IO && err.code != GQA_ERR_MEMORY;
    fail("%s%s", err.message,
         is_ours ? "; give another name, or remove the file to start over" : "");
    return -1;
}

/* Evaluates the prompt. Returns 0, or a nonzero status after printing an error. *unsaved: why the
 * cache could not be written, which does not keep the text from coming. */
static int eval_prompt(text_run *run, const settings *o, const int32_t *tokens, int n,
                       gqa_generate_result *r, gqa_error *unsaved) {
    int kept;
    if (n == 0)
        return fail("the prompt is empty, and the model has no token for the beginning of a text: "
                    "give a prompt with -i or -f");
    if (o->cache && load_cache(run, o->cache)) return -1;
    int status = text_sync(run, tokens, n, &kept, &r->prefill_seconds);
    if (status) return status;
    text_accept(run, tokens, n);
    r->prompt_tokens = kept == n ? 1 : n - kept; /* the last one is evaluated in any case */
    if (!o->cache || kept == n) return 0;
    hold_signals();
    gqa_session_save(run->session, o->cache, unsaved);
    release_signals();
    return 0;
}

/* ---- the command ---------------------------------------------------------------------------- */

static int generate(text_run *run, const settings *o, const char *path, const char *prompt,
                    size_t len) {
    gqa_error err = {0}, unsaved = {0};
    gqa_generate_result prefill = {0}, r = {0};
    output out = {.keep = o->json, .choice = {.texts = &o->text.choices, .model = run->model}};
    gqa_generate_options go = {
        .max_tokens = o->text.choices.n ? 0 : o->text.max_tokens,
        .stop = o->text.stop.items,
        .n_stop = o->text.stop.n,
        .ignore_end = o->text.ignore_end,
        .on_logits = o->text.choices.n ? on_logits : NULL,
        .on_token = o->text.choices.n ? on_token : NULL,
        .draft = run->draft,
        .lookup = o->text.lookup,
    };
    int n;
    int32_t *tokens = tokenize_prompt(run, o, prompt, len, &n);
    if (!tokens) return EXIT_FAILURE;
    int echoed = o->json || o->no_echo || !put(&out, prompt, len);
    int status = echoed ? eval_prompt(run, o, tokens, n, &prefill, &unsaved) : 0;
    gqa_free(tokens);
    if (!echoed) return finish_stdout();
    if (!status)
        status = gqa_generate_tokens(run->session, run->sampler, NULL, 0, &go, on_text, &out, &r,
                                     &err);
    int cancelled = status == GQA_ERR_CANCELLED, ok = !status || cancelled;
    if (cancelled) r.stop = GQA_STOP_CALLER;
    else if (is_whole_choice(&out.choice)) r.stop = GQA_STOP_END;
    else if (err.code) fail("%s", err.message);
    else if (o->text.choices.n && r.stop == GQA_STOP_CONTEXT) ok = !fail(CHOICE_CUT);
    r.prompt_tokens = prefill.prompt_tokens;
    r.prefill_seconds = prefill.prefill_seconds;
    r.first_token_seconds += prefill.prefill_seconds;
    if (ok && o->json && out.failed) ok = !fail("out of memory for the text");
    if (ok && o->json) show_json(run, path, prompt, len, &out, &r);
    if (ok && !o->json) stdout_text(out.last == '\n');
    end_line();
    free(out.text);
    if (unsaved.code && !o->text.quiet) warning("%s; the prompt is not kept", unsaved.message);
    if (finish_stdout() || !ok) return EXIT_FAILURE;
    if (!o->text.quiet) show_stats(run, &r);
    return interrupted() ? EXIT_INTERRUPTED : EXIT_SUCCESS;
}

/* Returns -1 to go on, else an exit code. */
static int check(settings *o, const char *words[2], int n_words) {
    int is_stdin = n_words == 2 && !strcmp(words[1], "-");
    if (text_check(&o->text)) return EXIT_USAGE;
    if (n_words == 0) return usage_error("no model given; usage: run MODEL [options]");
    if (!!o->prompt + !!o->file + (n_words == 2) > 1)
        return usage_error("give the prompt once: as a second word, -i TEXT or -f FILE");
    if (is_stdin) o->file = "-";
    else if (n_words == 2) o->prompt = words[1];
    return -1;
}

int command_generate(int argc, char **argv) {
    settings o = {0};
    text_settings_init(&o.text);
    const opt options[] = {
        {"-i TEXT", OPT_STRING, &o.prompt, 0, 0, "prompt; also as the word after the model"},
        {"-f FILE", OPT_STRING, &o.file, 0, 0,
         "prompt from a file (-: standard input) without its last line end;\n"
         "CRLF is one line end, as LF"},
        {"--special", OPT_FLAG, &o.special, 0, 0,
         "text such as <|im_end|> in the prompt is that special token"},
        {"--no-bos", OPT_FLAG, &o.no_bos, 0, 0, "no beginning-of-sequence token"},
        {"--no-echo", OPT_FLAG, &o.no_echo, 0, 0, "do not print the prompt before the text"},
        {"--prompt-cache FILE", OPT_STRING, &o.cache, 0, 0,
         "keep the evaluated prompt in FILE, and reuse what it holds"},
        {"--json", OPT_FLAG, &o.json, 0, 0, "print one JSON object: the text and measurements"},
        {"-n N", OPT_INT, &o.text.max_tokens, 0, INT32_MAX,
         "tokens to generate (default 256); 0 or -1: until the context is full"},
        {"-t T", OPT_FLOAT, &o.text.sampling.temperature, 0, 1000,
         "temperature (default 1.0); 0: always the likeliest token"},
        OPT_END,
    };
    const char *words[2] = {NULL, NULL};
    int n_words = 0;
    int code = parse_options(argc, argv, TABLES(options, o.text.options), words, 2, &n_words,
                             "run MODEL [PROMPT] [options]\n\n"
                             "Continues a prompt. Only text goes to stdout. Ctrl-C ends it\n"
                             "cleanly, with exit code 130.");
    if (code < 0) code = check(&o, words, n_words);
    if (code >= 0) return code;
    size_t len = 0;
    char *prompt = read_prompt(&o, &len);
    if (!prompt) return EXIT_FAILURE;
    text_run run = {0};
    code = text_open(&run, words[0], &o.text);
    if (!code) code = generate(&run, &o, words[0], prompt, len);
    text_close(&run);
    free(prompt);
    return code;
}
