/* os.h: all that is different in each operating system: os_posix.c, os_windows.c. Names of files
 * are UTF-8. What fails sets errno, unless said otherwise. */
#ifndef GQA_OS_H
#define GQA_OS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* Where the arguments of a function that formats as this system's printf are. */
#if defined(__MINGW_PRINTF_FORMAT)
#define GQA_PRINTF(text, first) __attribute__((format(__MINGW_PRINTF_FORMAT, text, first)))
#elif defined(__GNUC__)
#define GQA_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define GQA_PRINTF(text, first)
#endif

/* ---- memory --------------------------------------------------------------------------------- */

/* Zeroed memory from the system in whole pages, 64-byte aligned; a page takes memory when it is
 * first written. NULL: not available. huge: ask for huge pages (for memory that is filled
 * entirely and read in streams). */
void *gqa_pages_alloc(size_t size, int huge);
void gqa_pages_free(void *p, size_t size);

/* Bytes of the machine's memory, and those that programs may take without swapping; -1: unknown. */
double gqa_os_memory(void);
double gqa_os_free_memory(void);

/* ---- files ---------------------------------------------------------------------------------- */

/* Which file, and when it was last changed (nanoseconds): while it is the same, so are the file's
 * contents. */
typedef struct gqa_file_id {
    uint64_t device, inode, size, modified, changed;
} gqa_file_id;

typedef enum gqa_file_kind { GQA_FILE_REGULAR, GQA_FILE_FOLDER, GQA_FILE_OTHER } gqa_file_kind;
typedef struct gqa_file_info {
    gqa_file_id id;
    gqa_file_kind kind;
} gqa_file_info;

/* 0, or -1. */
int gqa_os_file_info(const char *path, gqa_file_info *info);
int gqa_os_stream_info(FILE *f, gqa_file_info *info);
int gqa_os_open_info(int fd, gqa_file_info *info);
int gqa_os_exists(const char *path);
/* The length of the folder that a path begins with, its last separator included; 0: none. */
size_t gqa_os_folder_length(const char *path);

/* Bytes are written and read as they are, on every system. */
FILE *gqa_os_fopen(const char *path, const char *mode);
/* A descriptor, or -1: of a file to be read, without waiting for a writer of a FIFO; of a new file
 * to be written. */
int gqa_os_open(const char *path);
int gqa_os_create(const char *path);
FILE *gqa_os_stream(int fd, const char *mode); /* NULL: fd is still open */
void gqa_os_close(int fd);
/* Whether a write to f failed, with that errno, as nobody reads the pipe any more. */
int gqa_os_reader_is_gone(FILE *f, int error);

int gqa_os_sync(FILE *f);                      /* its bytes are on the disk: 0, or -1 */
int gqa_os_replace(const char *from, const char *to);
int gqa_os_remove(const char *path);
/* What a symbolic link names: its length, or -1 when the path is no link. */
int gqa_os_link_target(const char *path, char *target, size_t capacity);

/* A file's bytes, to be read; NULL: failed. size > 0. */
void *gqa_os_map(int fd, size_t size);
void gqa_os_unmap(void *p, size_t size);
/* Such bytes, from the beginning of a page on, leave the process's memory, if the system can do
 * that; they come back from the file when they are read. */
void gqa_os_release(const void *p, size_t size);

/* ---- time and threads ----------------------------------------------------------------------- */

double gqa_os_seconds(void);                   /* monotonic */
uint64_t gqa_os_clock(void);                   /* nanoseconds of the calendar's time */
int gqa_os_local_time(struct tm *now);         /* 0, or -1 */
void gqa_os_sleep(int microseconds);
void gqa_os_yield(void);
long gqa_os_process(void);                     /* the id of this process */

/* Cores that the process may use by its affinity mask, at least 1: threads of one core share its
 * arithmetic units, where a second one only slows the first. */
int gqa_os_cores(void);
/* Whole CPUs that the quotas of the process's control groups allow, v1 and v2, at every level;
 * INT_MAX: all. root: "", or a folder that stands for /. */
int gqa_cgroup_cpus(const char *root);
/* Lets the calling thread run where its program may, however OpenMP bound the one that began it. */
void gqa_os_unbind_thread(void);
/* Whether memory is so limited that fewer threads of OpenMP may start than of ours. */
int gqa_os_memory_is_limited(void);

/* A thread; it ends when main returns. Without signals, which are for the program's threads. */
typedef struct gqa_os_thread {
    uintptr_t handle;
    void (*main)(void *arg);
    void *arg;
} gqa_os_thread;
int gqa_os_thread_start(gqa_os_thread *t, void (*main)(void *arg), void *arg); /* 0: started */
void gqa_os_thread_join(gqa_os_thread *t);

/* A lock, and a condition that its holders wait for. */
typedef struct gqa_os_monitor {
    _Alignas(16) unsigned char storage[144];
} gqa_os_monitor;
void gqa_os_monitor_init(gqa_os_monitor *m);
void gqa_os_monitor_free(gqa_os_monitor *m);
void gqa_os_lock(gqa_os_monitor *m);
void gqa_os_unlock(gqa_os_monitor *m);
void gqa_os_wait(gqa_os_monitor *m);
void gqa_os_wake_all(gqa_os_monitor *m);

/* ---- the program's terminal and signals: console_*.c, not in the library --------------------- */

/* At the beginning of main: arguments become UTF-8, and so do terminals. */
void gqa_os_start(int *argc, char ***argv);
/* fn ends the program; it gets the name, or NULL, of a mapped file of which a page is lost. */
void gqa_os_on_lost_page(void (*fn)(const char *path));

int gqa_os_is_terminal(FILE *f);
/* 0, or -1: unknown. */
int gqa_os_terminal_size(FILE *f, int *columns, int *rows);
/* Columns that a terminal takes for a printable character. */
int gqa_os_character_width(uint32_t code);
/* The next byte of stdin, of a terminal's lines in UTF-8, or EOF, also where Ctrl-C ends a line. */
int gqa_os_getchar(void);
/* Whether a pipe or a file at stdin has something to read; nothing is read. */
int gqa_os_stdin_holds_text(void);

/* Whether keys can be read one by one. */
int gqa_os_has_keys(void);
/* From here on, keys come one by one to gqa_os_read_keys, unechoed, Ctrl-C too. ending: what is
 * written to the terminal if a signal ends the program meanwhile. */
void gqa_os_take_keys(const char *ending);
void gqa_os_give_keys_back(void);
/* How many bytes were read into keys; 0: the end; -1: none came in time, or a signal did. */
int gqa_os_read_keys(char *keys, size_t size, int milliseconds);
/* Whether a terminal at stdin has input, or comes to have it in time. -1: an error. */
int gqa_os_stdin_is_ready(int milliseconds);
void gqa_os_write_terminal(const char *data, size_t size); /* to stderr */
void gqa_os_suspend(void);                     /* Ctrl-Z */

/* fn is called at Ctrl-C; with `ends`, also by the other signals that end a program. What is
 * ignored (nohup) stays so with `ends`. */
void gqa_os_on_interrupt(void (*fn)(int signal), int ends);
/* Ends the program from a signal handler, without what atexit() has; a console is as it was. */
void gqa_os_exit_now(int code);
/* See hold_signals in commands/command.h. */
void gqa_os_hold_signals(void);
int gqa_os_signal_held(void);
void gqa_os_release_signals(void);

#endif
