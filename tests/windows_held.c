/* windows_held.c open|mapped FILE: keeps a file open, as most programs do, or only mapped; says so,
 * and ends with its input. windows_held.sh runs it. */
#define WIN32_LEAN_AND_MEAN
#include <windows.h>

#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    if (argc != 3) return 2;
    HANDLE file = CreateFileA(argv[2], GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_WRITE, NULL,
                              OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE) return 1;
    if (!strcmp(argv[1], "mapped")) {
        HANDLE mapping = CreateFileMappingA(file, NULL, PAGE_READONLY, 0, 0, NULL);
        if (!mapping || !MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0)) return 1;
        CloseHandle(mapping); /* the view keeps it */
        CloseHandle(file);
    }
    puts("held");
    fflush(stdout);
    while (getchar() != EOF) {}
    return 0;
}
