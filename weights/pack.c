/* pack.c: copies every matrix into panels of 16 rows (kernels/kernels.h), once, on all threads;
 * or maps a file that holds such a copy:
 *
 *    0  "gqaPACK1"   8 bytes; the 1 is the version of the panels' layout
 *    8  fingerprint  u64 of the model
 *   16  bytes        u64 of what follows at 4096
 * 4096  the panels of every matrix, wq of layer 0 first, the classifier last */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../kernels/team.h"
#include "model_internal.h"

enum { PACK_HEADER = 4096, PACK_CHUNK = 16 /* panels a unit of work */ };

typedef struct pack_job {
    gqa_model *m;
    int n_matrices;
    int *first_unit;           /* [n_matrices + 1] of each matrix */
    const gqa_model_options *opt;
    atomic_int cancelled;
} pack_job;

/* ---- panels ------------------------------------------------------------------------------ */

/* The matrix a unit belongs to: binary search in first_unit. */
static int matrix_of_unit(const pack_job *j, int unit) {
    int low = 0, high = j->n_matrices;
    while (high - low > 1) {
        int mid = (low + high) / 2;
        if (j->first_unit[mid] <= unit) low = mid;
        else high = mid;
    }
    return low;
}

static int is_cancelled(const gqa_model_options *opt, double done) {
    return opt && opt->on_progress && opt->on_progress(opt->user, done);
}

static void pack_units(gqa_worker *me, void *arg) {
    pack_job *j = arg;
    int total = j->first_unit[j->n_matrices];
    for_units(u, me, total) {
        if (atomic_load_explicit(&j->cancelled, memory_order_relaxed)) continue;
        int i = matrix_of_unit(j, u), panel = (u - j->first_unit[i]) * PACK_CHUNK;
        gqa_matrix *w = gqa_model_matrix(j->m, i);
        int end = min_int(panel + PACK_CHUNK, gqa_matrix_panels(w));
        uint8_t *dst = (uint8_t *)w->packed + (size_t)panel * w->panel_bytes;
        for (; panel < end; panel++, dst += w->panel_bytes) gqa_pack_panel(w, panel, dst);
        if (me->id == 0 && is_cancelled(j->opt, (double)u / total)) atomic_store(&j->cancelled, 1);
    }
}

/* Gives each matrix its offset in m->packed (NULL: none yet); returns the size of them all. */
static size_t assign_panels(gqa_model *m, pack_job *j) {
    size_t size = 0;
    int units = 0;
    for (int i = 0; i < j->n_matrices; i++) {
        gqa_matrix *w = gqa_model_matrix(m, i);
        int panels = gqa_matrix_panels(w);
        w->panel_bytes = gqa_panel_bytes(w->type, w->cols);
        w->packed = m->packed ? m->packed + size : NULL;
        size += w->panel_bytes * (size_t)panels;
        j->first_unit[i] = units;
        units += ceil_div(panels, PACK_CHUNK);
    }
    j->first_unit[j->n_matrices] = units;
    return size;
}

/* ---- a file of panels -------------------------------------------------------------------- */

static void make_pack_header(const gqa_model *m, uint8_t header[PACK_HEADER]) {
    uint64_t words[2] = {gqa_model_fingerprint(m), m->packed_bytes};
    memset(header, 0, PACK_HEADER);
    memcpy(header, "gqaPACK1", 8);
    memcpy(header + 8, words, sizeof words);
}

/* Maps PATH.packed as m->packed if it belongs to this model; returns whether it does. */
static int map_packed(gqa_model *m, const char *path) {
    char beside[1100];
    uint8_t header[PACK_HEADER];
    int n = snprintf(beside, sizeof beside, "%s.packed", path);
    if (n < 0 || n >= (int)sizeof beside || gqa_map_open(&m->packed_map, beside, NULL)) return 0;
    make_pack_header(m, header);
    const gqa_map *map = &m->packed_map;
    if (map->size != PACK_HEADER + m->packed_bytes || memcmp(map->data, header, PACK_HEADER)) {
        gqa_map_close(&m->packed_map);
        return 0;
    }
    m->packed = (uint8_t *)map->data + PACK_HEADER; /* never written to */
    return 1;
}

int gqa_model_save_packed(const gqa_model *m, const char *path, gqa_error *err) {
    gqa_output out;
    uint8_t header[PACK_HEADER];
    if (!m->packed)
        return gqa_fail_path(m->file.path, err, GQA_ERR_ARGUMENT,
                             "has no repacked weights to save");
    int status = gqa_output_open(&out, path, err);
    if (status) return status;
    make_pack_header(m, header);
    gqa_output_write(&out, header, sizeof header);
    gqa_output_write(&out, m->packed, m->packed_bytes);
    return gqa_output_finish(&out, err);
}

/* ---- packing ----------------------------------------------------------------------------- */

void gqa_model_unpack(gqa_model *m) {
    if (m->packed_map.data) gqa_map_close(&m->packed_map);
    else if (m->packed) gqa_pages_free(m->packed, m->packed_bytes);
    m->packed = NULL;
}

static int pack_in_memory(gqa_model *m, pack_job *j, gqa_team *team, int threads, gqa_error *err) {
    m->packed = gqa_pages_alloc(m->packed_bytes, 1);
    if (!m->packed) {
        size_t bytes = m->packed_bytes;
        m->packed_bytes = 0;
        return fail_memory(&m->file, err, "no memory for %zu bytes of repacked weights "
                           "(--no-repack needs none)", bytes);
    }
    assign_panels(m, j);
    gqa_team_run(team, m->packed_bytes < (1u << 22) ? 1 : threads, pack_units, j);
    m->stats.packed_bytes = m->packed_bytes;
    if (!atomic_load(&j->cancelled)) return 0;
    return gqa_fail_path(m->file.path, err, GQA_ERR_CANCELLED, "loading was cancelled");
}

int gqa_model_pack(gqa_model *m, const char *path, const gqa_model_options *opt, gqa_error *err) {
    int n_matrices = m->config.n_layers * GQA_LAYER_MATRICES + 1, status = 0;
    int threads = opt->n_threads > 0 ? opt->n_threads : gqa_threads_default();
    pack_job j = {.m = m, .n_matrices = n_matrices, .opt = opt};
    gqa_team *team = gqa_team_new(threads, opt->run_parallel, opt->run_user);
    j.first_unit = malloc(sizeof(int) * ((size_t)n_matrices + 1));
    if (team && j.first_unit) {
        m->packed_bytes = assign_panels(m, &j);
        if (path && map_packed(m, path)) assign_panels(m, &j);
        else status = pack_in_memory(m, &j, team, threads, err);
    } else {
        status = fail_memory(&m->file, err, "no memory to repack the weights");
    }
    gqa_team_free(team);
    free(j.first_unit);
    return status;
}
