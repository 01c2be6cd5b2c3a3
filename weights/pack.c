/* pack.c: copies every matrix into panels of 16 rows (kernels/kernels.h), once, on all threads;
 * or maps a file that holds such a copy:
 *
 *    0  "gqaPACK3"   8 bytes; the 3 is the version of the panels' layout
 *    8  fingerprint  6 x u64: hash, device, inode, size, mtime, ctime of the model (fingerprint.c)
 *   56  bytes        u64 of the panels
 * 4088  checksum     u64 of the bytes before it
 * 4096  the panels of every matrix, wq of layer 0 first, the classifier last
 *  end  checksums    u64 of each matrix's panels
 *
 * The panels are trusted while the model's file is the one named in the header, unchanged since;
 * otherwise the model and they are hashed. A matrix of less than half a panel has no packed form:
 * it would be mostly padding. */
#include <errno.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../base/hash.h"
#include "../kernels/team.h"
#include "model_internal.h"

enum { PACK_HEADER = 4096, PACK_CHUNK = 32 /* panels a unit of work */ };

typedef struct pack_job {
    gqa_model *m;
    int n_matrices;
    int *first_unit;           /* [n_matrices + 1] of each matrix */
    uint64_t *sums;            /* [n_matrices] of each one's panels in the file */
    gqa_team *team;
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

/* The file's pages of a unit's rows, once they are packed: else both copies would be in memory. */
static void release_rows(const pack_job *j, const gqa_matrix *w, int panel) {
    size_t row_bytes = gqa_type_bytes(w->type, (uint64_t)w->cols);
    int first = panel * GQA_PANEL, rows = min_int(w->rows - first, PACK_CHUNK * GQA_PANEL);
    gqa_map_release(&j->m->map, w->raw + first * row_bytes, rows * row_bytes);
}

static void pack_units(gqa_worker *me, void *arg) {
    pack_job *j = arg;
    gqa_pack_codes *pack = j->m->kernels->pack_codes;
    int total = j->first_unit[j->n_matrices];
    for_units(u, me, total) {
        if (atomic_load_explicit(&j->cancelled, memory_order_relaxed)) continue;
        int i = matrix_of_unit(j, u), panel = (u - j->first_unit[i]) * PACK_CHUNK;
        gqa_matrix *w = gqa_model_matrix(j->m, i);
        int end = min_int(panel + PACK_CHUNK, gqa_matrix_panels(w));
        uint8_t *dst = (uint8_t *)w->packed + panel * w->panel_bytes;
        for (int p = panel; p < end; p++, dst += w->panel_bytes) gqa_pack_panel(w, p, dst, pack);
        release_rows(j, w, panel);
        if (me->id == 0 && is_cancelled(j->opt, (double)u / total)) atomic_store(&j->cancelled, 1);
    }
}

/* Panels of the packed form: none where more than half would be padding. */
static int packed_panels(const gqa_matrix *w) {
    return w->rows < GQA_PANEL / 2 ? 0 : gqa_matrix_panels(w);
}

/* Gives each matrix its offset in m->packed (NULL: none yet); returns the size of them all. */
static uint64_t assign_panels(gqa_model *m, pack_job *j) {
    uint64_t size = 0; /* at most GQA_MAX_VOCAB + 7 * GQA_MAX_LAYERS * GQA_MAX_DIM rows of 4 MiB */
    int units = 0;
    for (int i = 0; i < j->n_matrices; i++) {
        gqa_matrix *w = gqa_model_matrix(m, i);
        int panels = packed_panels(w);
        w->panel_bytes = gqa_panel_bytes(w->type, w->cols);
        w->packed = m->packed && panels ? m->packed + size : NULL;
        size += (uint64_t)w->panel_bytes * (uint64_t)panels;
        j->first_unit[i] = units;
        units += ceil_div(panels, PACK_CHUNK);
    }
    j->first_unit[j->n_matrices] = units;
    return size;
}

/* ---- a file of panels -------------------------------------------------------------------- */

typedef struct pack_header {
    char magic[8];
    gqa_fingerprint model;
    uint64_t bytes;
    uint8_t zero[PACK_HEADER - 8 - sizeof(gqa_fingerprint) - 16];
    uint64_t checksum;
} pack_header;
_Static_assert(sizeof(pack_header) == PACK_HEADER, "the header is stored as it is");

static uint64_t sum_panels(const gqa_matrix *w) {
    size_t size = w->packed ? w->panel_bytes * packed_panels(w) : 0;
    return gqa_hash_lanes(0, w->packed, size);
}

static void sum_matrices(gqa_worker *me, void *arg) {
    pack_job *j = arg;
    for_units(i, me, j->n_matrices) j->sums[i] = sum_panels(gqa_model_matrix(j->m, i));
}

static pack_header make_pack_header(const gqa_model *m, gqa_fingerprint model) {
    pack_header h = {.model = model, .bytes = m->packed_bytes};
    memcpy(h.magic, "gqaPACK3", sizeof h.magic);
    h.checksum = gqa_hash(0, &h, offsetof(pack_header, checksum));
    return h;
}

/* Whether the panels that m->packed points to are as they were written. */
static int check_panels(pack_job *j, const char *path, gqa_error *err) {
    const uint8_t *sums = j->m->packed + j->m->packed_bytes;
    gqa_team_run(j->team, INT_MAX, sum_matrices, j);
    for (int i = 0; i < j->n_matrices; i++)
        if (memcmp(sums + sizeof *j->sums * i, &j->sums[i], sizeof *j->sums))
            return gqa_fail_path(path, err, GQA_ERR_FORMAT, "damaged panels (layer %d, matrix %d)",
                                 i / GQA_LAYER_MATRICES, i % GQA_LAYER_MATRICES);
    return 0;
}

/* Whether the mapped file is of this model and whole. The panels are hashed if the model's file is
 * not the one that they were made of, and when wants_all. */
static int check_packed(pack_job *j, const char *path, int wants_all, gqa_error *err) {
    gqa_model *m = j->m;
    const gqa_map *map = &m->packed_map;
    const uint64_t sums_bytes = sizeof *j->sums * (uint64_t)j->n_matrices;
    pack_header h;
    if (map->size < PACK_HEADER || memcmp(map->data, "gqaPACK3", 8))
        return gqa_fail_path(path, err, GQA_ERR_FORMAT, "not repacked weights of this version (no "
                             "\"gqaPACK3\" at its start)");
    memcpy(&h, map->data, sizeof h);
    pack_header expected = make_pack_header(m, h.model);
    if (memcmp(&h, &expected, sizeof h) || map->size != PACK_HEADER + h.bytes + sums_bytes)
        return gqa_fail_path(path, err, GQA_ERR_FORMAT, "damaged, or of another model");
    int is_trusted = !wants_all && gqa_same_source(&h.model, m);
    if (is_trusted) atomic_store(&m->hash, h.model.hash);
    if (h.model.hash != gqa_model_fingerprint(m).hash)
        return gqa_fail_path(path, err, GQA_ERR_FORMAT, "of another model");
    m->packed = (uint8_t *)map->data + PACK_HEADER; /* never written to */
    assign_panels(m, j);
    return is_trusted ? 0 : check_panels(j, path, err);
}

/* Where the repacked weights of a model's file are. 0, or -1 when that is too long. */
static int packed_path(const char *path, char *out, size_t size) {
    int n = snprintf(out, size, "%s.packed", path);
    return n < 0 || (size_t)n >= size ? -1 : 0;
}

/* Maps PATH.packed as m->packed if it is right. */
static int map_packed(pack_job *j, const char *path, int wants_all, gqa_error *err) {
    char beside[1100];
    gqa_model *m = j->m;
    if (packed_path(path, beside, sizeof beside))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%.100s...: the path is too long", path);
    int status = gqa_map_open(&m->packed_map, beside, err);
    if (!status) status = check_packed(j, beside, wants_all, err);
    if (!status) return 0;
    gqa_map_close(&m->packed_map);
    m->packed = NULL;
    assign_panels(m, j);
    return status;
}

/* Whether the panels are mapped from that file already. Their header may be older than the model's
 * file, which has been copied or written again. */
static int is_mapped_from(const gqa_model *m, const char *path) {
    gqa_file_info now;
    return m->packed_map.data && !gqa_os_file_info(path, &now) &&
           now.id.device == m->packed_map.id.device && now.id.inode == m->packed_map.id.inode;
}

/* Writes the header of such a file where it lies: Windows replaces no file that is mapped. */
static int update_header(const gqa_model *m, const char *path, const pack_header *header,
                         gqa_error *err) {
    if (!memcmp(m->packed_map.data, header, sizeof *header)) return 0;
    FILE *f = gqa_os_fopen(path, "r+");
    int failed = !f || fwrite(header, sizeof *header, 1, f) != 1;
    if (f && fclose(f)) failed = 1;
    if (!failed) return 0;
    return gqa_fail_path(path, err, GQA_ERR_IO, "cannot write: %s", strerror(errno));
}

int gqa_model_save_packed(const gqa_model *m, const char *path, gqa_error *err) {
    gqa_output out;
    gqa_matrix *w;
    if (!m || !path)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "save packed: model or path is NULL");
    if (!m->packed)
        return gqa_fail_path(m->file.path, err, GQA_ERR_ARGUMENT,
                             "has no repacked weights to save");
    pack_header header = make_pack_header(m, gqa_model_fingerprint(m));
    if (is_mapped_from(m, path)) return update_header(m, path, &header, err);
    int status = gqa_output_open(&out, path, err);
    if (status) return status;
    gqa_output_write(&out, &header, sizeof header);
    gqa_output_write(&out, m->packed, m->packed_bytes);
    for (int i = 0; (w = gqa_model_matrix((gqa_model *)m, i)) != NULL; i++) {
        uint64_t sum = sum_panels(w);
        gqa_output_write(&out, &sum, sizeof sum);
    }
    return gqa_output_finish(&out, err);
}

/* ---- packing ----------------------------------------------------------------------------- */

void gqa_model_unpack(gqa_model *m) {
    if (m->packed_map.data) gqa_map_close(&m->packed_map);
    else if (m->packed) gqa_pages_free(m->packed, m->packed_bytes);
    m->packed = NULL;
}

static int pack_in_memory(pack_job *j, gqa_error *err) {
    gqa_model *m = j->m;
    m->packed = gqa_pages_alloc(m->packed_bytes, 1);
    if (!m->packed) {
        size_t bytes = m->packed_bytes;
        m->packed_bytes = 0;
        return fail_memory(&m->file, err, "no memory for %zu bytes of repacked weights "
                           "(--no-repack needs none)", bytes);
    }
    assign_panels(m, j);
    gqa_team_run(j->team, m->packed_bytes < (1u << 22) ? 1 : INT_MAX, pack_units, j);
    m->stats.packed_bytes = m->packed_bytes;
    if (!atomic_load(&j->cancelled)) return 0;
    return gqa_fail_path(m->file.path, err, GQA_ERR_CANCELLED, "loading was cancelled");
}

/* Counts the panels of m. */
static int job_open(pack_job *j, gqa_model *m, const gqa_model_options *opt, gqa_error *err) {
    int threads = opt->n_threads > 0 ? opt->n_threads : gqa_threads_default();
    size_t n = 0;
    while (gqa_model_matrix(m, (int)n)) n++;
    *j = (pack_job){.m = m, .n_matrices = (int)n, .opt = opt};
    j->team = gqa_team_new(threads, opt->run_parallel, opt->run_user);
    j->first_unit = malloc(sizeof *j->first_unit * (n + 1));
    j->sums = malloc(sizeof *j->sums * n);
    if (!j->team || !j->first_unit || !j->sums)
        return fail_memory(&m->file, err, "no memory to repack the weights");
    uint64_t bytes = assign_panels(m, j);
    if (bytes > SIZE_MAX / 2)
        return fail_memory(&m->file, err, "%llu bytes of repacked weights are too many for this "
                           "machine (--no-repack needs none)", (unsigned long long)bytes);
    m->packed_bytes = (size_t)bytes;
    return 0;
}

static int job_close(pack_job *j, int status) {
    gqa_team_free(j->team);
    free(j->first_unit);
    free(j->sums);
    return status;
}

int gqa_model_pack(gqa_model *m, const char *path, const gqa_model_options *opt, gqa_error *err) {
    pack_job j;
    int status = job_open(&j, m, opt, err);
    int is_done = status || !m->packed_bytes || (path && !map_packed(&j, path, 0, NULL));
    return job_close(&j, is_done ? status : pack_in_memory(&j, err));
}

int gqa_model_verify_packed(gqa_model *m, const char *path, gqa_error *err) {
    pack_job j;
    int status = job_open(&j, m, &(gqa_model_options){0}, err);
    return job_close(&j, status ? status : map_packed(&j, path, 1, err));
}
