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

static void (*lost_page_handler)(const char *path);

static LONG WINAPI on_exception(EXCEPTION_POINTERS *what) {
    if (what->ExceptionRecord->ExceptionCode == EXCEPTION_IN_PAGE_ERROR) lost_page_handler(NULL);
    return EXCEPTION_CONTINUE_SEARCH;
}

/* A mapped file cannot be truncated here, but its disk or its network may go. */
void gqa_os_on_lost_page(void (*fn)(const char *path)) {
    lost_page_handler = fn;
    AddVectoredExceptionHandler(1, on_exception);
}

static void (*interrupt_handler)(int signal);
static int for_all_signals;
static volatile LONG holds, held_signal;
static void restore_console(void);

/* Ctrl-C, Ctrl-Break, the window closed; in a thread of its own. */
static BOOL WINAPI on_control(DWORD event) {
    int signal_number = event == CTRL_C_EVENT ? SIGINT : SIGTERM;
    const int closes = event != CTRL_C_EVENT && event != CTRL_BREAK_EVENT;
    if (holds) {
        held_signal = signal_number;
    } else if (interrupt_handler && (signal_number == SIGINT || for_all_signals)) {
        interrupt_handler(signal_number);
    } else {
        restore_console(); /* the program ends now, without what atexit() has */
        return FALSE;
    }
    if (closes) Sleep(INFINITE); /* the program would end when this returns, not when it is done */
    return TRUE;
}

void gqa_os_on_interrupt(void (*fn)(int signal), int ends) {
    interrupt_handler = fn;
    for_all_signals = ends;
}

void gqa_os_hold_signals(void) {
    held_signal = 0;
    holds = 1;
}

int gqa_os_signal_held(void) { return held_signal != 0; }

void gqa_os_release_signals(void) {
    holds = 0;
    if (!held_signal) return;
    if (interrupt_handler && (held_signal == SIGINT || for_all_signals))
        interrupt_handler((int)held_signal);
    else {
        restore_console();
        ExitProcess(128 + (unsigned)held_signal);
    }
}

/* ---- the terminal --------------------------------------------------------------------------- */

static HANDLE handle_of(FILE *f) { return (HANDLE)_get_osfhandle(_fileno(f)); }

static char *narrow(const wchar_t *wide) {
    int n = WideCharToMultiByte(CP_UTF8, 0, wide, -1, NULL, 0, NULL, NULL);
    char *text = n > 0 ? malloc((size_t)n) : NULL;
    if (text) WideCharToMultiByte(CP_UTF8, 0, wide, -1, text, n, NULL, NULL);
    return text;
}

/* How the console was: it outlives the program, and other programs share it. */
static UINT usual_code_page;
static struct console {
    HANDLE handle;
    DWORD mode;
} usual_output[2];
static DWORD usual_input;
static const char *keys_ending; /* not NULL: keys are taken */

static void restore_console(void) {
    DWORD written;
    if (keys_ending)
        WriteFile(handle_of(stderr), keys_ending, (DWORD)strlen(keys_ending), &written, NULL);
    gqa_os_give_keys_back();
    for (size_t i = 0; i < array_length(usual_output); i++)
        if (usual_output[i].handle) SetConsoleMode(usual_output[i].handle, usual_output[i].mode);
    if (usual_code_page) SetConsoleOutputCP(usual_code_page);
}

static void begin_console(FILE *f, struct console *usual) {
    DWORD mode;
    if (!GetConsoleMode(handle_of(f), &mode)) return;
    *usual = (struct console){handle_of(f), mode};
    if (f == stdout) setvbuf(f, NULL, _IOFBF, BUFSIZ); /* else it gets characters byte by byte */
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
    if (usual_code_page) SetConsoleOutputCP(CP_UTF8);
    /* in the reverse order of restore_console(): both may be the same console */
    begin_console(stderr, &usual_output[1]);
    begin_console(stdout, &usual_output[0]);
    atexit(restore_console);
    SetConsoleCtrlHandler(on_control, TRUE);
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

/* A console's code page has not all characters, and none of UTF-16's halves: its lines are read as
 * UTF-16. */
int gqa_os_getchar(void) {
    enum { UNITS = 512, MOMENT = 50 }; /* milliseconds in which a Ctrl-C becomes known */
    static char line[3 * UNITS + 8], *at = line, *end = line;
    wchar_t units[UNITS + 1];
    DWORD n = 0;
    if (!gqa_os_is_terminal(stdin)) return getchar();
    if (at == end) {
        fflush(stdout);
        if (!ReadConsoleW(handle_of(stdin), units, UNITS, &n, NULL) || n == 0 || *units == 26) {
            Sleep(n ? 0 : MOMENT);
            return EOF; /* Ctrl-C, Ctrl-Z */
        }
        if (units[n - 1] >= 0xD800 && units[n - 1] < 0xDC00) { /* the other half is still there */
            DWORD more = 0;
            ReadConsoleW(handle_of(stdin), units + n, 1, &more, NULL);
            n += more;
        }
        at = line;
        end = line + WideCharToMultiByte(CP_UTF8, 0, units, (int)n, line, sizeof line, NULL, NULL);
    }
    return at < end ? (unsigned char)*at++ : EOF;
}

void gqa_os_exit_now(int code) {
    restore_console();
    _Exit(code);
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

static const char *waiting = ""; /* keys that come before those of the console */

void gqa_os_take_keys(const char *ending) {
    GetConsoleMode(handle_of(stdin), &usual_input);
    SetConsoleMode(handle_of(stdin), ENABLE_VIRTUAL_TERMINAL_INPUT);
    keys_ending = ending;
}

void gqa_os_give_keys_back(void) {
    if (keys_ending) SetConsoleMode(handle_of(stdin), usual_input);
    keys_ending = NULL;
    waiting = "";
}

int gqa_os_stdin_is_ready(int milliseconds) {
    DWORD found = WaitForSingleObject(handle_of(stdin), (DWORD)milliseconds);
    return found == WAIT_OBJECT_0 ? 1 : found == WAIT_TIMEOUT ? 0 : -1;
}

/* What a terminal sends for a key that has no character. A console sends it itself if it knows
 * ENABLE_VIRTUAL_TERMINAL_INPUT (Windows 10 1607; not Wine). */
static const wchar_t *sequence_of(const KEY_EVENT_RECORD *key) {
    static const struct {
        WORD key;
        const wchar_t *alone, *with_control;
    } keys[] = {
        {VK_UP, L"\033[A", L"\033[A"}, {VK_DOWN, L"\033[B", L"\033[B"},
        {VK_RIGHT, L"\033[C", L"\033[1;5C"}, {VK_LEFT, L"\033[D", L"\033[1;5D"},
        {VK_HOME, L"\033[H", L"\033[H"}, {VK_END, L"\033[F", L"\033[F"},
        {VK_DELETE, L"\033[3~", L"\033[3~"},
    };
    int control = (key->dwControlKeyState & (LEFT_CTRL_PRESSED | RIGHT_CTRL_PRESSED)) != 0;
    for (size_t i = 0; i < array_length(keys); i++)
        if (keys[i].key == key->wVirtualKeyCode)
            return control ? keys[i].with_control : keys[i].alone;
    return L"";
}

/* A unit of UTF-16 as UTF-8, at most 6 bytes with what was kept; the first half of a character is
 * kept for its second. */
static int put_unit(char *keys, wchar_t unit) {
    static wchar_t high;
    wchar_t text[2] = {high, unit};
    int n = high ? 2 : 1;
    high = 0;
    if ((unit & 0xFC00) == 0xD800) {
        high = unit;
        if (--n == 0) return 0;
    }
    const wchar_t *from = text + (text[0] ? 0 : 1);
    return WideCharToMultiByte(CP_UTF8, 0, from, n, keys, 6, NULL, NULL);
}

/* The bytes that an event types. A character made by Alt and digits comes as Alt is released. */
static size_t put_event(char *keys, size_t size, const INPUT_RECORD *event) {
    const KEY_EVENT_RECORD *key = &event->Event.KeyEvent;
    const wchar_t text[] = {key->uChar.UnicodeChar, 0};
    const wchar_t *typed = text[0] ? text : sequence_of(key);
    size_t len = 0;
    int is_alt_code = key->wVirtualKeyCode == VK_MENU && text[0];
    if (event->EventType != KEY_EVENT || !(key->bKeyDown || is_alt_code)) return 0;
    for (int i = 0; i < key->wRepeatCount || i == 0; i++)
        for (const wchar_t *c = typed; *c && size - len >= 6; c++)
            len += (size_t)put_unit(keys + len, *c);
    return len;
}

int gqa_os_read_keys(char *keys, size_t size, int milliseconds) {
    enum { EVENTS = 16, LONGEST = 18 }; /* bytes that an event types, unless it repeats */
    INPUT_RECORD events[EVENTS];
    ULONGLONG now = GetTickCount64(), end = now + (ULONGLONG)milliseconds;
    size_t len = strlen(waiting), room = size / LONGEST;
    memcpy(keys, waiting, len);
    waiting = "";
    for (; len == 0 && now <= end; now = GetTickCount64()) { /* most events type nothing */
        DWORD n = 0;
        if (gqa_os_stdin_is_ready((int)(end - now)) <= 0) return -1;
        if (!ReadConsoleInputW(handle_of(stdin), events, room < EVENTS ? (DWORD)room : EVENTS, &n))
            return 0;
        for (DWORD i = 0; i < n; i++) {
            size_t reserved = (n - 1 - i) * LONGEST;
            len += put_event(keys + len, size - len - reserved, &events[i]);
        }
    }
    return len > 0 ? (int)len : -1;
}

void gqa_os_write_terminal(const char *data, size_t size) {
    DWORD written; /* all at once: stderr would write byte by byte */
    WriteFile(handle_of(stderr), data, (DWORD)size, &written, NULL);
}

/* There is no job control, and Ctrl-Z is the end of input: Ctrl-E and Ctrl-D, which end an empty
 * message and change no other. */
void gqa_os_suspend(void) { waiting = "\005\004"; }
#endif
