/*
 * Configurations in files of a temporary directory, for the tests of conf/.
 */
#ifndef WEIR_TESTS_CONF_SUPPORT_H
#define WEIR_TESTS_CONF_SUPPORT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <limits.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "conf/conf.h"

static char support_directory[64];

static inline int support_begin(void **state)
{
    (void)state;
    snprintf(support_directory, sizeof(support_directory), "%s/weir-conf-XXXXXX", P_tmpdir);
    return mkdtemp(support_directory) == NULL ? -1 : 0;
}

static inline int support_end(void **state)
{
    char command[128];

    (void)state;
    snprintf(command, sizeof(command), "rm -rf '%s'", support_directory);
    return system(command);
}

static inline const char *support_path(const char *name)
{
    static char path[PATH_MAX];

    snprintf(path, sizeof(path), "%s/%s", support_directory, name);
    return path;
}

static inline void support_write_bytes(const char *name, const char *text, size_t n)
{
    FILE *file = fopen(support_path(name), "w");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static inline void support_write(const char *name, const char *text)
{
    support_write_bytes(name, text, strlen(text));
}

static inline void support_mkdir(const char *name)
{
    assert_int_equal(mkdir(support_path(name), 0755), 0);
}

/* All errors in one text, a line each, without the directory. Empty: there are none. */
static inline const char *support_errors(const struct conf_errors *errors)
{
    static char text[65536];
    size_t n = 0, skip = strlen(support_directory) + 1;

    text[0] = '\0';
    for (size_t i = 0; i < errors->n && n < sizeof(text); i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s:%u:%u: %s\n", errors->v[i].mark.file + skip,
                              errors->v[i].mark.line, errors->v[i].mark.column, errors->v[i].text);
    assert_true(n < sizeof(text));
    return text;
}

/* Of weir.conf as it lies there. */
static inline const char *support_load_errors(void)
{
    struct conf_errors errors;
    struct conf *conf;
    int rc = conf_load(support_path("weir.conf"), &conf, &errors);
    const char *text = support_errors(&errors);

    assert_int_equal(rc, errors.n == 0 ? 0 : -1);
    assert_true((conf == NULL) == (errors.n > 0));
    conf_errors_free(&errors);
    conf_release(conf);
    return text;
}

/* A conf that must be good. */
static inline struct conf *support_load(const char *text)
{
    struct conf_errors errors;
    struct conf *conf;

    support_write("weir.conf", text);
    if (conf_load(support_path("weir.conf"), &conf, &errors) != 0)
        fail_msg("%s", support_errors(&errors));
    conf_errors_free(&errors);
    return conf;
}

#endif
