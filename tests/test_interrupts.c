/* test_interrupts.c: reading goes on where a signal's handler, set without SA_RESTART, ends a call
 * of the system. */
#include "test.h"

#include <signal.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../commands/command.h"

enum { N = 40 };

static volatile sig_atomic_t n_signals;

static void on_alarm(int signal_number) {
    (void)signal_number;
    n_signals++;
}

/* A signal every 2 milliseconds, or none. */
static void set_timer(int is_on) {
    struct timeval every = {.tv_usec = is_on ? 2000 : 0};
    setitimer(ITIMER_REAL, &(struct itimerval){every, every}, NULL);
}

/* Writes N bytes, slower than the signals come, from a process of its own. */
static pid_t write_slowly(const int ends[2]) {
    pid_t child = fork();
    if (child) return child;
    close(ends[0]);
    for (int i = 0; i < N; i++) {
        nanosleep(&(struct timespec){.tv_nsec = 7000000}, NULL);
        if (write(ends[1], "x", 1) != 1) _exit(1);
    }
    _exit(0);
}

static void test_pipe(void) {
    struct sigaction action = {.sa_handler = on_alarm};
    char path[40];
    size_t size = 0;
    int ends[2], status = 1;
    if (!CHECK(pipe(ends) == 0, "no pipe")) return;
    pid_t child = write_slowly(ends);
    close(ends[1]);
    snprintf(path, sizeof path, "/dev/fd/%d", ends[0]);
    sigaction(SIGALRM, &action, NULL);
    set_timer(1);
    char *text = read_text(path, &size);
    set_timer(0);
    waitpid(child, &status, 0);
    CHECK(text && size == N && strspn(text, "x") == N, "%d bytes, expected %d", (int)size, N);
    CHECK(n_signals > 1 && status == 0, "%d signals, status %d", (int)n_signals, status);
    free(text);
    close(ends[0]);
}

int main(int argc, char **argv) {
    test_start(argc, argv);
    TEST("a text from a pipe, with signals") test_pipe();
    return test_end();
}
