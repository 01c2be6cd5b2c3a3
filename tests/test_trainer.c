/* test_trainer.c: steps on any number of threads, resuming, validation, and the files that a
 * trainer writes. */
#include "tiny_trainer.h"

/* A trainer of that dropout and number of threads, after some of its 60 steps. */
static gqa_trainer *train_model(gqa_config c, float dropped, int threads, int steps,
                                const gqa_dataset *d, gqa_step_result *last) {
    gqa_train_options o = {
        .steps = 60, .batch = 6, .micro_batch = 3, .seed = 9, .n_threads = threads, .rate = 0.01f,
        .dropout = dropped,
    };
    gqa_error err = {0};
    gqa_trainer *t = tiny_trainer(&c, &o);
    for (int i = 0; i < steps; i++)
        CHECK(gqa_trainer_step(t, d, last, &err) == 0, "%s", err.message);
    return t;
}

static gqa_trainer *train_some(float dropped, int threads, int steps, const gqa_dataset *d,
                               gqa_step_result *last) {
    return train_model(tiny_config(2, 1), dropped, threads, steps, d, last);
}

static int same_weights(gqa_trainer *a, gqa_trainer *b) {
    const char *name;
    for (int i = 0; (name = gqa_trainer_tensor_name(a, i)); i++) {
        size_t n;
        float *x = gqa_trainer_weights(a, name, &n);
        if (memcmp(x, gqa_trainer_weights(b, name, NULL), n * sizeof *x)) return 0;
    }
    return 1;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void test_threads(gqa_config c, float dropped) {
    gqa_dataset d = cycle(800);
    gqa_step_result r = {0}, other;
    gqa_trainer *one = train_model(c, dropped, 1, 60, &d, &r);
    gqa_trainer *three = train_model(c, dropped, 3, 60, &d, &other);
    CHECK(same_weights(one, three), "1 and 3 threads give different weights");
    CHECK(r.loss < (dropped > 0 ? 2 : 1), "loss %g after 60 steps", r.loss);
    CHECK(r.rate < 0.0011 && r.rate > 0.0009, "last rate %g", r.rate);
    gqa_trainer_free(one);
    gqa_trainer_free(three);
    gqa_dataset_free(&d);
}

/* 25 steps, a file, 35 steps: the same bits as 60 steps. */
static void test_resume(gqa_config c, float dropped) {
    gqa_dataset d = cycle(800);
    uint64_t text = gqa_dataset_fingerprint(&d);
    gqa_step_result r = {0}, again = {0};
    gqa_error err = {0};
    const char *path = scratch_path("state.gguf");
    gqa_trainer *whole = train_model(c, dropped, 1, 60, &d, &r);
    gqa_trainer *first = train_model(c, dropped, 2, 25, &d, &again);
    gqa_trainer *second = train_model(c, dropped, 2, 0, &d, &again);
    CHECK(gqa_trainer_save(first, NULL, text, NULL, path, &err) == 0, "%s", err.message);
    mapped_file file;
    if (file_open(&file, path)) {
        CHECK(gqa_trainer_resume(second, text, NULL, &file.c, &err) == 0, "%s", err.message);
        CHECK(gqa_trainer_steps_done(second) == 25, "%d steps", gqa_trainer_steps_done(second));
    }
    for (int i = 25; i < 60; i++) gqa_trainer_step(second, &d, &again, &err);
    CHECK(same_weights(whole, second) && again.loss == r.loss, "a resumed run gives other bits");
    file_close(&file);
    unlink(path);
    gqa_trainer_free(whole);
    gqa_trainer_free(first);
    gqa_trainer_free(second);
    gqa_dataset_free(&d);
}

static void test_resume_options(void) {
    gqa_dataset d = cycle(800);
    uint64_t text = gqa_dataset_fingerprint(&d);
    gqa_step_result r;
    gqa_error err = {0};
    const char *path = scratch_path("options.gguf");
    gqa_config c = tiny_config(2, 1);
    gqa_trainer *saved = train_some(0, 2, 25, &d, &r);
    gqa_train_options o = saved->opt;
    o.steps = 61;
    gqa_trainer *t = tiny_trainer(&c, &o);
    CHECK(gqa_trainer_save(saved, NULL, text, NULL, path, &err) == 0, "%s", err.message);
    mapped_file file;
    if (file_open(&file, path)) {
        CHECK(gqa_trainer_resume(t, text, NULL, &file.c, &err) < 0, "another number of steps");
        CHECK_HAS(err.message, "gqa.train.steps");
    }
    file_close(&file);
    unlink(path);
    gqa_trainer_free(saved);
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
}

/* A stopped step and a stopped validation change nothing: the same bits follow. */
static void test_stop(void) {
    gqa_dataset d = cycle(800);
    gqa_step_result r, again;
    gqa_validation v;
    gqa_error err = {0};
    atomic_int stop = 1;
    gqa_trainer *whole = train_some(0, 1, 5, &d, &r), *t = train_some(0, 2, 3, &d, &again);
    t->opt.stop = &stop;
    CHECK(gqa_trainer_step(t, &d, &again, &err) == GQA_ERR_CANCELLED, "%s", err.message);
    CHECK(gqa_trainer_validate(t, &d, 0, &v, &err) == GQA_ERR_CANCELLED, "%s", err.message);
    CHECK(gqa_trainer_steps_done(t) == 3, "%d steps", gqa_trainer_steps_done(t));
    /* So does a unit of attention, which may take seconds where sequences are long. */
    pass p = {.k = t->k, .net = &t->net, .back = &t->back, .scratch = t->scratch, .stop = &stop};
    float *attn = t->net.acts[0].attn, *dq = t->back.dqkv, kept = attn[0], kept_dq = dq[0];
    attn[0] = dq[0] = 77;
    train_attention_forward(&p, &t->net, &t->net.acts[0], 0, 0);
    train_attention_backward(&p, &t->net.acts[0], 0, 0);
    CHECK(attn[0] == 77 && dq[0] == 77, "attention goes on");
    attn[0] = kept;
    dq[0] = kept_dq;
    stop = 0;
    for (int i = 3; i < 5; i++)
        CHECK(gqa_trainer_step(t, &d, &again, &err) == 0, "%s", err.message);
    CHECK(same_weights(whole, t) && again.loss == r.loss, "a stopped step left something");
    gqa_trainer_free(whole);
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
}

/* Loss and gradients of one step differ by rounding alone. */
static void test_micro_batches(void) {
    gqa_dataset d = cycle(800);
    gqa_config c = tiny_config(2, 1);
    gqa_train_options o = {.steps = 9, .batch = 6, .seed = 9, .n_threads = 2};
    gqa_error err = {0};
    gqa_trainer *t[2];
    gqa_step_result r[2];
    for (int i = 0; i < 2; i++) {
        o.micro_batch = i ? 1 : 6;
        t[i] = tiny_trainer(&c, &o);
        CHECK(gqa_trainer_step(t[i], &d, &r[i], &err) == 0, "%s", err.message);
    }
    CHECK(fabs(r[0].loss - r[1].loss) < 1e-6, "loss %.9f, in parts %.9f", r[0].loss, r[1].loss);
    double worst = 0;
    for (size_t i = 0; i < t[0]->net.n_params; i++)
        worst = fmax(worst, fabs((double)t[0]->net.grads[i] - (double)t[1]->net.grads[i]));
    CHECK(worst < 1e-6 * r[0].grad_norm, "gradients differ by %g", worst);
    gqa_trainer_free(t[0]);
    gqa_trainer_free(t[1]);
    gqa_dataset_free(&d);
}

/* Length and micro-batch of a model with those layers and context, with a batch of 7. */
static void check_defaults(int layers, int context, int length, int micro_batch) {
    gqa_config c = {
        .dim = 576, .n_layers = layers, .n_heads = 9, .n_kv_heads = 3, .head_dim = 64,
        .ffn_dim = 1536, .vocab_size = 300, .context_length = context,
    };
    gqa_train_options o = {.steps = 1, .batch = 7, .n_threads = 1};
    gqa_trainer *t = tiny_trainer(&c, &o);
    CHECK(t->opt.length == length, "length %d, expected %d", t->opt.length, length);
    CHECK(t->opt.micro_batch == micro_batch, "%d sequences at once, expected %d",
          t->opt.micro_batch, micro_batch);
    gqa_trainer_free(t);
}

/* Sizes that wrap around in 32 bits: 2^32 bytes of embeddings, 2^38 of scores. */
static void test_too_large(void) {
    gqa_config c = {
        .dim = 64, .n_layers = 1, .n_heads = 4096, .n_kv_heads = 1, .head_dim = 2, .ffn_dim = 32,
        .vocab_size = 1 << 24, .context_length = 1 << 24,
    };
    gqa_train_options o = {.steps = 1, .batch = 1, .length = 1 << 24, .n_threads = 1};
    gqa_error err = {0};
    gqa_trainer *t = sizeof(size_t) > 4 ? NULL : gqa_trainer_new(&c, &o, &err);
    CHECK(!t, "a model of 2^30 weights was accepted");
    if (sizeof(size_t) <= 4) CHECK_HAS(err.message, "no memory");
    gqa_trainer_free(t);
}

/* ---- the text of a saved run ----------------------------------------------------------------- */

static void test_fingerprint(void) {
    static const size_t places[] = {0, 1, 150, 299, 300};
    gqa_dataset d = cycle(301);
    uint64_t text = gqa_dataset_fingerprint(&d);
    for (size_t i = 0; i < array_length(places); i++) {
        d.tokens[places[i]] ^= 1;
        CHECK(gqa_dataset_fingerprint(&d) != text, "token %zu does not count", places[i]);
        d.tokens[places[i]] ^= 1;
    }
    d.n_tokens--;
    CHECK(gqa_dataset_fingerprint(&d) != text, "the last token does not count");
    d.n_tokens++;
    CHECK(gqa_dataset_fingerprint(&d) == text, "the same tokens have another fingerprint");
    gqa_dataset_free(&d);
}

/* A saved run of three steps, in memory, where a test may change it. */
typedef struct saved_run {
    uint8_t *data;
    size_t size;
    uint64_t text;
    gqa_trainer *fresh;  /* of the same options, before its first step */
} saved_run;

static saved_run save_run(gqa_config c) {
    gqa_dataset d = cycle(301);
    gqa_step_result r;
    gqa_error err = {0};
    const char *path = scratch_path("text.state");
    gqa_trainer *t = train_model(c, 0, 1, 3, &d, &r);
    saved_run s = {.text = gqa_dataset_fingerprint(&d)};
    s.fresh = train_model(c, 0, 1, 0, &d, &r);
    CHECK(gqa_trainer_save(t, NULL, s.text, NULL, path, &err) == 0, "%s", err.message);
    mapped_file file;
    if (!file_open(&file, path)) exit(test_end());
    s.size = file.map.size;
    s.data = malloc(s.size);
    memcpy(s.data, file.map.data, s.size);
    file_close(&file);
    unlink(path);
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
    return s;
}

static void free_run(saved_run *s) {
    free(s->data);
    gqa_trainer_free(s->fresh);
}

/* The bytes after that text in the file. */
static uint8_t *after(const saved_run *s, const char *text) {
    size_t n = strlen(text);
    for (size_t i = 0; i + n <= s->size; i++)
        if (!memcmp(s->data + i, text, n)) return s->data + i + n;
    CHECK(0, "no %s in the file", text);
    exit(test_end());
}

/* Resuming with that text must fail with a message that holds `expected`, and leave the trainer
 * as it was. */
static void check_refused(const saved_run *s, uint64_t text, const char *expected) {
    gqa_checkpoint file;
    gqa_error err = {0};
    int status = gqa_checkpoint_read(&file, s->data, s->size, "a.state", &err);
    if (!CHECK(status == 0, "%s", err.message)) return;
    status = gqa_trainer_resume(s->fresh, text, NULL, &file, &err);
    CHECK(status < 0, "accepted, expected: %s", expected);
    CHECK(gqa_trainer_steps_done(s->fresh) == 0, "steps are done");
    CHECK_HAS(err.message, expected);
    CHECK_HAS(err.message, "a.state");
    gqa_checkpoint_free(&file);
}

static void test_other_text(void) {
    saved_run s = save_run(tiny_config(2, 1));
    char expected[80];
    snprintf(expected, sizeof expected, "expected tokens with fingerprint %016llx, got %016llx",
             (unsigned long long)s.text, (unsigned long long)s.text + 1);
    check_refused(&s, s.text + 1, "a different text");
    check_refused(&s, s.text + 1, expected);
    free_run(&s);
}

static void test_no_text(void) {
    saved_run s = save_run(tiny_config(2, 1));
    after(&s, "gqa.train.tex")[0] = 'T';
    check_refused(&s, s.text, "gqa.train.text: expected an i64, got nothing");
    free_run(&s);
}

static void test_state_version(void) {
    saved_run s = save_run(tiny_config(2, 1));
    uint8_t *end = after(&s, "gqa.train.state_version");
    end[4] = 3; /* after the key its type, then the number */
    check_refused(&s, s.text, "version 2, got version 3");
    end[4] = 2;
    end[-1] = 'N'; /* another key: as files were before they had a version */
    check_refused(&s, s.text, "version 2, got version 1, which does not record its text");
    free_run(&s);
}

/* A tensor of fewer heads than the model has. */
static void test_fewer_heads(void) {
    saved_run s = save_run(tiny_latent(1));
    uint8_t *dims = after(&s, "blk.1.attn_k_b.weight") + 4; /* after their number */
    CHECK(dims[16] == 4, "%d heads", dims[16]);
    dims[16] = 3;
    check_refused(&s, s.text, "blk.1.attn_k_b.weight: expected [4, 32, 7], got [3, 32, 7]");
    free_run(&s);
}

/* ---- validation ------------------------------------------------------------------------------ */

/* Mean of -log p of the tokens that follow each other in n windows, by the runtime. */
static double runtime_loss(gqa_trainer *t, const gqa_dataset *d, int n) {
    int length = t->opt.length, vocab = gqa_trainer_config(t)->vocab_size;
    const char *path = scratch_path("validate.gguf");
    gqa_error err = {0};
    gqa_session_options exact = {.kv = "f32"};
    float *logits = malloc(sizeof *logits * (size_t)(length * vocab));
    double *z = malloc(sizeof *z * (size_t)vocab), sum = 0;
    int status = gqa_trainer_export(t, NULL, GQA_TYPE_F32, NULL, path, &err);
    gqa_model *m = status ? NULL : gqa_model_open(path, NULL, &err);
    gqa_session *s = m ? gqa_session_new(m, &exact, &err) : NULL;
    CHECK(s, "%s", err.message);
    for (int w = 0; s && w < n; w++) {
        const int32_t *window = d->tokens + w * length;
        gqa_session_rewind(s, 0, NULL);
        status = gqa_session_eval_all(s, window, length, logits, &err);
        if (!CHECK(status == 0, "%s", err.message)) break;
        for (int i = 0; i < length; i++) {
            for (int k = 0; k < vocab; k++) z[k] = (double)logits[i * vocab + k];
            sum += log_sum_exp(z, vocab) - z[window[i + 1]];
        }
    }
    gqa_session_free(s);
    gqa_model_close(m);
    unlink(path);
    free(logits);
    free(z);
    return sum / (n * length);
}

/* The same by the reference. */
static double windows_loss(gqa_trainer *t, const gqa_dataset *d, int n) {
    ref_model ref;
    ref_layer layers[TINY_LAYERS];
    double sum = 0;
    refer(t, &ref, layers);
    for (int w = 0; w < n; w++)
        sum += reference_loss(&ref, NULL, 0, 0, d->tokens + w * TINY_LENGTH, 1, TINY_LENGTH);
    return sum / n;
}

/* A text whose bytes are counted: white space around a document and markers are none of them. */
enum { DOCUMENTS = 14, DOCUMENT_BYTES = 40 };

static void write_owls(char *text, size_t size) {
    text[0] = 0;
    for (int i = 0; i < DOCUMENTS; i++) {
        size_t used = strlen(text);
        snprintf(text + used, size - used, " %s The owl %c saw %d cats on an old wet hut.\n",
                 i ? GQA_DOCUMENT_END : "", 'a' + i, 10 + i);
    }
}

static void check_validation(gqa_trainer *t, const gqa_dataset *d, int max_windows, int windows) {
    gqa_validation v = {0};
    gqa_error err = {0};
    double runtime = runtime_loss(t, d, windows), reference = windows_loss(t, d, windows);
    double bits = runtime / log(2) * (double)d->n_tokens / (DOCUMENTS * DOCUMENT_BYTES);
    CHECK(gqa_trainer_validate(t, d, max_windows, &v, &err) == 0, "%s", err.message);
    CHECK(v.n_tokens == (uint64_t)windows * TINY_LENGTH, "%llu tokens in %d windows",
          (unsigned long long)v.n_tokens, windows);
    CHECK(fabs(v.nats_per_token - runtime) < 1e-4, "%.7f nats per token, the runtime has %.7f",
          v.nats_per_token, runtime);
    CHECK(fabs(v.nats_per_token - reference) < 1e-4, "%.7f nats per token, the reference has %.7f",
          v.nats_per_token, reference);
    CHECK(fabs(v.bits_per_byte - bits) < 1e-4, "%.7f bits per byte, expected %.7f",
          v.bits_per_byte, bits);
}

/* Dropout must not touch a validation, nor a micro-batch that is not full. */
static void test_validate(gqa_config c) {
    char text[1024];
    gqa_vocab *vocab = NULL;
    gqa_dataset d = {0};
    gqa_error err = {0};
    gqa_train_options o = {.steps = 1, .batch = 3, .dropout = 0.5f, .seed = 6, .n_threads = 2};
    write_owls(text, sizeof text);
    int status = gqa_bpe_train(&vocab, text, strlen(text), 300, &err);
    if (!status) status = gqa_dataset_add(&d, vocab, text, strlen(text), &err);
    if (!CHECK(status == 0, "%s", err.message)) return;
    c.vocab_size = gqa_vocab_count(vocab);
    gqa_trainer *t = tiny_trainer(&c, &o);
    int all = (int)(d.n_tokens - 1) / TINY_LENGTH;
    int in_last = all - all / 3 * 3;
    CHECK(all > 6 && in_last > 0, "%d windows fill the last micro-batch", all);
    randomise(t, 31);
    check_validation(t, &d, 0, all);
    check_validation(t, &d, 5, 5);
    d.n_tokens = TINY_LENGTH;
    status = gqa_trainer_validate(t, &d, 0, &(gqa_validation){0}, &err);
    CHECK(status < 0, "13 tokens are no window");
    CHECK_HAS(err.message, "13 tokens, a sequence needs 14");
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
    gqa_vocab_free(vocab);
}

/* ---- exported files -------------------------------------------------------------------------- */

/* What the runtime computes from an exported file is what the trainer computed. */
static void test_export(void) {
    enum { N_LOGITS = TINY_LENGTH * TINY_VOCAB };
    gqa_dataset d = cycle(300);
    gqa_step_result r;
    gqa_error err = {0};
    gqa_trainer *t = train_some(0, 2, 10, &d, &r);
    const char *path = scratch_path("out.gguf");
    gqa_train_record record = {"run train", &(gqa_validation){1.5, 0.7, 100}};
    static float logits[N_LOGITS], got[N_LOGITS];
    double loss, worst = 0;
    int status = gqa_trainer_export(t, NULL, GQA_TYPE_F32, &record, path, &err);
    CHECK(status == 0, "%s", err.message);
    status = gqa_trainer_gradient(t, d.tokens, 1, &loss, logits, &err);
    CHECK(status == 0, "%s", err.message);
    gqa_model *m = gqa_model_open(path, NULL, &err);
    gqa_session_options exact = {.kv = "f32"};
    gqa_session *s = m ? gqa_session_new(m, &exact, &err) : NULL;
    status = s ? gqa_session_eval_all(s, d.tokens, TINY_LENGTH, got, &err) : -1;
    CHECK(status == 0, "%s", err.message);
    for (int i = 0; i < N_LOGITS; i++)
        worst = test_worse(worst, fabs((double)(got[i] - logits[i])));
    CHECK(worst < 1e-4, "logits differ by %g", worst);
    gqa_session_free(s);
    gqa_model_close(m);
    unlink(path);
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
}

static void test_export_type(void) {
    gqa_dataset d = cycle(300);
    gqa_step_result r;
    gqa_error err = {0};
    gqa_trainer *t = train_some(0, 1, 0, &d, &r);
    const char *path = scratch_path("q8_0.gguf");
    int status = gqa_trainer_export(t, NULL, GQA_TYPE_Q8_0, NULL, path, &err);
    CHECK(status == GQA_ERR_ARGUMENT, "24 columns are no q8_0 block");
    CHECK_HAS(err.message, "rows of 24 values cannot be stored as q8_0");
    CHECK(access(path, F_OK) != 0, "a file is written");
    gqa_trainer_free(t);
    gqa_dataset_free(&d);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    const gqa_config gqa2 = tiny_config(2, 1), mla = tiny_latent(1), gta = tiny_tied(1);
    TEST("any number of threads") test_threads(gqa2, 0);
    TEST("any number of threads, dropout") test_threads(gqa2, 0.1f);
    TEST("any number of threads, MLA") test_threads(mla, 0);
    TEST("resume") test_resume(gqa2, 0);
    TEST("resume, dropout") test_resume(gqa2, 0.1f);
    TEST("resume, MLA") test_resume(mla, 0);
    TEST("resume, GTA") test_resume(gta, 0);
    TEST("resume with other options") test_resume_options();
    TEST("a stopped step") test_stop();
    TEST("micro-batches") test_micro_batches();
    TEST("length and micro-batch by default") {
        check_defaults(30, 8192, 512, 1); /* 7 sequences would take more than 2 GiB */
        check_defaults(1, 8192, 512, 7);
        check_defaults(1, 256, 256, 7);
    }
    TEST("a model that is too large") test_too_large();
    TEST("fingerprint of a text") test_fingerprint();
    TEST("resume with another text") test_other_text();
    TEST("resume a run without its text") test_no_text();
    TEST("resume a run with fewer heads in a tensor") test_fewer_heads();
    TEST("resume a run of another version") test_state_version();
    TEST("validation") test_validate(gqa2);
    TEST("validation, MLA") test_validate(mla);
    TEST("validation, GTA") test_validate(gta);
    TEST("export") test_export();
    TEST("export in a type that does not fit") test_export_type();
    return test_end();
}
