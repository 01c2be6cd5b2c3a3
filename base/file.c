/* file.c: files mapped for reading, and files written beside their path and then renamed to it. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

static int file_cannot(const char *action, const char *path, int error, gqa_error *err) {
    return gqa_fail_path(path, err, GQA_ERR_IO, "cannot %s: %s", action, strerror(error));
}

/* ---- writing ----------------------------------------------------------------------------- */

int gqa_same_file(const char *a, const char *b) {
    gqa_file_info x, y;
    return !gqa_os_file_info(a, &x) && !gqa_os_file_info(b, &y) && x.id.device == y.id.device &&
           x.id.inode == y.id.inode;
}

int gqa_path_beside(const char *file, const char *name, char *out, size_t size) {
    int n = snprintf(out, size, "%.*s%s", (int)gqa_os_folder_length(file), file, name);
    return n < 0 || (size_t)n >= size ? -1 : 0;
}

/* Follows symbolic links to what they name, whether that exists or not, so that a link is written
 * through, not replaced. Returns 0, or -1 when path does not fit. */
static int follow_links(char *path, size_t capacity) {
    enum { MAX_LINKS = 40 };
    char target[1024], joined[2048];
    for (int i = 0; i < MAX_LINKS; i++) {
        int n = gqa_os_link_target(path, target, sizeof target - 1);
        if (n < 0) return 0;
        target[n] = 0;
        int folder = target[0] == '/' ? 0 : (int)gqa_os_folder_length(path);
        snprintf(joined, sizeof joined, "%.*s%s", folder, path, target);
        if (strlen(joined) >= capacity) return -1;
        memcpy(path, joined, strlen(joined) + 1);
    }
    return 0;
}

/* A new file beside the path, of a name that no file has. */
static FILE *create_temporary(gqa_output *o) {
    enum { MAX_TRIES = 100 };
    for (int i = 0; i < MAX_TRIES; i++) {
        snprintf(o->temporary, sizeof o->temporary, "%s.tmp.%ld.%d", o->path, gqa_os_process(),
                 i);
        int fd = gqa_os_create(o->temporary);
        if (fd < 0 && errno == EEXIST) continue;
        FILE *f = fd < 0 ? NULL : gqa_os_stream(fd, "wb");
        if (fd >= 0 && !f) gqa_os_close(fd);
        return f;
    }
    return NULL;
}

int gqa_output_open(gqa_output *o, const char *path, gqa_error *err) {
    gqa_file_info info;
    *o = (gqa_output){0};
    int missing = gqa_os_file_info(path, &info);
    if (missing && errno == ELOOP) return file_cannot("write", path, errno, err);
    if (!missing && info.kind != GQA_FILE_REGULAR)
        return gqa_fail_path(path, err, GQA_ERR_IO, "cannot write: not a regular file");
    int is_long = strlen(path) >= sizeof o->path;
    if (!is_long) memcpy(o->path, path, strlen(path) + 1);
    if (is_long || follow_links(o->path, sizeof o->path))
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%.100s...: the path is too long", path);
    o->file = create_temporary(o);
    return o->file ? 0 : file_cannot("write", path, errno, err);
}

void gqa_output_write(gqa_output *o, const void *data, size_t size) {
    const char *from = data;
    for (size_t n; size && !o->failed; from += n, size -= n) {
        n = min_size(size, GQA_MOST_BYTES);
        if (fwrite(from, 1, n, o->file) != n) o->failed = errno ? errno : EIO;
    }
}

int gqa_output_finish(gqa_output *o, gqa_error *err) {
    if (!o->failed && (fflush(o->file) || gqa_os_sync(o->file))) o->failed = errno;
    if (fclose(o->file) && !o->failed) o->failed = errno;
    o->file = NULL;
    const char *hint = "";
    if (!o->failed && gqa_os_replace(o->temporary, o->path)) {
        o->failed = errno;
        /* the folder was writable: this is Windows', of a file that a program has open or mapped */
        if (o->failed == EACCES) hint = "; another program may have it open";
    }
    if (!o->failed) return 0;
    gqa_os_remove(o->temporary);
    return gqa_fail_path(o->path, err, GQA_ERR_IO, "cannot write: %s%s", strerror(o->failed), hint);
}

void gqa_output_cancel(gqa_output *o) {
    if (!o->file) return;
    fclose(o->file);
    gqa_os_remove(o->temporary);
    o->file = NULL;
}

/* ---- reading ----------------------------------------------------------------------------- */

static int check_readable(const gqa_file_info *info, const char *path, gqa_error *err) {
    if (info->kind == GQA_FILE_FOLDER)
        return gqa_fail_path(path, err, GQA_ERR_IO, "is a directory, expected a file");
    if (info->kind != GQA_FILE_REGULAR)
        return gqa_fail_path(path, err, GQA_ERR_IO, "not a regular file");
    if (info->id.size == 0) return gqa_fail_path(path, err, GQA_ERR_FORMAT, "the file is empty");
    return 0;
}

/* Opens a regular file that is not empty. Returns its descriptor, or a negative status. */
static int open_regular(const char *path, gqa_file_id *id, gqa_error *err) {
    gqa_file_info info;
    int fd = gqa_os_open(path);
    if (fd < 0) return file_cannot("open", path, errno, err);
    int status = gqa_os_open_info(fd, &info) ? file_cannot("examine", path, errno, err)
                                             : check_readable(&info, path, err);
    if (status) {
        gqa_os_close(fd);
        return status;
    }
    *id = info.id;
    return fd;
}

int gqa_input_open(FILE **file, uint64_t *size, const char *path, gqa_error *err) {
    gqa_file_id id = {0};
    int fd = open_regular(path, &id, err);
    *size = id.size;
    *file = fd < 0 ? NULL : gqa_os_stream(fd, "rb");
    if (fd < 0 || *file) return min_int(fd, 0);
    gqa_os_close(fd);
    return file_cannot("open", path, errno, err);
}

int gqa_input_read(FILE *file, void *data, size_t size) {
    char *to = data;
    size_t n = 1;
    for (; size && n; to += n, size -= n) n = fread(to, 1, min_size(size, GQA_MOST_BYTES), file);
    return size == 0;
}

int gqa_map_open(gqa_map *map, const char *path, gqa_error *err) {
    gqa_file_id id;
    int status = 0, fd = open_regular(path, &id, err);
    *map = (gqa_map){0};
    if (fd < 0) return fd;
    size_t size = id.size <= SIZE_MAX / 2 ? (size_t)id.size : 0;
    void *p = size ? gqa_os_map(fd, size) : NULL;
    if (!size) status = gqa_fail_path(path, err, GQA_ERR_MEMORY, "too large for this machine");
    else if (!p) status = file_cannot("map", path, errno, err);
    else *map = (gqa_map){p, size, id};
    gqa_os_close(fd);
    return status;
}

void gqa_map_close(gqa_map *map) {
    if (map->data) gqa_os_unmap((void *)map->data, map->size);
    *map = (gqa_map){0};
}

void gqa_map_release(const gqa_map *map, const void *data, size_t size) {
    enum { AROUND = 1 << 21 }; /* Linux maps up to so many bytes that are cached around one */
    uintptr_t begin = (uintptr_t)map->data, end = begin + map->size, at = (uintptr_t)data;
    if (!map->data || at < begin || at > end || size > end - at) return;
    uintptr_t first = at - at % AROUND, last = (uintptr_t)align_up(at + size, AROUND);
    if (first < begin) first = begin;
    if (last > end) last = end;
    gqa_os_release((const void *)first, last - first);
}
