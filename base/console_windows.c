/* console_windows.c: the program's terminal and signals (os.h), for Windows 10 and later. No part
 * of the library. */
#ifdef _WIN32
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <shellapi.h>
#undef OPTIONAL

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

/* ---- signals -------------------------------------------------------------------------------- */

/* A mapped file cannot be truncated here. */
void gqa_os_on_lost_page(void (*fn)(const char *path)) { (void)fn; }

static void (*interrupt_handler)(int signal);
static int for_all_signals;
static volatile LONG holds, held_signal;

/* Ctrl-C, Ctrl-Break, the window closed; in a thread of its own. */
static BOOL WINAPI on_control(DWORD event) {
    int signal_number = event == CTRL_C_EVENT ? SIGINT : SIGTERM;
    if (holds) {
        held_signal = signal_number;
        return TRUE;
    }
    if (!interrupt_handler || (signal_number != SIGINT && !for_all_signals)) return FALSE;
    interrupt_handler(signal_number);
    return TRUE;
}

static void install_control(void) {
    static int is_installed;
    if (!is_installed) SetConsoleCtrlHandler(on_control, TRUE);
    is_installed = 1;
}

void gqa_os_on_interrupt(void (*fn)(int signal), int ends) {
    interrupt_handler = fn;
    for_all_signals = ends;
    install_control();
}

void gqa_os_hold_signals(void) {
    install_control();
    held_signal = 0;
    holds = 1;
}

int gqa_os_signal_held(void) { return held_signal != 0; }

void gqa_os_release_signals(void) {
    holds = 0;
    if (!held_signal) return;
    if (interrupt_handler && (held_signal == SIGINT || for_all_signals))
        interrupt_handler((int)held_signal);
    else
        ExitProcess(128 + (unsigned)held_signal);
}

/* ---- the terminal --------------------------------------------------------------------------- */

static HANDLE handle_of(FILE *f) { return (HANDLE)_get_osfhandle(_fileno(f)); }

static char *narrow(const wchar_t *wide) {
    int n = WideCharToMultiByte(CP_UTF8, 0, wide, -1, NULL, 0, NULL, NULL);
    char *text = n > 0 ? malloc((size_t)n) : NULL;
    if (text) WideCharToMultiByte(CP_UTF8, 0, wide, -1, text, n, NULL, NULL);
    return text;
}

static UINT usual_code_page;
static void restore_console(void) { SetConsoleOutputCP(usual_code_page); }

static void begin_console(FILE *f) {
    DWORD mode;
    if (!GetConsoleMode(handle_of(f), &mode)) return;
    SetConsoleMode(handle_of(f), mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
}

void gqa_os_start(int *argc, char ***argv) {
    int n;
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), &n);
    char **all = wide ? calloc((size_t)n + 1, sizeof *all) : NULL; /* until the program ends */
    int known = 0;
    while (all && known < n && (all[known] = narrow(wide[known])) != NULL) known++;
    if (all && known == n) {
        *argc = n;
        *argv = all;
    }
    LocalFree(wide);
    _setmode(_fileno(stdin), _O_BINARY);
    _setmode(_fileno(stdout), _O_BINARY);
    _setmode(_fileno(stderr), _O_BINARY);
    setvbuf(stderr, NULL, _IONBF, 0);
    usual_code_page = GetConsoleOutputCP();
    if (usual_code_page) {
        SetConsoleOutputCP(CP_UTF8);
        atexit(restore_console);
    }
    begin_console(stdout);
    begin_console(stderr);
}

/* Also NUL is a character device: only consoles have a mode. */
int gqa_os_is_terminal(FILE *f) {
    DWORD mode;
    return GetConsoleMode(handle_of(f), &mode) != 0;
}

int gqa_os_terminal_size(FILE *f, int *columns, int *rows) {
    CONSOLE_SCREEN_BUFFER_INFO of;
    if (!GetConsoleScreenBufferInfo(handle_of(f), &of)) return -1;
    *columns = of.srWindow.Right - of.srWindow.Left + 1;
    *rows = of.srWindow.Bottom - of.srWindow.Top + 1;
    return 0;
}

int gqa_os_character_width(uint32_t code) {
    static const struct { uint32_t first, last; int width; } ranges[] = {
        {0x300, 0x36F, 0}, {0x200B, 0x200F, 0}, {0x20D0, 0x20FF, 0}, {0xFE00, 0xFE0F, 0},
        {0x1100, 0x115F, 2}, {0x2E80, 0x303E, 2}, {0x3041, 0xA4CF, 2}, {0xAC00, 0xD7A3, 2},
        {0xF900, 0xFAFF, 2}, {0xFE30, 0xFE6F, 2}, {0xFF00, 0xFF60, 2}, {0xFFE0, 0xFFE6, 2},
        {0x1F300, 0x1F64F, 2}, {0x1F680, 0x1F6FF, 2}, {0x1F900, 0x1F9FF, 2}, {0x20000, 0x3FFFD, 2},
    };
    for (size_t i = 0; i < array_length(ranges); i++)
        if (code >= ranges[i].first && code <= ranges[i].last) return ranges[i].width;
    return 1;
}

int gqa_os_stdin_holds_text(void) {
    HANDLE h = handle_of(stdin);
    DWORD waiting = 0;
    LARGE_INTEGER size, at;
    if (GetFileType(h) == FILE_TYPE_PIPE)
        return PeekNamedPipe(h, NULL, 0, NULL, &waiting, NULL) && waiting > 0;
    return GetFileType(h) == FILE_TYPE_DISK && GetFileSizeEx(h, &size) &&
           SetFilePointerEx(h, (LARGE_INTEGER){.QuadPart = 0}, &at, FILE_CURRENT) &&
           size.QuadPart > at.QuadPart;
}

int gqa_os_has_keys(void) { return gqa_os_is_terminal(stdin) && gqa_os_is_terminal(stderr); }

static DWORD usual_input; /* how the console was set before keys were taken */

void gqa_os_take_keys(const char *ending) {
    (void)ending;
    GetConsoleMode(handle_of(stdin), &usual_input);
    SetConsoleMode(handle_of(stdin), ENABLE_VIRTUAL_TERMINAL_INPUT);
}

void gqa_os_give_keys_back(void) { SetConsoleMode(handle_of(stdin), usual_input); }

int gqa_os_stdin_is_ready(int milliseconds) {
    DWORD found = WaitForSingleObject(handle_of(stdin), (DWORD)milliseconds);
    return found == WAIT_OBJECT_0 ? 1 : found == WAIT_TIMEOUT ? 0 : -1;
}

/* Events of the console that have a character; UTF-16 becomes UTF-8. */
int gqa_os_read_keys(char *keys, size_t size, int milliseconds) {
    INPUT_RECORD events[16];
    wchar_t text[16];
    static wchar_t high; /* the first half of a character */
    DWORD n = 0;
    int len = 0;
    if (gqa_os_stdin_is_ready(milliseconds) <= 0) return -1;
    if (!ReadConsoleInputW(handle_of(stdin), events, 15, &n)) return 0;
    if (high) text[len++] = high;
    high = 0;
    for (DWORD i = 0; i < n; i++) {
        const KEY_EVENT_RECORD *key = &events[i].Event.KeyEvent;
        if (events[i].EventType == KEY_EVENT && key->bKeyDown && key->uChar.UnicodeChar)
            text[len++] = key->uChar.UnicodeChar;
    }
    if (len > 0 && (text[len - 1] & 0xFC00) == 0xD800) high = text[--len];
    len = WideCharToMultiByte(CP_UTF8, 0, text, len, keys, (int)size, NULL, NULL);
    return len > 0 ? len : -1;
}

void gqa_os_write_terminal(const char *data, size_t size) {
    fwrite(data, 1, size, stderr);
    fflush(stderr);
}

void gqa_os_suspend(void) {}
#endif
