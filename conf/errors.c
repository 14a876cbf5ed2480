#include <stdarg.h>
#include <stdlib.h>

#include "conf/conf.h"

static void *checked(void *p)
{
    if (p == NULL)
        abort();
    return p;
}

void conf_errors_add(struct conf_errors *errors, struct conf_mark mark, const char *format, ...)
{
    va_list args;
    char *text;

    va_start(args, format);
    if (vasprintf(&text, format, args) < 0)
        abort();
    va_end(args);
    errors->v = checked(reallocarray(errors->v, errors->n + 1, sizeof(*errors->v)));
    mark.file = checked(strdup(mark.file));
    errors->v[errors->n++] = (struct conf_error){mark, text};
}

void conf_errors_print(const struct conf_errors *errors, FILE *to)
{
    for (size_t i = 0; i < errors->n; i++) {
        const struct conf_error *e = &errors->v[i];

        fprintf(to, "%s:%u:%u: %s\n", e->mark.file, e->mark.line, e->mark.column, e->text);
    }
}

void conf_errors_free(struct conf_errors *errors)
{
    for (size_t i = 0; i < errors->n; i++) {
        free((char *)errors->v[i].mark.file);
        free((char *)errors->v[i].text);
    }
    free(errors->v);
    *errors = (struct conf_errors){NULL, 0};
}
