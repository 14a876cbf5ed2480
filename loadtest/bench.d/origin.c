/*
 * The origin of the bench: small, quick, one thread, HTTP/1.1 with keep-alive.
 *
 *   origin PORT
 *
 * GET /obj/SIZE/NAME is a JSON document of SIZE bytes with NAME in it, so that no two are the same, with validators and
 * a lifetime of an hour. GET /_count is how many of those were asked for. Anything else is a 404.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BODY_BYTES_MAX (1 << 20)
#define REQUEST_BYTES_MAX 16384
#define EVENTS_MAX 256
#define BACKLOG 4096

struct connection {
    int fd;
    size_t in_len;
    char in[REQUEST_BYTES_MAX];
    char *out; /* what the socket did not take yet; NULL: nothing */
    size_t out_len, out_sent;
};

static unsigned long long count;
static char filler[BODY_BYTES_MAX];
static char response[BODY_BYTES_MAX + 1024];

static void drop(struct connection *c)
{
    close(c->fd);
    free(c->out);
    free(c);
}

static const char *date(void)
{
    static char text[64];
    static time_t of;
    time_t now = time(NULL);

    if (now != of) {
        struct tm tm;

        of = now;
        strftime(text, sizeof(text), "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    }
    return text;
}

static size_t document(const char *name, size_t name_len, size_t size)
{
    static const char middle[] = "\",\"text\":\"", end[] = "\"}";
    size_t around = strlen("{\"name\":\"") + name_len + strlen(middle) + strlen(end);
    int head = snprintf(response, sizeof(response),
                        "HTTP/1.1 200 OK\r\nDate: %s\r\nServer: origin\r\nContent-Type: application/json\r\n"
                        "Content-Length: %zu\r\nCache-Control: max-age=3600\r\n"
                        "Last-Modified: Fri, 20 Nov 2020 10:00:00 GMT\r\nETag: \"v1-%zu\"\r\n\r\n",
                        date(), size, size);
    char *p = response + head;

    p += sprintf(p, "{\"name\":\"%.*s%s", (int)name_len, name, middle);
    memcpy(p, filler, size - around);
    memcpy(p + size - around, end, strlen(end));
    return (size_t)head + size;
}

static size_t short_answer(const char *status, const char *body)
{
    return (size_t)snprintf(response, sizeof(response),
                            "HTTP/1.1 %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n\r\n%s", status,
                            strlen(body), body);
}

/* Writes the response to a request, which ends in an empty line, into `response`. */
static size_t answer(const char *request)
{
    static const char prefix[] = "GET /obj/";
    char number[32], *after;
    unsigned long size;
    size_t name_len;

    if (strncmp(request, "GET /_count ", strlen("GET /_count ")) == 0) {
        snprintf(number, sizeof(number), "%llu", count);
        return short_answer("200 OK", number);
    }
    if (strncmp(request, prefix, strlen(prefix)) != 0) {
        return short_answer("404 Not Found", "");
    }
    size = strtoul(request + strlen(prefix), &after, 10);
    name_len = *after == '/' ? strcspn(after + 1, " \r\n") : 0;
    if (name_len == 0 || name_len > 200 || size < name_len + 100 || size > BODY_BYTES_MAX) {
        return short_answer("404 Not Found", "");
    }
    count++;
    return document(after + 1, name_len, size);
}

/* False: the connection is of no more use. */
static bool flush(struct connection *c)
{
    ssize_t n = send(c->fd, c->out + c->out_sent, c->out_len - c->out_sent, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0) {
        return errno == EAGAIN;
    }
    c->out_sent += (size_t)n;
    if (c->out_sent == c->out_len) {
        free(c->out);
        c->out = NULL;
    }
    return true;
}

static bool send_response(struct connection *c, size_t len)
{
    ssize_t n = send(c->fd, response, len, MSG_NOSIGNAL | MSG_DONTWAIT);

    if (n < 0 && errno != EAGAIN) {
        return false;
    }
    if (n < 0) {
        n = 0;
    }
    if ((size_t)n < len) {
        c->out_len = len - (size_t)n;
        c->out_sent = 0;
        c->out = malloc(c->out_len);
        if (c->out == NULL) {
            return false;
        }
        memcpy(c->out, response + n, c->out_len);
    }
    return true;
}

static bool answer_what_is_complete(struct connection *c)
{
    char *end;
    size_t len;

    while (c->out == NULL && (end = memmem(c->in, c->in_len, "\r\n\r\n", 4)) != NULL) {
        if (!send_response(c, answer(c->in))) {
            return false;
        }
        len = (size_t)(end + 4 - c->in);
        memmove(c->in, end + 4, c->in_len - len);
        c->in_len -= len;
    }
    return true;
}

static bool serve(struct connection *c, unsigned events)
{
    ssize_t n;

    if ((events & EPOLLOUT) != 0 && c->out != NULL && !flush(c)) {
        return false;
    }
    if ((events & ~(unsigned)EPOLLOUT) != 0) {
        n = recv(c->fd, c->in + c->in_len, sizeof(c->in) - c->in_len, MSG_DONTWAIT);
        if (n == 0 || (n < 0 && errno != EAGAIN)) {
            return false;
        }
        c->in_len += n > 0 ? (size_t)n : 0;
    }
    return answer_what_is_complete(c);
}

static void accept_all(int listener, int ep)
{
    int fd, on = 1;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) != -1) {
        struct connection *c = calloc(1, sizeof(*c));
        struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c};

        if (c == NULL) {
            close(fd);
            continue;
        }
        c->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &event) != 0) {
            drop(c);
        }
    }
}

static int listen_on(int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd == -1 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 || listen(fd, BACKLOG) != 0) {
        perror("origin");
        exit(1);
    }
    return fd;
}

int main(int argc, char **argv)
{
    struct epoll_event events[EVENTS_MAX], event = {.events = EPOLLIN};
    int ep = epoll_create1(EPOLL_CLOEXEC), listener, i, n;

    if (argc != 2) {
        fputs("usage: origin PORT\n", stderr);
        return 2;
    }
    for (i = 0; i < BODY_BYTES_MAX; i++) {
        filler[i] = "what stands behind a weir is calm, "[i % 35];
    }
    listener = listen_on((int)strtol(argv[1], NULL, 10));
    epoll_ctl(ep, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        n = epoll_wait(ep, events, EVENTS_MAX, -1);
        for (i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;

            if (c == NULL) {
                accept_all(listener, ep);
            } else if (!serve(c, events[i].events)) {
                drop(c);
            }
        }
    }
}
