/* pack.c: copies every matrix into panels of 16 rows (kernels/kernels.h), once, on all threads; or maps a file that holds
 * such a copy:
 *
 *    0  "gqaPACK1"   8 bytes; the 1 counts layouts of panels
 *    8  fingerprint  u64 of the model
 *   16  bytes        u64 of what follows at 4096
 * 4096  the panels of every matrix, wq of layer 0 first, the classifier last */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/team.h"
#include "model_internal.h"

enum { PACK_CHUNK = 16 };  /* panels a unit of work */

typedef struct job {
    gqa_model *m;
    int n_matrices;
    int *first;                /* [n_matrices + 1] first unit of each matrix */
    const gqa_model_options *opt;
    atomic_int cancelled;
} job;

/* The matrix a unit belongs to: binary search in first[]. */
static int matrix_of(const job *j, int unit) {
    int lo = 0, hi = j->n_matrices;
    while (hi - lo > 1) {
        int mid = (lo + hi) / 2;
        if (j->first[mid] <= unit) lo = mid; else hi = mid;
    }
    return lo;
}

static void pack(gqa_worker *worker, void *arg) {
    job *j = arg;
    int total = j->first[j->n_matrices];
    for_units(u, worker, total) {
        if (atomic_load_explicit(&j->cancelled, memory_order_relaxed)) continue;
        int i = matrix_of(j, u);
        gqa_matrix *w = gqa_model_matrix(j->m, i);
        int begin = (u - j->first[i]) * PACK_CHUNK, end = begin + PACK_CHUNK;
        if (end > gqa_matrix_panels(w)) end = gqa_matrix_panels(w);
        for (int p = begin; p < end; p++) gqa_pack_panel(w, p, (uint8_t *)w->packed + (size_t)p * w->panel_bytes);
        if (worker->id == 0 && j->opt && j->opt->on_progress && j->opt->on_progress(j->opt->user, (double)u / total))
            atomic_store(&j->cancelled, 1);
    }
}

/* Gives each matrix its place in one region; returns the region's size. */
static size_t place(gqa_model *m, int n_matrices, int *first) {
    size_t size = 0;
    int units = 0;
    for (int i = 0; i < n_matrices; i++) {
        gqa_matrix *w = gqa_model_matrix(m, i);
        w->panel_bytes = gqa_panel_bytes(w->type, w->cols);
        w->packed = m->packed ? m->packed + size : NULL;
        size += w->panel_bytes * (size_t)gqa_matrix_panels(w);
        first[i] = units;
        units += (gqa_matrix_panels(w) + PACK_CHUNK - 1) / PACK_CHUNK;
    }
    first[n_matrices] = units;
    return size;
}

static const char magic[8] = {'g', 'q', 'a', 'P', 'A', 'C', 'K', '1'};
enum { HEADER = 4096 };

static void make_header(const gqa_model *m, uint8_t h[HEADER]) {
    uint64_t words[2] = {gqa_model_fingerprint(m), m->packed_bytes};
    memset(h, 0, HEADER);
    memcpy(h, magic, sizeof magic);
    memcpy(h + sizeof magic, words, sizeof words);
}

/* Whether PATH.packed is this model's; then the matrices' panels are there. */
static int map_packed(gqa_model *m, const char *path, int n_matrices, int *first) {
    char beside[1100];
    uint8_t header[HEADER];
    int n = snprintf(beside, sizeof beside, "%s.packed", path);
    if (n < 0 || n >= (int)sizeof beside || gqa_map_open(&m->packed_map, beside, NULL)) return 0;
    make_header(m, header);
    if (m->packed_map.size != HEADER + m->packed_bytes || memcmp(m->packed_map.data, header, HEADER)) {
        gqa_map_close(&m->packed_map);
        return 0;
    }
    m->packed = (uint8_t *)m->packed_map.data + HEADER; /* never written to */
    place(m, n_matrices, first);
    return 1;
}

int gqa_model_save_packed(const gqa_model *m, const char *path, gqa_error *err) {
    gqa_output out;
    uint8_t header[HEADER];
    if (!m->packed) return gqa_fail(err, GQA_ERR_ARGUMENT, "%s: has no repacked weights to save", m->file.path);
    int status = gqa_output_open(&out, path, err);
    if (status) return status;
    make_header(m, header);
    gqa_output_write(&out, header, sizeof header);
    gqa_output_write(&out, m->packed, m->packed_bytes);
    return gqa_output_finish(&out, err);
}

void gqa_model_unpack(gqa_model *m) {
    if (m->packed_map.data) gqa_map_close(&m->packed_map);
    else if (m->packed) gqa_pages_free(m->packed, m->packed_bytes);
    m->packed = NULL;
}

int gqa_model_pack(gqa_model *m, const char *path, const gqa_model_options *opt, gqa_error *err) {
    job j = {.m = m, .n_matrices = m->config.n_layers * GQA_LAYER_MATRICES + 1, .opt = opt};
    int threads = opt && opt->n_threads > 0 ? opt->n_threads : gqa_threads_default();
    gqa_team *team = gqa_team_new(threads);
    j.first = malloc(sizeof(int) * (size_t)(j.n_matrices + 1));
    int status = 0;
    if (!team || !j.first) {
        status = gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory to repack the weights", m->file.path);
        goto done;
    }
    m->packed_bytes = place(m, j.n_matrices, j.first);
    if (path && map_packed(m, path, j.n_matrices, j.first)) goto done;
    m->packed = gqa_pages_alloc(m->packed_bytes, 1);
    if (!m->packed) {
        status = gqa_fail(err, GQA_ERR_MEMORY, "%s: no memory for %zu bytes of repacked weights (--no-repack needs none)",
                          m->file.path, m->packed_bytes);
        m->packed_bytes = 0;
        goto done;
    }
    place(m, j.n_matrices, j.first);
    if (m->packed_bytes < (1u << 22)) threads = 1;
    gqa_team_run(team, threads, pack, &j);
    if (atomic_load(&j.cancelled))
        status = gqa_fail(err, GQA_ERR_CANCELLED, "%s: loading was cancelled", m->file.path);
    m->stats.packed_bytes = m->packed_bytes;
done:
    gqa_team_free(team);
    free(j.first);
    return status;
}
