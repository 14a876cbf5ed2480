/*
 * Binding sockets to an operator's addresses, for all that listens.
 *
 * Errors   -1 and errno; nothing stays open, and no file stays behind.
 * Threads  Any.
 */
#ifndef WEIR_PROXY_BIND_H
#define WEIR_PROXY_BIND_H

#include <netdb.h>
#include <stdbool.h>
#include <sys/stat.h>
#include <sys/un.h>

/* share: listens, and others of this user may do so on the same address (SO_REUSEPORT). Not dual-stack: 0.0.0.0:N and
 * [::]:N are two listeners that can stand side by side. */
int bind_tcp(const struct addrinfo *ai, bool share);

/* A socket's file that is ours to remove. */
struct unix_file {
    char *path; /* NULL: none */
    dev_t dev;
    ino_t ino;
};

/* Listens; the file has this mode. A path that exists is taken over only if it is a socket that nobody listens on;
 * EEXIST: it is no socket. */
int bind_unix(const struct sockaddr_un *addr, mode_t mode, struct unix_file *file);
void unix_file_remove(struct unix_file *file); /* unless another file has come into its place */

bool bind_is_tcp(int fd);
/* Of an address that overlaps with one that weir listens on already. */
#define BIND_OVERLAP_ADVICE                                                                                            \
    "which is open now and overlaps with it; reload once without that one and then with this one, or restart"

const char *bind_error(int error); /* strerror, and what EEXIST means here */

/* Descriptors or memory have run out: accept(2) keeps failing at once, again and again. */
bool bind_is_exhaustion(int error);

#endif
