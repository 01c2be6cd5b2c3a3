/* file.c: files mapped for reading, and files written beside their path and then renamed to it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"

static int file_cannot(const char *action, const char *path, int error, gqa_error *err) {
    return gqa_fail_path(path, err, GQA_ERR_IO, "cannot %s: %s", action, strerror(error));
}

/* ---- writing ----------------------------------------------------------------------------- */

int gqa_output_open(gqa_output *o, const char *path, gqa_error *err) {
    struct stat st;
    *o = (gqa_output){0};
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode))
        return gqa_fail_path(path, err, GQA_ERR_IO, "cannot write: not a regular file");
    if (strlen(path) >= sizeof o->path)
        return gqa_fail(err, GQA_ERR_ARGUMENT, "%.100s...: the path is too long", path);
    snprintf(o->path, sizeof o->path, "%s", path);
    snprintf(o->temporary, sizeof o->temporary, "%s.tmp.%ld", path, (long)getpid());
    o->file = fopen(o->temporary, "wb");
    return o->file ? 0 : file_cannot("write", path, errno, err);
}

void gqa_output_write(gqa_output *o, const void *data, size_t size) {
    if (o->failed || size == 0) return;
    if (fwrite(data, 1, size, o->file) != size) o->failed = errno ? errno : EIO;
}

int gqa_output_finish(gqa_output *o, gqa_error *err) {
    if (!o->failed && (fflush(o->file) || fsync(fileno(o->file)))) o->failed = errno;
    if (fclose(o->file) && !o->failed) o->failed = errno;
    o->file = NULL;
    if (!o->failed && rename(o->temporary, o->path)) o->failed = errno;
    if (!o->failed) return 0;
    unlink(o->temporary);
    return file_cannot("write", o->path, o->failed, err);
}

void gqa_output_cancel(gqa_output *o) {
    if (!o->file) return;
    fclose(o->file);
    unlink(o->temporary);
    o->file = NULL;
}

/* ---- reading ----------------------------------------------------------------------------- */

static int check_readable(const struct stat *st, const char *path, gqa_error *err) {
    if (S_ISDIR(st->st_mode))
        return gqa_fail_path(path, err, GQA_ERR_IO, "is a directory, expected a file");
    if (!S_ISREG(st->st_mode)) return gqa_fail_path(path, err, GQA_ERR_IO, "not a regular file");
    if (st->st_size == 0) return gqa_fail_path(path, err, GQA_ERR_FORMAT, "the file is empty");
    return 0;
}

/* Opens a regular file that is not empty. Returns its descriptor, or a negative status. */
static int open_regular(const char *path, uint64_t *size, gqa_error *err) {
    struct stat st;
    /* O_NONBLOCK: a FIFO without a writer would block */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return file_cannot("open", path, errno, err);
    int status = fstat(fd, &st) ? file_cannot("examine", path, errno, err)
                                : check_readable(&st, path, err);
    if (status) {
        close(fd);
        return status;
    }
    *size = (uint64_t)st.st_size;
    return fd;
}

int gqa_input_open(FILE **file, uint64_t *size, const char *path, gqa_error *err) {
    int fd = open_regular(path, size, err);
    *file = fd < 0 ? NULL : fdopen(fd, "rb");
    if (fd < 0 || *file) return min_int(fd, 0);
    close(fd);
    return file_cannot("open", path, errno, err);
}

int gqa_map_open(gqa_map *map, const char *path, gqa_error *err) {
    uint64_t size;
    int status = 0, fd = open_regular(path, &size, err);
    *map = (gqa_map){0};
    if (fd < 0) return fd;
    void *p = size <= SIZE_MAX / 2 ? mmap(NULL, size, PROT_READ, MAP_PRIVATE, fd, 0) : NULL;
    if (!p) status = gqa_fail_path(path, err, GQA_ERR_MEMORY, "too large for this machine");
    else if (p == MAP_FAILED) status = file_cannot("map", path, errno, err);
    else *map = (gqa_map){p, size};
    close(fd);
    return status;
}

void gqa_map_close(gqa_map *map) {
    if (map->data) munmap((void *)map->data, map->size);
    *map = (gqa_map){0};
}
