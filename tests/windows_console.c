/* windows_console.c: keys of a Windows console, as the events that ReadConsoleInputW gives, through
 * base/console_windows.c and commands/line_edit.c. windows_console.py runs it on a terminal. */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <process.h>
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

/* A program that ends with keys taken leaves the console as it was. */
static void check_child(const char *program) {
    HANDLE screen = GetStdHandle(STD_ERROR_HANDLE);
    DWORD input[2], output[2];
    UINT page = GetConsoleOutputCP();
    GetConsoleMode(console, &input[0]);
    GetConsoleMode(screen, &output[0]);
    check(_spawnl(_P_WAIT, program, program, "child", NULL) == 0, "a child");
    GetConsoleMode(console, &input[1]);
    GetConsoleMode(screen, &output[1]);
    check(page == GetConsoleOutputCP(), "the code page is restored");
    check(input[0] == input[1] && output[0] == output[1], "the modes are restored");
}

static int be_child(int argc, char **argv) {
    gqa_os_start(&argc, &argv);
    gqa_os_take_keys("");
    exit(0);
}

int main(int argc, char **argv) {
    DWORD before, during, after;
    UINT page = GetConsoleOutputCP();
    console = GetStdHandle(STD_INPUT_HANDLE);
    if (argc > 1) return be_child(argc, argv);
    check_child(argv[0]);
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
    printf("%d checks, %d failed\n", checked, failed);
    fflush(stdout);
    return failed > 0;
}
