/* os_windows.c: os.h for Windows 10 and later. Names of files are UTF-8 here and UTF-16 in the
 * system's calls, those with a W. */
#ifdef _WIN32
/* Names that the header has for other things than we, all in one file in a single-file build. */
#define TOKEN_CONTROL WINDOWS_TOKEN_CONTROL
#define TOKEN_USER WINDOWS_TOKEN_USER
#define WIN32_LEAN_AND_MEAN
#include <windows.h>
#include <shellapi.h>
#undef TOKEN_CONTROL
#undef TOKEN_USER
#undef OPTIONAL

#include <errno.h>
#include <fcntl.h>
#include <io.h>
#include <limits.h>
#include <process.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base.h"

/* The system's last error as the nearest of C's, for strerror. Returns -1. */
static int set_errno(void) {
    static const struct { DWORD of_system; int of_c; } errors[] = {
        {ERROR_FILE_NOT_FOUND, ENOENT}, {ERROR_PATH_NOT_FOUND, ENOENT},
        {ERROR_INVALID_NAME, ENOENT}, {ERROR_BAD_NETPATH, ENOENT},
        {ERROR_BAD_NET_NAME, ENOENT}, {ERROR_FILENAME_EXCED_RANGE, ENAMETOOLONG},
        {ERROR_ACCESS_DENIED, EACCES}, /* this and two more: another program has it open */
        {ERROR_SHARING_VIOLATION, EACCES}, {ERROR_USER_MAPPED_FILE, EACCES},
        {ERROR_FILE_EXISTS, EEXIST}, {ERROR_ALREADY_EXISTS, EEXIST},
        {ERROR_DISK_FULL, ENOSPC}, {ERROR_HANDLE_DISK_FULL, ENOSPC},
        {ERROR_NOT_ENOUGH_MEMORY, ENOMEM}, {ERROR_COMMITMENT_LIMIT, ENOMEM},
    };
    DWORD last = GetLastError();
    errno = EIO;
    for (size_t i = 0; i < array_length(errors); i++)
        if (errors[i].of_system == last) errno = errors[i].of_c;
    return -1;
}

/* ---- memory --------------------------------------------------------------------------------- */

void *gqa_pages_alloc(size_t size, int huge) {
    (void)huge; /* large pages need a privilege */
    return VirtualAlloc(NULL, size ? size : 1, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

void gqa_pages_free(void *p, size_t size) {
    (void)size;
    if (p) VirtualFree(p, 0, MEM_RELEASE);
}

static MEMORYSTATUSEX memory_status(void) {
    MEMORYSTATUSEX status = {.dwLength = sizeof status};
    GlobalMemoryStatusEx(&status);
    return status;
}

double gqa_os_memory(void) { return (double)memory_status().ullTotalPhys; }
double gqa_os_free_memory(void) { return (double)memory_status().ullAvailPhys; }

/* ---- files ---------------------------------------------------------------------------------- */

enum { MAX_WIDE = 4096 };

/* The path in UTF-16, in out [MAX_WIDE]. NULL: too long, or not UTF-8; errno and the system's last
 * error say which. Windows takes a path whose whole, from the drive or the server on, has at most
 * 259 characters (a new folder's 247), or a longer one after a mark that says so: \\?\C:\...,
 * \\?\UNC\SERVER\... */
static const wchar_t *widen(const char *path, wchar_t *out) {
    enum { LONG = 248, MARK = 7 };
    wchar_t given[MAX_WIDE], whole[MAX_WIDE];
    if (!MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path, -1, given, MAX_WIDE)) {
        int is_long = GetLastError() == ERROR_INSUFFICIENT_BUFFER;
        SetLastError(is_long ? ERROR_FILENAME_EXCED_RANGE : ERROR_INVALID_NAME);
        set_errno();
        return NULL;
    }
    DWORD n = GetFullPathNameW(given, MAX_WIDE, whole, NULL);
    if (n < LONG || n >= MAX_WIDE - MARK) return wcscpy(out, given);
    int is_marked = !wcsncmp(whole, L"\\\\?\\", 4) || !wcsncmp(whole, L"\\\\.\\", 4);
    if (is_marked) return wcscpy(out, given);
    int is_of_server = whole[0] == L'\\';
    wcscpy(out, is_of_server ? L"\\\\?\\UNC" : L"\\\\?\\");
    wcscat(out, whole + is_of_server);
    return out;
}

static uint64_t pair(DWORD high, DWORD low) { return (uint64_t)high << 32 | low; }

/* ticks: of 100 nanoseconds, since 1601. */
static uint64_t nanoseconds(uint64_t ticks) {
    const uint64_t from_1601_to_1970 = 11644473600u; /* seconds */
    return (ticks - from_1601_to_1970 * 10000000u) * 100;
}

static int handle_info(HANDLE h, gqa_file_info *info) {
    BY_HANDLE_FILE_INFORMATION of;
    *info = (gqa_file_info){.kind = GQA_FILE_OTHER};
    if (h == INVALID_HANDLE_VALUE) return set_errno();
    if (GetFileType(h) != FILE_TYPE_DISK) return 0;
    FILE_BASIC_INFO times;
    if (!GetFileInformationByHandle(h, &of) ||
        !GetFileInformationByHandleEx(h, FileBasicInfo, &times, sizeof times))
        return set_errno();
    int is_folder = (of.dwFileAttributes & FILE_ATTRIBUTE_DIRECTORY) != 0;
    info->kind = is_folder ? GQA_FILE_FOLDER : GQA_FILE_REGULAR;
    info->id = (gqa_file_id){of.dwVolumeSerialNumber, pair(of.nFileIndexHigh, of.nFileIndexLow),
                             pair(of.nFileSizeHigh, of.nFileSizeLow),
                             nanoseconds((uint64_t)times.LastWriteTime.QuadPart),
                             nanoseconds((uint64_t)times.ChangeTime.QuadPart)};
    return 0;
}

enum { SHARED = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE };

static HANDLE open_handle(const char *path, DWORD access) {
    wchar_t wide[MAX_WIDE];
    if (!widen(path, wide)) return INVALID_HANDLE_VALUE;
    return CreateFileW(wide, access, SHARED, NULL, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS, NULL);
}

int gqa_os_file_info(const char *path, gqa_file_info *info) {
    HANDLE h = open_handle(path, FILE_READ_ATTRIBUTES);
    int failed = handle_info(h, info);
    if (h != INVALID_HANDLE_VALUE) CloseHandle(h);
    return failed;
}

int gqa_os_open_info(int fd, gqa_file_info *info) {
    return handle_info((HANDLE)_get_osfhandle(fd), info);
}

int gqa_os_stream_info(FILE *f, gqa_file_info *info) { return gqa_os_open_info(_fileno(f), info); }

size_t gqa_os_folder_length(const char *path) {
    size_t len = strlen(path);
    while (len > 0 && !strchr("/\\:", path[len - 1])) len--;
    return len;
}

int gqa_os_exists(const char *path) {
    wchar_t wide[MAX_WIDE];
    return widen(path, wide) && GetFileAttributesW(wide) != INVALID_FILE_ATTRIBUTES;
}

FILE *gqa_os_fopen(const char *path, const char *mode) {
    wchar_t wide[MAX_WIDE], wide_mode[4] = {mode[0], L'b', strchr(mode, '+') ? L'+' : 0};
    FILE *f = widen(path, wide) ? _wfopen(wide, wide_mode) : NULL;
    if (!f && errno == EACCES && GetFileAttributesW(wide) & FILE_ATTRIBUTE_DIRECTORY)
        errno = EISDIR; /* as elsewhere */
    return f;
}

int gqa_os_open(const char *path) {
    HANDLE h = open_handle(path, GENERIC_READ);
    if (h == INVALID_HANDLE_VALUE) return set_errno();
    int fd = _open_osfhandle((intptr_t)h, _O_RDONLY | _O_BINARY);
    if (fd < 0) CloseHandle(h);
    return fd;
}

int gqa_os_create(const char *path) {
    wchar_t wide[MAX_WIDE];
    if (!widen(path, wide)) return -1;
    return _wopen(wide, _O_WRONLY | _O_CREAT | _O_EXCL | _O_BINARY | _O_NOINHERIT,
                  _S_IREAD | _S_IWRITE);
}

FILE *gqa_os_stream(int fd, const char *mode) { return _fdopen(fd, mode); }
void gqa_os_close(int fd) { _close(fd); }

/* The C library knows no error for ERROR_NO_DATA, and says EINVAL. */
int gqa_os_reader_is_gone(FILE *f, int error) {
    HANDLE h = (HANDLE)_get_osfhandle(_fileno(f));
    return error == EPIPE || (error == EINVAL && GetFileType(h) == FILE_TYPE_PIPE);
}

int gqa_os_sync(FILE *f) { return _commit(_fileno(f)); }

int gqa_os_replace(const char *from, const char *to) {
    enum { LONGEST = 256 }; /* milliseconds; about twice as much in all */
    wchar_t old[MAX_WIDE], new[MAX_WIDE];
    if (!widen(from, old) || !widen(to, new)) return -1;
    for (DWORD pause = 1; !MoveFileExW(old, new, MOVEFILE_REPLACE_EXISTING); pause *= 2) {
        DWORD error = GetLastError(); /* a scanner of viruses opens what has just been written */
        if ((error != ERROR_ACCESS_DENIED && error != ERROR_SHARING_VIOLATION) || pause > LONGEST)
            return set_errno();
        Sleep(pause);
    }
    return 0;
}

int gqa_os_remove(const char *path) {
    wchar_t wide[MAX_WIDE];
    return widen(path, wide) ? _wunlink(wide) : -1;
}

int gqa_os_link_target(const char *path, char *target, size_t capacity) {
    (void)path;
    (void)target;
    (void)capacity;
    return -1; /* a link is replaced */
}

void *gqa_os_map(int fd, size_t size) {
    HANDLE file = (HANDLE)_get_osfhandle(fd);
    HANDLE mapping = CreateFileMappingW(file, NULL, PAGE_READONLY, 0, 0, NULL);
    void *p = mapping ? MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, size) : NULL;
    if (!p) set_errno();
    if (mapping) CloseHandle(mapping); /* the view keeps it */
    return p;
}

void gqa_os_unmap(void *p, size_t size) {
    (void)size;
    UnmapViewOfFile(p);
}

void gqa_os_release(const void *p, size_t size) {
    (void)p;
    (void)size;
}

/* ---- time ----------------------------------------------------------------------------------- */

double gqa_os_seconds(void) {
    LARGE_INTEGER count, rate;
    QueryPerformanceCounter(&count);
    QueryPerformanceFrequency(&rate);
    return (double)count.QuadPart / (double)rate.QuadPart;
}

uint64_t gqa_os_clock(void) {
    FILETIME t;
    GetSystemTimeAsFileTime(&t);
    return nanoseconds(pair(t.dwHighDateTime, t.dwLowDateTime));
}

int gqa_os_local_time(struct tm *now) {
    time_t t = time(NULL);
    return localtime_s(now, &t) ? -1 : 0;
}

void gqa_os_sleep(int microseconds) { Sleep((DWORD)(microseconds + 999) / 1000); }
void gqa_os_yield(void) { SwitchToThread(); }
long gqa_os_process(void) { return (long)GetCurrentProcessId(); }

/* ---- threads -------------------------------------------------------------------------------- */

static int count_bits(uint64_t mask) {
    int n = 0;
    for (; mask; mask &= mask - 1) n++;
    return n;
}

/* Of one group of at most 64 CPUs, in which a program runs unless it asks for more. */
int gqa_os_cores(void) {
    SYSTEM_LOGICAL_PROCESSOR_INFORMATION all[256];
    DWORD size = sizeof all;
    DWORD_PTR allowed = 0, present;
    GetProcessAffinityMask(GetCurrentProcess(), &allowed, &present);
    if (!allowed) allowed = ~(DWORD_PTR)0; /* the process has threads in several groups */
    int cores = 0, known = GetLogicalProcessorInformation(all, &size);
    for (size_t i = 0; known && i < size / sizeof all[0]; i++)
        cores += all[i].Relationship == RelationProcessorCore &&
                 (all[i].ProcessorMask & allowed) != 0;
    return max_int(cores ? cores : count_bits(allowed), 1);
}

int gqa_cgroup_cpus(const char *root) {
    (void)root;
    return INT_MAX;
}

void gqa_os_unbind_thread(void) {}
int gqa_os_memory_is_limited(void) { return 0; }

static unsigned __stdcall thread_main(void *arg) {
    const gqa_os_thread *t = arg;
    t->main(t->arg);
    return 0;
}

int gqa_os_thread_start(gqa_os_thread *t, void (*main)(void *arg), void *arg) {
    t->main = main;
    t->arg = arg;
    t->handle = _beginthreadex(NULL, 0, thread_main, t, 0, NULL);
    return t->handle ? 0 : -1;
}

void gqa_os_thread_join(gqa_os_thread *t) {
    WaitForSingleObject((HANDLE)t->handle, INFINITE);
    CloseHandle((HANDLE)t->handle);
}

typedef struct monitor {
    SRWLOCK lock;
    CONDITION_VARIABLE wake;
} monitor;
_Static_assert(sizeof(monitor) <= sizeof(gqa_os_monitor), "gqa_os_monitor is too small");

static monitor *monitor_of(gqa_os_monitor *m) { return (monitor *)(void *)m->storage; }

void gqa_os_monitor_init(gqa_os_monitor *m) {
    InitializeSRWLock(&monitor_of(m)->lock);
    InitializeConditionVariable(&monitor_of(m)->wake);
}

void gqa_os_monitor_free(gqa_os_monitor *m) { (void)m; }
void gqa_os_lock(gqa_os_monitor *m) { AcquireSRWLockExclusive(&monitor_of(m)->lock); }
void gqa_os_unlock(gqa_os_monitor *m) { ReleaseSRWLockExclusive(&monitor_of(m)->lock); }

void gqa_os_wait(gqa_os_monitor *m) {
    SleepConditionVariableSRW(&monitor_of(m)->wake, &monitor_of(m)->lock, INFINITE, 0);
}

void gqa_os_wake_all(gqa_os_monitor *m) { WakeAllConditionVariable(&monitor_of(m)->wake); }
#endif
