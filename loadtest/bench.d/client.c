/*
 * The HTTP/1.1 load of the bench: keep-alive connections from one thread, each response looked at.
 *
 *   client -p PORT -c CONNECTIONS (-u PATH | -f FILE | -q PREFIX) (-t SECONDS | -n COUNT) [options]
 *
 *   -u PATH    ask for this path again and again
 *   -f FILE    ask for the paths in FILE, one a line, each connection from a place of its own
 *   -q PREFIX  ask for PREFIX0, PREFIX1 and so on
 *   -t, -n     for so long, or so often
 *   -r RATE    so many requests a second, and no more; the latency runs from when a request was due
 *   -m METHOD  GET or HEAD
 *   -H FIELD   a header field of the request
 *   -s STATUS  what every response must have: 200 where nothing is said
 *   -l LENGTH  the Content-Length that every response must have
 *   -w         wait for what comes, instead of looking for it all the time
 *   -i         leave the connections open and idle, until the standard input ends
 *
 * Prints one JSON object. Any response that is not as it must be ends the program with status 1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define HOST "bench.test"
#define SECOND_NS 1000000000LL
#define SILENCE_MAX_NS (30 * SECOND_NS) /* longer than that without any answer is a failure */
#define SCRATCH_BYTES (256 << 10)
#define HEAD_BYTES_MAX 8192
#define EVENTS_MAX 256
#define UNKNOWN (-1LL)

/* Latencies in buckets that are 1/64 wide of their value. */
#define STEPS_LOG2 6
#define BUCKETS (64 << STEPS_LOG2)

struct connection {
    int fd;
    int64_t due_ns;
    long long body_left; /* UNKNOWN while the head is not complete */
    size_t place;        /* in the list of paths */
    size_t head_len;
    char *head; /* the part of a head that has come so far */
};

static struct {
    int port;
    size_t connections;
    const char *path, *file, *prefix;
    double seconds, rate;
    long long count;
    const char *method;
    char fields[2048];
    int status;
    long long length;
    bool waits, idles;
} options = {.connections = 64, .method = "GET", .status = 200, .length = UNKNOWN};

static struct connection *connections;
static struct connection **idle; /* a ring: who was answered first is asked to send first */
static size_t idle_first, idle_count;
static char **paths;
static size_t path_count;

static char scratch[HEAD_BYTES_MAX + SCRATCH_BYTES];
static uint64_t buckets[BUCKETS];
static long long sent, done;
static int64_t began_ns, ended_ns;

__attribute__((format(printf, 1, 2), noreturn)) static void fail(const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    fputs("client: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

/* Latencies */

static size_t bucket_of(uint64_t ns)
{
    int shift;

    if (ns < (1 << STEPS_LOG2)) {
        return ns;
    }
    shift = 63 - __builtin_clzll(ns) - STEPS_LOG2;
    return ((size_t)shift << STEPS_LOG2) + (ns >> shift);
}

static double bucket_us(size_t bucket)
{
    size_t shift = bucket >> STEPS_LOG2;

    if (shift <= 1) {
        return (double)bucket / 1e3;
    }
    shift--;
    return (double)((uint64_t)(bucket - (shift << STEPS_LOG2)) << shift) / 1e3;
}

static double latency_us(double share)
{
    uint64_t rank = (uint64_t)((double)done * share), seen = 0;
    size_t i;

    for (i = 0; i < BUCKETS; i++) {
        seen += buckets[i];
        if (seen > rank) {
            return bucket_us(i);
        }
    }
    return 0;
}

/* Connections */

static void become_idle(struct connection *c)
{
    idle[(idle_first + idle_count++) % options.connections] = c;
}

static struct connection *take_idle(void)
{
    struct connection *c = idle[idle_first];

    idle_first = (idle_first + 1) % options.connections;
    idle_count--;
    return c;
}

static void open_connection(struct connection *c, int ep)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)options.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int on = 1;

    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd == -1 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)) != 0) {
        fail("connecting to port %d: %s", options.port, strerror(errno));
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &event) != 0) {
        fail("epoll_ctl: %s", strerror(errno));
    }
}

static void send_request(struct connection *c, int64_t due_ns)
{
    char request[HEAD_BYTES_MAX], numbered[512];
    const char *path = options.path;
    int len;

    if (options.prefix != NULL) {
        snprintf(numbered, sizeof(numbered), "%s%lld", options.prefix, sent);
        path = numbered;
    } else if (path == NULL) {
        path = paths[c->place];
        c->place = (c->place + 1) % path_count;
    }
    len = snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\nHost: " HOST "\r\n%s\r\n", options.method, path,
                   options.fields);
    c->due_ns = due_ns;
    c->body_left = UNKNOWN;
    if (send(c->fd, request, (size_t)len, MSG_NOSIGNAL) != len) {
        fail("sending: %s", strerror(errno));
    }
    sent++;
}

/* Responses */

static long long content_length(const char *head, const char *end)
{
    static const char name[] = "\r\ncontent-length:";
    const char *line = head;

    while ((line = memchr(line, '\r', (size_t)(end - line))) != NULL) {
        if (end - line > (ptrdiff_t)sizeof(name) && strncasecmp(line, name, sizeof(name) - 1) == 0) {
            return strtoll(line + sizeof(name) - 1, NULL, 10);
        }
        line++;
    }
    return UNKNOWN;
}

/* Judges a complete head; returns how long the body behind it is. */
static long long judge_head(const char *head, const char *end)
{
    long long length = content_length(head, end);
    int status = end - head > 12 ? (int)strtol(head + 9, NULL, 10) : 0;

    if (status != options.status) {
        fail("status %d, not %d: %.*s", status, options.status, (int)(end - head), head);
    }
    if (options.length != UNKNOWN && length != options.length) {
        fail("Content-Length %lld, not %lld: %.*s", length, options.length, (int)(end - head), head);
    }
    if (status == 304 || strcmp(options.method, "HEAD") == 0) {
        return 0;
    }
    if (length == UNKNOWN) {
        fail("no Content-Length: %.*s", (int)(end - head), head);
    }
    return length;
}

static void complete(struct connection *c, int64_t now)
{
    size_t bucket = bucket_of((uint64_t)(now - c->due_ns));

    buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    done++;
    ended_ns = now;
    become_idle(c);
}

/* Takes what has come on a connection: the rest of a head, of a body, or both. */
static void receive(struct connection *c, int64_t now)
{
    size_t kept = c->body_left == UNKNOWN ? c->head_len : 0, len;
    ssize_t n = recv(c->fd, scratch + kept, SCRATCH_BYTES, MSG_DONTWAIT);
    const char *end;

    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0) {
        fail("the server closed a connection after %lld responses", done);
    }
    len = (size_t)n;
    if (c->body_left == UNKNOWN) {
        memcpy(scratch, c->head, kept);
        len += kept;
        end = memmem(scratch, len, "\r\n\r\n", 4);
        if (end == NULL) {
            if (len > HEAD_BYTES_MAX) {
                fail("a head of more than %d bytes", HEAD_BYTES_MAX);
            }
            memcpy(c->head, scratch, len);
            c->head_len = len;
            return;
        }
        c->head_len = 0;
        c->body_left = judge_head(scratch, end + 2);
        len -= (size_t)(end + 4 - scratch);
    }
    if ((long long)len > c->body_left) {
        fail("more bytes than the response has");
    }
    c->body_left -= (long long)len;
    if (c->body_left == 0) {
        complete(c, now);
    }
}

/* The run */

static bool is_over(int64_t now)
{
    return options.count > 0 ? sent >= options.count : now >= began_ns + (int64_t)(options.seconds * 1e9);
}

static int64_t next_due_ns(void)
{
    return began_ns + (int64_t)((double)sent / options.rate * 1e9);
}

static void send_what_is_due(int64_t now)
{
    while (idle_count > 0 && !is_over(now)) {
        int64_t due = now;

        if (options.rate > 0) {
            due = next_due_ns();
            if (due > now) {
                return;
            }
        }
        send_request(take_idle(), due);
    }
}

/* Until something comes, or a request is due. */
static int await(int ep, struct epoll_event events[EVENTS_MAX], int64_t now)
{
    int64_t wait_ns = SECOND_NS;
    struct timespec timeout;

    if (!options.waits) {
        return epoll_wait(ep, events, EVENTS_MAX, 0);
    }
    if (options.rate > 0 && idle_count > 0 && next_due_ns() < now + wait_ns) {
        wait_ns = next_due_ns() > now ? next_due_ns() - now : 0;
    }
    timeout = (struct timespec){wait_ns / SECOND_NS, wait_ns % SECOND_NS};
    return epoll_pwait2(ep, events, EVENTS_MAX, &timeout, NULL);
}

static void run(int ep)
{
    struct epoll_event events[EVENTS_MAX];
    int64_t now = now_ns();
    int i, n;

    began_ns = ended_ns = now;
    prctl(PR_SET_TIMERSLACK, 1UL);
    for (;;) {
        send_what_is_due(now);
        if (is_over(now) && sent == done) {
            return;
        }
        n = await(ep, events, now);
        now = now_ns();
        for (i = 0; i < n; i++) {
            receive(events[i].data.ptr, now);
        }
        if (sent > done && now - ended_ns > SILENCE_MAX_NS) {
            fail("no answer for %lld s after %lld responses", SILENCE_MAX_NS / SECOND_NS, done);
        }
    }
}

/* One connection after the other, each with one request: a backlog that overflows would cost a second. */
static void open_and_ask_one_by_one(int ep)
{
    struct epoll_event event;
    size_t i;

    began_ns = now_ns();
    for (i = 0; i < options.connections; i++) {
        open_connection(&connections[i], ep);
        send_request(&connections[i], now_ns());
        while (done < sent) {
            if (epoll_wait(ep, &event, 1, (int)(SILENCE_MAX_NS / 1000000)) != 1) {
                fail("no answer on connection %zu", i);
            }
            receive(event.data.ptr, now_ns());
        }
    }
}

static void report(void)
{
    double seconds = (double)(ended_ns - began_ns) / 1e9;
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    printf("{\"requests\": %lld, \"seconds\": %.6f, \"p50_us\": %.1f, \"p99_us\": %.1f, \"p999_us\": %.1f, "
           "\"cpu_s\": %.3f}\n",
           done, seconds, latency_us(0.5), latency_us(0.99), latency_us(0.999),
           (double)(used.ru_utime.tv_sec + used.ru_stime.tv_sec) +
               (double)(used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6);
    fflush(stdout);
}

static void stay_until_input_ends(void)
{
    char byte;

    while (read(STDIN_FILENO, &byte, 1) > 0) {
    }
}

/* Set-up */

static void read_paths(const char *name)
{
    FILE *file = fopen(name, "r");
    size_t capacity = 0, size = 0;
    char *line = NULL;
    ssize_t len;

    if (file == NULL) {
        fail("%s: %s", name, strerror(errno));
    }
    while ((len = getline(&line, &size, file)) > 0) {
        line[strcspn(line, "\n")] = '\0';
        if (path_count == capacity) {
            capacity = capacity > 0 ? 2 * capacity : 1024;
            paths = realloc(paths, capacity * sizeof(*paths));
            if (paths == NULL) {
                fail("out of memory");
            }
        }
        paths[path_count++] = strdup(line);
    }
    free(line);
    fclose(file);
    if (path_count == 0) {
        fail("%s: no paths", name);
    }
}

static void make_connections(void)
{
    size_t i;

    connections = calloc(options.connections, sizeof(*connections));
    idle = calloc(options.connections, sizeof(struct connection *));
    if (connections == NULL || idle == NULL) {
        fail("out of memory");
    }
    for (i = 0; i < options.connections; i++) {
        connections[i].head = malloc(HEAD_BYTES_MAX + 1);
        connections[i].place = i * path_count / options.connections;
        if (connections[i].head == NULL) {
            fail("out of memory");
        }
    }
}

static void add_field(const char *field)
{
    size_t len = strlen(options.fields);

    if ((size_t)snprintf(options.fields + len, sizeof(options.fields) - len, "%s\r\n", field) >=
        sizeof(options.fields) - len) {
        fail("too many fields");
    }
}

static void set_option(int letter)
{
    switch (letter) {
    case 'p':
        options.port = (int)strtol(optarg, NULL, 10);
        break;
    case 'c':
        options.connections = strtoul(optarg, NULL, 10);
        break;
    case 'u':
        options.path = optarg;
        break;
    case 'f':
        options.file = optarg;
        break;
    case 'q':
        options.prefix = optarg;
        break;
    case 't':
        options.seconds = strtod(optarg, NULL);
        break;
    case 'n':
        options.count = strtoll(optarg, NULL, 10);
        break;
    case 'r':
        options.rate = strtod(optarg, NULL);
        break;
    case 'm':
        options.method = optarg;
        break;
    case 'H':
        add_field(optarg);
        break;
    case 's':
        options.status = (int)strtol(optarg, NULL, 10);
        break;
    case 'l':
        options.length = strtoll(optarg, NULL, 10);
        break;
    case 'w':
        options.waits = true;
        break;
    case 'i':
        options.idles = true;
        break;
    default:
        exit(2);
    }
}

int main(int argc, char **argv)
{
    int ep, letter;
    size_t i;

    while ((letter = getopt(argc, argv, "p:c:u:f:q:t:n:r:m:H:s:l:wi")) != -1) {
        set_option(letter);
    }
    if (options.port <= 0 || options.connections == 0 || optind != argc ||
        (options.path != NULL) + (options.file != NULL) + (options.prefix != NULL) != 1) {
        fail("-p, and one of -u, -f and -q, are needed");
    }
    if (options.file != NULL) {
        read_paths(options.file);
    }
    make_connections();
    ep = epoll_create1(EPOLL_CLOEXEC);
    if (options.idles) {
        open_and_ask_one_by_one(ep);
    } else {
        for (i = 0; i < options.connections; i++) {
            open_connection(&connections[i], ep);
            become_idle(&connections[i]);
        }
        run(ep);
    }
    report();
    if (options.idles) {
        stay_until_input_ends();
    }
    return 0;
}
