/* windows_console.c [RUN MODEL]: keys of a Windows console, as the events that ReadConsoleInputW
 * gives, through base/console_windows.c and commands/line_edit.c; Ctrl-C and Ctrl-Break, in
 * programs of its own and in RUN as it generates text. windows_console.py runs it on a terminal. */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <process.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../base/base.h"
#include "../commands/command.h"
#include "../commands/line_edit.h"

static int failed, checked;
static HANDLE console;

/* of commands/common.c and terminal.c, which need the library */
int interrupted(void) { return 0; }
size_t visible_character(char out[4], const char *text, size_t n) {
    memcpy(out, text, n < 4 ? n : 4);
    return n < 4 ? n : 4;
}

size_t drop_zeros(char *text, size_t len) { return text ? len : 0; }

static void check(int ok, const char *what) {
    checked++;
    if (ok) return;
    failed++;
    printf("FAILED: %s\n", what);
}

static void send(int is_down, WORD key, wchar_t unit, DWORD state, WORD repeat) {
    INPUT_RECORD event = {.EventType = KEY_EVENT};
    DWORD n;
    event.Event.KeyEvent = (KEY_EVENT_RECORD){is_down, repeat, key, 0, {unit}, state};
    WriteConsoleInputW(console, &event, 1, &n);
}
static void tap(WORD key, wchar_t unit, DWORD state) {
    send(1, key, unit, state, 1);
    send(0, key, unit, state, 1);
}

/* Text as keys: a letter after ^ with Ctrl; other keys by the table's names. */
static void type(const wchar_t *text) {
    static const struct { wchar_t name; WORD key; DWORD state; } keys[] = {
        {L'<', VK_LEFT, 0}, {L'>', VK_RIGHT, 0}, {L'{', VK_HOME, 0}, {L'}', VK_END, 0},
        {L'~', VK_DELETE, 0}, {L'+', VK_UP, 0}, {L'-', VK_DOWN, 0},
        {L'[', VK_LEFT, LEFT_CTRL_PRESSED}, {L']', VK_RIGHT, RIGHT_CTRL_PRESSED},
    };
    for (; *text; text++) {
        size_t i = 0;
        while (i < array_length(keys) && keys[i].name != *text) i++;
        if (i < array_length(keys)) tap(keys[i].key, 0, keys[i].state);
        else if (*text == L'^') {
            text++;
            tap((WORD)*text, *text & 31, LEFT_CTRL_PRESSED);
        } else tap(0, *text, 0);
    }
}

typedef struct example {
    const wchar_t *keys;
    line_status status;
    const char *text;
} example;
static const example examples[] = {
    {L"one\r", LINE_TEXT, "one"},
    {L"bc{a}d\r", LINE_TEXT, "abcd"},
    {L"ac<b>d\r", LINE_TEXT, "abcd"},
    {L"xab{~\r", LINE_TEXT, "ab"},
    {L"bc^Aa^Ed\r", LINE_TEXT, "abcd"},
    {L"gone^Uhere\r", LINE_TEXT, "here"},
    {L"one two^Wthree\r", LINE_TEXT, "one three"},
    {L"two three[[one ]]!\r", LINE_TEXT, "one two three!"},
    {L"ab\bc\r", LINE_TEXT, "ac"},
    {L"++\r", LINE_TEXT, "one two three!"},
    {L"now+++-\r", LINE_TEXT, "ac"},
    {L"\u00e9\u4e2d\r", LINE_TEXT, "\xc3\xa9\xe4\xb8\xad"},
    {L"a\U0001F600b<\b\r", LINE_TEXT, "ab"},
    {L"\U0001F600\r", LINE_TEXT, "\xf0\x9f\x98\x80"},
    {L"half^C", LINE_INTERRUPTED, ""},
    {L"^D", LINE_END, ""},
    {L"^Z", LINE_END, ""},
    {L"kept^Z\r", LINE_TEXT, "kept"},
    {L"keep<<^Z!\r", LINE_TEXT, "keep!"},
};

/* A program that ends with keys taken leaves the console as it was. Its exit code. */
static unsigned check_child(const char *program, const char *argument, const char *what) {
    HANDLE screen = GetStdHandle(STD_ERROR_HANDLE);
    DWORD input[2], output[2];
    UINT page = GetConsoleOutputCP();
    GetConsoleMode(console, &input[0]);
    GetConsoleMode(screen, &output[0]);
    intptr_t code = -1; /* under Wine this is now and then the answer: it is asked again */
    for (int i = 0; i < 3 && code == -1; i++)
        code = _spawnl(_P_WAIT, program, program, argument, NULL);
    GetConsoleMode(console, &input[1]);
    GetConsoleMode(screen, &output[1]);
    check(page == GetConsoleOutputCP(), what);
    check(input[0] == input[1] && output[0] == output[1], what);
    SetConsoleMode(console, input[0]); /* the next child's are its own failures */
    SetConsoleMode(screen, output[0]);
    SetConsoleOutputCP(page);
    return (unsigned)code;
}

/* A line that is not read key by key. */
static void check_line(void) {
    static const char expected[] = "\xc3\xa9\xe4\xb8\xad\xf0\x9f\x98\x80\r\n";
    char line[64];
    int n = 0, c = 0;
    type(L"\u00e9\u4e2d\U0001F600");
    tap(VK_RETURN, L'\r', 0);
    while (c != '\n' && n < 60 && (c = gqa_os_getchar()) != EOF) line[n++] = (char)c;
    line[n] = 0;
    check(!strcmp(line, expected), "a line in UTF-8");
    type(L"^Z");
    tap(VK_RETURN, L'\r', 0);
    check(gqa_os_getchar() == EOF, "Ctrl-Z ends the input");
}

/* ---- Ctrl-C and Ctrl-Break ------------------------------------------------------------------ */

/* Exit codes of a child: its handler was called with a signal; the same, but when signals were
 * released and not before; nothing came. DEFAULT: the system ended it. */
enum { CALLED = 50, CALLED_LATER = 70, NOTHING = 99, TOO_EARLY = 98, ENDED = 128, DEFAULT = 1000 };
typedef enum handler { NO_HANDLER, INTERRUPTS, ENDS } handler; /* ENDS: of all signals */
typedef struct control {
    DWORD event;
    handler handler;
    int holds;
    unsigned code;
} control;
static const control controls[] = {
    {CTRL_C_EVENT, NO_HANDLER, 0, DEFAULT},
    {CTRL_C_EVENT, NO_HANDLER, 1, ENDED + SIGINT},
    {CTRL_C_EVENT, INTERRUPTS, 0, CALLED + SIGINT},
    {CTRL_C_EVENT, INTERRUPTS, 1, CALLED_LATER + SIGINT},
    {CTRL_C_EVENT, ENDS, 0, CALLED + SIGINT},
    {CTRL_BREAK_EVENT, NO_HANDLER, 0, DEFAULT},
    {CTRL_BREAK_EVENT, NO_HANDLER, 1, ENDED + SIGTERM},
    {CTRL_BREAK_EVENT, INTERRUPTS, 0, DEFAULT},
    {CTRL_BREAK_EVENT, INTERRUPTS, 1, ENDED + SIGTERM},
    {CTRL_BREAK_EVENT, ENDS, 0, CALLED + SIGTERM},
    {CTRL_BREAK_EVENT, ENDS, 1, CALLED_LATER + SIGTERM},
};
static volatile LONG called_with;
static void on_interrupt(int number) { called_with = number; }
static BOOL WINAPI ignore(DWORD event) {
    return event == CTRL_C_EVENT || event == CTRL_BREAK_EVENT;
}

/* To every program of the console: this one and, which ignores it, its parent. Wine has no event
 * for Ctrl-Break, but the thread that an event starts in a program, on Windows as well. */
static int raise_control(DWORD event) {
    if (GenerateConsoleCtrlEvent(event, 0)) return 1;
    FARPROC routine = GetProcAddress(GetModuleHandleA("kernelbase"), "CtrlRoutine");
    LPTHREAD_START_ROUTINE start = NULL;
    memcpy(&start, &routine, sizeof start);
    return start && CreateThread(NULL, 0, start, (void *)(uintptr_t)event, 0, NULL);
}

static int be_interrupted(const control *c) {
    enum { PAUSE = 10, PAUSES = 1000 }; /* milliseconds */
    if (c->handler != NO_HANDLER) gqa_os_on_interrupt(on_interrupt, c->handler == ENDS);
    if (c->holds) gqa_os_hold_signals();
    if (gqa_os_signal_held()) return TOO_EARLY;
    if (!raise_control(c->event)) return NOTHING;
    for (int i = 0; i < PAUSES && !called_with && !gqa_os_signal_held(); i++) Sleep(PAUSE);
    if (!c->holds) return called_with ? CALLED + (int)called_with : NOTHING;
    if (called_with) return TOO_EARLY;
    if (!gqa_os_signal_held()) return NOTHING;
    gqa_os_release_signals();
    if (!called_with) return NOTHING;
    called_with = 0;
    gqa_os_hold_signals(); /* what was held before is gone */
    if (gqa_os_signal_held()) return TOO_EARLY;
    gqa_os_release_signals();
    return called_with ? TOO_EARLY : CALLED_LATER + (c->event == CTRL_C_EVENT ? SIGINT : SIGTERM);
}

static void check_controls(const char *program) {
    SetConsoleCtrlHandler(ignore, TRUE);
    for (size_t i = 0; i < array_length(controls); i++) {
        char number[16], what[80];
        snprintf(number, sizeof number, "%d", (int)i);
        snprintf(what, sizeof what, "the console after Ctrl-C or -Break, case %d", (int)i);
        unsigned code = check_child(program, number, what);
        snprintf(what, sizeof what, "Ctrl-C or -Break, case %d: exit code %u", (int)i, code);
        if (controls[i].code != DEFAULT) check(code == controls[i].code, what);
        else check(code == 0xC000013A || code == 0, what); /* Windows, Wine */
    }
}

/* The program `run` is interrupted when its first text is there: it ends at once, with 130. */
static void check_generation(const char *run, const char *model) {
    SECURITY_ATTRIBUTES inherited = {sizeof inherited, NULL, TRUE};
    STARTUPINFOA how = {sizeof how, .dwFlags = STARTF_USESTDHANDLES};
    PROCESS_INFORMATION child;
    HANDLE out;
    DWORD code = 0, n, length = 0;
    char line[1024], text[4096];
    snprintf(line, sizeof line, "\"%s\" \"%s\" -c 4000000 -n 0 --ignore-eos --quiet", run, model);
    check(CreatePipe(&out, &how.hStdOutput, &inherited, 0), "a pipe");
    SetHandleInformation(out, HANDLE_FLAG_INHERIT, 0);
    how.hStdInput = console;
    how.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    if (!CreateProcessA(NULL, line, NULL, NULL, TRUE, 0, NULL, NULL, &how, &child)) {
        check(0, line);
        return;
    }
    CloseHandle(how.hStdOutput);
    while (ReadFile(out, text, sizeof text, &n, NULL) && n) {
        if (!length) check(GenerateConsoleCtrlEvent(CTRL_C_EVENT, 0), "an event for Ctrl-C");
        length += n;
    }
    WaitForSingleObject(child.hProcess, INFINITE);
    GetExitCodeProcess(child.hProcess, &code);
    check(length > 0, "Ctrl-C: text before it");
    check(code == 128 + SIGINT, "Ctrl-C: the exit code of run");
}

/* What the program writes to a console is on its screen: UTF-8 as characters. */
static void check_screen(const char *run, const char *model) {
    enum { CELLS = 1 << 16 };
    static wchar_t cells[CELLS + 1];
    static const wchar_t said[] = L"\u0414\u0430, \u4e2d\u00e9";
    char line[1024];
    DWORD n = 0;
    HANDLE screen = CreateFileA("CONOUT$", GENERIC_READ | GENERIC_WRITE, 3, NULL, OPEN_EXISTING, 0,
                                NULL);
    PROCESS_INFORMATION child;
    STARTUPINFOW how = {sizeof how, .dwFlags = STARTF_USESTDHANDLES};
    SetHandleInformation(screen, HANDLE_FLAG_INHERIT, HANDLE_FLAG_INHERIT);
    how.hStdInput = console;
    how.hStdOutput = screen;
    how.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    wchar_t command[2048];
    snprintf(line, sizeof line, "\"%s\" \"%s\" -n 1 -t 0 --quiet -i \"", run, model);
    MultiByteToWideChar(CP_UTF8, 0, line, -1, command, 1000);
    wcscat(command, said);
    for (int i = 0; i < 600; i++) wcscat(command, L"\u0416"); /* no buffer's end cuts one */
    wcscat(command, L"\"");
    if (!CreateProcessW(NULL, command, NULL, NULL, TRUE, 0, NULL, NULL, &how, &child)) {
        check(0, line);
        return;
    }
    WaitForSingleObject(child.hProcess, INFINITE);
    ReadConsoleOutputCharacterW(screen, cells, CELLS, (COORD){0, 0}, &n);
    cells[n] = 0;
    check(wcsstr(cells, L"\u0414\u0430, ") != NULL, "UTF-8 on the screen");
    int n_letters = 0;
    for (DWORD i = 0; i < n; i++) n_letters += cells[i] == L'\u0416';
    check(n_letters == 600 && !wcschr(cells, L'\uFFFD'), "a long text on the screen");
    check(wcschr(cells, L'\u4e2d') != NULL && wcschr(cells, L'\u00e9') != NULL, "wide characters");
    CloseHandle(screen);
}

enum { LOST_PAGE = 42, AT_ONCE = 43 };
static void on_lost_page(const char *path) { gqa_os_exit_now(path ? 0 : LOST_PAGE); }

/* Without a number: one that ends by itself, as a page of a mapped file is lost, at once. */
static int be_child(int argc, char **argv) {
    const char *number = argv[1];
    gqa_os_start(&argc, &argv);
    gqa_os_take_keys("");
    gqa_os_on_lost_page(on_lost_page);
    if (!strcmp(number, "child")) exit(0);
    if (!strcmp(number, "page")) RaiseException(EXCEPTION_IN_PAGE_ERROR, 0, 0, NULL);
    if (!strcmp(number, "now")) gqa_os_exit_now(AT_ONCE);
    exit(be_interrupted(&controls[atoi(number)]));
}

int main(int argc, char **argv) {
    DWORD before, during, after;
    UINT page = GetConsoleOutputCP();
    console = GetStdHandle(STD_INPUT_HANDLE);
    if (argc == 2) return be_child(argc, argv);
    check(check_child(argv[0], "child", "the console after a child") == 0, "a child");
    check(check_child(argv[0], "page", "the console after a lost page") == LOST_PAGE, "a page");
    check(check_child(argv[0], "now", "the console after a sudden end") == AT_ONCE, "an end");
    check_controls(argv[0]);
    if (argc == 3) check_generation(argv[1], argv[2]);
    if (argc == 3) check_screen(argv[1], argv[2]);
    gqa_os_start(&argc, &argv);
    check(gqa_os_has_keys(), "stdin and stderr are a console");
    check(!page || GetConsoleOutputCP() == CP_UTF8, "the code page is UTF-8");
    GetConsoleMode(console, &before);
    gqa_os_take_keys("");
    GetConsoleMode(console, &during);
    gqa_os_give_keys_back();
    GetConsoleMode(console, &after);
    check(!(during & (ENABLE_PROCESSED_INPUT | ENABLE_LINE_INPUT | ENABLE_ECHO_INPUT)), "keys");
    check(before == after, "the mode is given back");
    SetConsoleMode(console, during); /* what is typed early is not to interrupt */
    line_editor *e = line_editor_new();
    for (size_t i = 0; e && i < array_length(examples); i++) {
        char *text = NULL, what[80];
        type(examples[i].keys);
        line_status status = line_read(e, "> ", &text);
        snprintf(what, sizeof what, "example %d: %d, %s", (int)i, status, text ? text : "");
        check(status == examples[i].status, what);
        check(status != LINE_TEXT || !strcmp(text, examples[i].text), what);
    }
    char *text = NULL;
    send(1, VK_MENU, 0, LEFT_ALT_PRESSED, 1); /* Alt and digits: 0xE9 as Alt is released */
    send(0, VK_MENU, 0xE9, 0, 1);
    send(1, 'A', L'a', 0, 3); /* held */
    type(L"\r");
    check(line_read(e, "> ", &text) == LINE_TEXT && !strcmp(text, "\xc3\xa9" "aaa"), "Alt, held");
    line_editor_free(e);
    SetConsoleMode(console, before); /* lines, not keys */
    check_line();
    printf("%d checks, %d failed\n", checked, failed);
    fflush(stdout);
    return failed > 0;
}
