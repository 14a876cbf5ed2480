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

/* One byte more than allowed is asked for, which tells a file that is too large. */
static const char *read_whole(struct arena *arena, int fd, size_t bytes_max, struct bytes *text)
{
    char *buffer = malloc(bytes_max + 1);
    const char *wrong = NULL;
    size_t n = 0;
    ssize_t got = -1;

    if (buffer == NULL)
        return "out of memory";
    while (n <= bytes_max && (got = read(fd, buffer + n, bytes_max + 1 - n)) != 0) {
        if (got > 0)
            n += (size_t)got;
        else if (errno != EINTR) {
            wrong = strerror(errno);
            break;
        }
    }
    if (wrong == NULL && n > bytes_max)
        wrong = arena_print(arena, "it is larger than %zu bytes", bytes_max);
    if (wrong == NULL)
        *text = arena_bytes(arena, (struct bytes){buffer, n});
    explicit_bzero(buffer, n);
    free(buffer);
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
