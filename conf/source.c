#include "conf/source.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

const char *source_resolve(struct arena *arena, const char *by, struct bytes name)
{
    const char *slash = strrchr(by, '/');

    if (name.n > 0 && name.p[0] == '/')
        return arena_dup(arena, name);
    if (slash == NULL)
        return arena_dup(arena, name);
    return arena_print(arena, "%.*s%s", (int)(slash - by + 1), by, arena_dup(arena, name));
}

/* O_NONBLOCK: opening a pipe that nobody writes to must not hang; it is not a regular file and goes no further. */
static const char *open_checked(const char *file, bool special, int *fd, struct stat *st)
{
    const char *wrong = NULL;

    *fd = open(file, O_RDONLY | O_CLOEXEC | (special ? 0 : O_NONBLOCK));
    if (*fd < 0)
        return strerror(errno);
    if (fstat(*fd, st) != 0)
        wrong = strerror(errno);
    else if (S_ISDIR(st->st_mode))
        wrong = "it is a directory";
    else if (!special && !S_ISREG(st->st_mode))
        wrong = "it is not a regular file";
    if (wrong != NULL)
        close(*fd);
    return wrong;
}

struct buffer {
    char *p;
    size_t n, size;
};

/* What was in the old one may be a token: it is not left behind, as realloc would. */
static bool buffer_grow(struct buffer *b)
{
    size_t size = b->size == 0 ? 4096 : b->size * 2;
    char *p = malloc(size);

    if (p == NULL)
        return false;
    if (b->n > 0)
        memcpy(p, b->p, b->n);
    if (b->p != NULL)
        explicit_bzero(b->p, b->n);
    free(b->p);
    b->p = p;
    b->size = size;
    return true;
}

/* Stops as soon as there is more than bytes_max, which tells a file that is too large, or endless. */
static const char *read_all(int fd, size_t bytes_max, struct buffer *b)
{
    for (;;) {
        ssize_t got;

        if (b->n == b->size && !buffer_grow(b))
            return "out of memory";
        got = read(fd, b->p + b->n, b->size - b->n);
        if (got < 0 && errno != EINTR)
            return strerror(errno);
        if (got > 0)
            b->n += (size_t)got;
        if (got == 0 || b->n > bytes_max)
            return NULL;
    }
}

static const char *read_whole(struct arena *arena, int fd, size_t bytes_max, struct bytes *text)
{
    struct buffer b = {NULL, 0, 0};
    const char *wrong = read_all(fd, bytes_max, &b);

    if (wrong == NULL && b.n > bytes_max)
        wrong = arena_print(arena, "it is larger than %zu bytes", bytes_max);
    if (wrong == NULL)
        *text = arena_bytes(arena, (struct bytes){b.p, b.n});
    if (b.p != NULL)
        explicit_bzero(b.p, b.n);
    free(b.p);
    return wrong;
}

const char *source_read(struct arena *arena, const char *file, size_t bytes_max, bool special, struct source *out)
{
    struct stat st;
    int fd;
    const char *wrong = open_checked(file, special, &fd, &st);

    if (wrong != NULL)
        return wrong;
    out->device = st.st_dev;
    out->inode = st.st_ino;
    wrong = read_whole(arena, fd, bytes_max, &out->text);
    close(fd);
    return wrong;
}

const char *source_check(const char *file)
{
    struct stat st;
    int fd;
    const char *wrong = open_checked(file, false, &fd, &st);

    if (wrong == NULL)
        close(fd);
    return wrong;
}

bool source_is_forbidden(const char *file)
{
    return access(file, R_OK) != 0 && errno == EACCES;
}
