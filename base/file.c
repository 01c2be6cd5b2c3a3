/* file.c: files mapped for reading, and files written beside their place and then renamed into it. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base.h"

int gqa_output_open(gqa_output *o, const char *path, gqa_error *err) {
    struct stat st;
    *o = (gqa_output){0};
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) return gqa_fail(err, GQA_ERR_IO, "%s: cannot write: not a regular file", path);
    int n = snprintf(o->path, sizeof o->path, "%s", path);
    if (n < 0 || (size_t)n >= sizeof o->path) return gqa_fail(err, GQA_ERR_ARGUMENT, "%.100s...: the path is too long", path);
    snprintf(o->temporary, sizeof o->temporary, "%s.tmp.%ld", path, (long)getpid());
    o->file = fopen(o->temporary, "wb");
    return o->file ? 0 : gqa_fail(err, GQA_ERR_IO, "%s: cannot write: %s", path, strerror(errno));
}

void gqa_output_write(gqa_output *o, const void *data, size_t size) {
    if (size && !o->failed && fwrite(data, 1, size, o->file) != size) o->failed = errno ? errno : EIO;
}

int gqa_output_finish(gqa_output *o, gqa_error *err) {
    if (!o->failed && (fflush(o->file) || fsync(fileno(o->file)))) o->failed = errno;
    if (fclose(o->file) && !o->failed) o->failed = errno;
    o->file = NULL;
    if (!o->failed && rename(o->temporary, o->path)) o->failed = errno;
    if (!o->failed) return 0;
    unlink(o->temporary);
    return gqa_fail(err, GQA_ERR_IO, "%s: cannot write: %s", o->path, strerror(o->failed));
}

void gqa_output_cancel(gqa_output *o) {
    if (!o->file) return;
    fclose(o->file);
    unlink(o->temporary);
    o->file = NULL;
}

/* Opens a regular file that is not empty for reading. Returns its descriptor, or a negative status. */
static int open_regular(const char *path, uint64_t *size, gqa_error *err) {
    struct stat st;
    int status = 0;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO without a writer would block */
    if (fd < 0)
        return gqa_fail(err, GQA_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
    if (fstat(fd, &st))
        status = gqa_fail(err, GQA_ERR_IO, "%s: cannot examine: %s", path, strerror(errno));
    else if (S_ISDIR(st.st_mode))
        status = gqa_fail(err, GQA_ERR_IO, "%s: is a directory, expected a file", path);
    else if (!S_ISREG(st.st_mode))
        status = gqa_fail(err, GQA_ERR_IO, "%s: not a regular file", path);
    else if (st.st_size == 0)
        status = gqa_fail(err, GQA_ERR_FORMAT, "%s: the file is empty", path);
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
    if (fd < 0 || *file) return fd < 0 ? fd : 0;
    close(fd);
    return gqa_fail(err, GQA_ERR_IO, "%s: cannot open: %s", path, strerror(errno));
}

int gqa_map_open(gqa_map *map, const char *path, gqa_error *err) {
    uint64_t size;
    int status = 0, fd = open_regular(path, &size, err);
    *map = (gqa_map){0};
    if (fd < 0) return fd;
    if (size > SIZE_MAX / 2) {
        status = gqa_fail(err, GQA_ERR_MEMORY, "%s: too large for this machine", path);
    } else {
        void *p = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (p == MAP_FAILED)
            status = gqa_fail(err, GQA_ERR_IO, "%s: cannot map: %s", path, strerror(errno));
        else
            *map = (gqa_map){p, (size_t)size};
    }
    close(fd);
    return status;
}

void gqa_map_close(gqa_map *map) {
    if (map->data) munmap((void *)map->data, map->size);
    *map = (gqa_map){0};
}
