/* console_posix.c: the program's terminal and signals (os.h), for Linux, macOS, the BSDs and others
 * like them. No part of the library. */
#ifndef _WIN32
#ifdef __APPLE__
#define _DARWIN_C_SOURCE 1
#elif defined(__FreeBSD__) || defined(__NetBSD__) || defined(__OpenBSD__) || defined(__DragonFly__)
#undef _POSIX_C_SOURCE /* the Makefile's, which hides all else there */
#else
#define _GNU_SOURCE /* wcwidth */
#endif
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#include "base.h"

/* ---- signals -------------------------------------------------------------------------------- */

static void (*lost_page_handler)(const char *path);

static void on_bus_error(int signal_number, siginfo_t *info, void *context) {
    static atomic_flag is_reported = ATOMIC_FLAG_INIT;
    char line[4352], *name = NULL;
    (void)signal_number;
    (void)context;
    while (atomic_flag_test_and_set(&is_reported)) pause(); /* another thread ends the program */
    FILE *maps = fopen("/proc/self/maps", "r"); /* FIRST-END MODE OFFSET DEVICE INODE PATH */
    while (maps && !name && fgets(line, sizeof line, maps)) {
        unsigned long first = 0, end = 0, address = (unsigned long)(uintptr_t)info->si_addr;
        sscanf(line, "%lx-%lx", &first, &end);
        if (first <= address && address < end) name = strchr(line, '/');
    }
    if (name) name[strcspn(name, "\n")] = 0;
    lost_page_handler(name);
}

/* SIGBUS comes in code that reads weights, and holds no lock of the C library. */
void gqa_os_on_lost_page(void (*fn)(const char *path)) {
    struct sigaction action = {.sa_sigaction = on_bus_error, .sa_flags = SA_SIGINFO};
    lost_page_handler = fn;
    sigaction(SIGBUS, &action, NULL);
}

void gqa_os_exit_now(int code) { _Exit(code); }

void gqa_os_on_interrupt(void (*fn)(int signal), int ends) {
    static const int signals[] = {SIGINT, SIGTERM, SIGHUP};
    /* Without SA_RESTART a write to a stopped terminal (Ctrl-S) would fail and lose its text. */
    struct sigaction usual, action = {.sa_handler = fn, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < (ends ? array_length(signals) : 1); i++) {
        sigaction(signals[i], NULL, &usual);
        if (!ends || usual.sa_handler != SIG_IGN) sigaction(signals[i], &action, NULL);
    }
}

static const int ending_signals[] = {SIGINT, SIGTERM, SIGHUP, SIGXFSZ};
enum { N_ENDING_SIGNALS = array_length(ending_signals) };
static struct sigaction usual_actions[N_ENDING_SIGNALS];
static volatile sig_atomic_t held_signal;

static void hold_signal(int signal_number) { held_signal = signal_number; }

void gqa_os_hold_signals(void) {
    struct sigaction hold = {.sa_handler = hold_signal, .sa_flags = SA_RESTART};
    sigemptyset(&hold.sa_mask);
    held_signal = 0;
    for (int i = 0; i < N_ENDING_SIGNALS; i++) {
        sigaction(ending_signals[i], NULL, &usual_actions[i]);
        int is_ignored = usual_actions[i].sa_handler == SIG_IGN;
        if (!is_ignored) sigaction(ending_signals[i], &hold, NULL);
    }
}

int gqa_os_signal_held(void) { return held_signal != 0; }

void gqa_os_release_signals(void) {
    for (int i = 0; i < N_ENDING_SIGNALS; i++)
        sigaction(ending_signals[i], &usual_actions[i], NULL);
    if (held_signal) raise(held_signal);
}

/* ---- the terminal --------------------------------------------------------------------------- */

void gqa_os_start(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
}

int gqa_os_is_terminal(FILE *f) { return isatty(fileno(f)); }

int gqa_os_terminal_size(FILE *f, int *columns, int *rows) {
    struct winsize size = {0};
    if (ioctl(fileno(f), TIOCGWINSZ, &size)) return -1;
    *columns = size.ws_col;
    *rows = size.ws_row;
    return 0;
}

int gqa_os_character_width(uint32_t code) {
    int width = wcwidth((wchar_t)code);
    return width >= 0 ? width : 1;
}

int gqa_os_getchar(void) { return getchar(); }

int gqa_os_stdin_holds_text(void) {
    struct stat st;
    int waiting = 0; /* bytes: at the end of a pipe, some systems' poll says that it can be read */
    if (fstat(STDIN_FILENO, &st)) return 0;
    if (S_ISREG(st.st_mode)) return st.st_size > lseek(STDIN_FILENO, 0, SEEK_CUR);
    return S_ISFIFO(st.st_mode) && !ioctl(STDIN_FILENO, FIONREAD, &waiting) && waiting > 0;
}

int gqa_os_has_keys(void) {
    const char *term = getenv("TERM");
    return isatty(STDIN_FILENO) && isatty(STDERR_FILENO) && term && strcmp(term, "dumb");
}

static struct termios usual_terminal; /* how it was set before keys were taken */
static struct sigaction usual_sigterm;
static const char *usual_ending;

static void on_terminate(int signal_number) {
    ssize_t unused = write(STDERR_FILENO, usual_ending, strlen(usual_ending));
    (void)unused;
    tcsetattr(STDIN_FILENO, TCSANOW, &usual_terminal);
    sigaction(signal_number, &usual_sigterm, NULL);
    raise(signal_number);
}

void gqa_os_take_keys(const char *ending) {
    struct termios raw;
    struct sigaction action = {.sa_handler = on_terminate};
    tcgetattr(STDIN_FILENO, &usual_terminal);
    raw = usual_terminal;
    raw.c_iflag &= ~(tcflag_t)(ICRNL | INLCR | ISTRIP);
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO | ISIG | IEXTEN);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    usual_ending = ending;
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, &usual_sigterm);
    tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

void gqa_os_give_keys_back(void) {
    tcsetattr(STDIN_FILENO, TCSADRAIN, &usual_terminal);
    sigaction(SIGTERM, &usual_sigterm, NULL);
}

int gqa_os_stdin_is_ready(int milliseconds) {
    struct pollfd terminal = {.fd = STDIN_FILENO, .events = POLLIN};
    int n = poll(&terminal, 1, milliseconds);
    return n < 0 && errno == EINTR ? 0 : n;
}

int gqa_os_read_keys(char *keys, size_t size, int milliseconds) {
    if (gqa_os_stdin_is_ready(milliseconds) <= 0) return -1;
    ssize_t n = read(STDIN_FILENO, keys, size);
    if (n < 0 && errno == EINTR) return -1;
    return (int)(n < 0 ? 0 : n);
}

void gqa_os_write_terminal(const char *data, size_t size) {
    size_t done = 0;
    while (done < size) {
        ssize_t n = write(STDERR_FILENO, data + done, size - done);
        if (n < 0 && errno != EINTR) break;
        if (n > 0) done += (size_t)n;
    }
}

void gqa_os_suspend(void) { raise(SIGTSTP); }
#endif
