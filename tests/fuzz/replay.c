/* replay.c: gives a fuzz target every file of a folder, tests/fuzz/seeds/NAME for a program
 * test_fuzz_NAME: what was found once is tried in every run of the tests. A target aborts when
 * something is wrong. */
#include "../test.h"

#include <dirent.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path) {
    static uint8_t data[1 << 20];
    FILE *f = fopen(path, "rb");
    if (!f) return 0;
    size_t size = fread(data, 1, sizeof data, f);
    fclose(f);
    return LLVMFuzzerTestOneInput(data, size) == 0;
}

int main(int argc, char **argv) {
    char folder[256], path[600];
    test_start(argc, argv);
    const char *name = argc ? strstr(argv[0], "test_fuzz_") : NULL;
    if (name) name += strlen("test_fuzz_");
    snprintf(folder, sizeof folder, "tests/fuzz/seeds/%.*s", name ? (int)strcspn(name, ".") : 0,
             name ? name : "");
    DIR *d = opendir(folder);
    int files = 0;
    for (struct dirent *e; d && (e = readdir(d));) {
        if (e->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        TEST(e->d_name) CHECK(replay(path), "%s", path);
        files++;
    }
    if (d) closedir(d);
    TEST("files in the folder") CHECK(files > 0, "none in %s", folder);
    return test_end();
}
