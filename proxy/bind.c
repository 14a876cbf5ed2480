#include "proxy/bind.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static int set_int(int fd, int level, int name, int value)
{
    return setsockopt(fd, level, name, &value, sizeof(value));
}

static int close_failed(int fd)
{
    int saved = errno;

    close(fd);
    errno = saved;
    return -1;
}

int bind_tcp(const struct addrinfo *ai, bool share)
{
    int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    if (set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1) != 0 || (share && set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1) != 0) ||
        (ai->ai_family == AF_INET6 && set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) != 0) ||
        bind(fd, ai->ai_addr, ai->ai_addrlen) != 0 || (share && listen(fd, SOMAXCONN) != 0))
        return close_failed(fd);
    return fd;
}

/* A socket file without a listener is what a killed process leaves behind. */
static int remove_stale(const struct sockaddr_un *addr)
{
    struct stat st;
    int fd, error;

    if (lstat(addr->sun_path, &st) != 0)
        return errno == ENOENT ? 0 : -1;
    if (!S_ISSOCK(st.st_mode)) {
        errno = EEXIST;
        return -1;
    }
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    error = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ? 0 : errno;
    close(fd);
    if (error != ECONNREFUSED) {
        errno = EADDRINUSE;
        return -1;
    }
    return unlink(addr->sun_path);
}

int bind_unix(const struct sockaddr_un *addr, mode_t mode, struct unix_file *file)
{
    struct stat st;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    /* fchmod before: at no time may more than these connect. chmod after: the umask took some of it off. */
    if (fchmod(fd, mode) != 0 || remove_stale(addr) != 0 || bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) != 0)
        return close_failed(fd);
    if (lstat(addr->sun_path, &st) == 0) {
        file->dev = st.st_dev;
        file->ino = st.st_ino;
    }
    file->path = strdup(addr->sun_path);
    if (file->path == NULL)
        abort();
    if (chmod(addr->sun_path, mode) != 0 || listen(fd, SOMAXCONN) != 0) {
        close_failed(fd);
        unix_file_remove(file);
        return -1;
    }
    return fd;
}

void unix_file_remove(struct unix_file *file)
{
    struct stat st;
    int saved = errno;

    if (file->path == NULL)
        return;
    if (lstat(file->path, &st) == 0 && st.st_dev == file->dev && st.st_ino == file->ino)
        unlink(file->path);
    free(file->path);
    file->path = NULL;
    errno = saved;
}

bool bind_is_tcp(int fd)
{
    int domain = 0;
    socklen_t n = sizeof(domain);

    return getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 && (domain == AF_INET || domain == AF_INET6);
}

const char *bind_error(int error)
{
    return error == EEXIST ? "the file exists and is not a socket" : strerror(error);
}

bool bind_is_exhaustion(int error)
{
    return error == EMFILE || error == ENFILE || error == ENOBUFS || error == ENOMEM;
}
