#include "proxy/log.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum {
    BUFFER_MAX = 4 * 1024 * 1024, /* lines that wait for the disk; beyond, they are dropped */
    LINE_MAX_BYTES = 16 * 1024,
    VALUE_MAX_BYTES = 2048, /* of one of a line's values, escaped: so that all of them and the line's end have room */
    VALUES_MAX = 6,         /* that are longer than a few words: method, host, target, route, referer, user agent */
    LINE_REST_BYTES = 2048, /* everything else in a line */
    EVENTS_A_SECOND = 50,   /* what goes wrong for every request must not fill the disk */
    EVENT_WAIT_MS = 100,    /* once, for a reader of events that does not read */
    LOOK_MS = 100,          /* how often it is looked whether a reader is still worth waiting for */
};

struct log {
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t some, over;
    /* under lock */
    char *pending, *writing;
    size_t pending_n;
    uint64_t dropped;
    bool stop, ended, hangs;
    int fd; /* of the access log; -1: off */
    bool fd_is_ours;
    char *path;
    time_t event_second;
    unsigned events, events_suppressed;
    /* held for one write that may not block */
    pthread_mutex_t writing_lock;
    bool events_stuck; /* their reader has not read for EVENT_WAIT_MS */
    /* any thread */
    FILE *stderr_before;
    _Atomic bool give_up;
    size_t lost; /* bytes that were given up; its own thread's, until it has ended */
    _Atomic bool access_on;
    _Atomic int format, level;
};

/* Pipes, terminals and sockets may have a reader that does not read. poll(2) promises room for PIPE_BUF bytes there. */

static bool is_writable(int fd, int wait_ms)
{
    struct pollfd p = {.fd = fd, .events = POLLOUT};

    return poll(&p, 1, wait_ms) > 0;
}

/* A piece that ends with a line where it can: others may write to the same pipe. */
static size_t piece_n(const char *p, size_t n)
{
    const char *end = n <= PIPE_BUF ? NULL : memrchr(p, '\n', PIPE_BUF);

    return n <= PIPE_BUF ? n : end != NULL ? (size_t)(end + 1 - p) : PIPE_BUF;
}

/* As much as there is room for; < 0: failed, and EAGAIN if there is none. Never blocks, for nobody else in this process
 * writes meanwhile. */
static ssize_t write_piece(struct log *log, int fd, const char *p, size_t n)
{
    ssize_t done = -1;

    pthread_mutex_lock(&log->writing_lock);
    errno = EAGAIN;
    if (is_writable(fd, 0))
        done = write(fd, p, piece_n(p, n));
    pthread_mutex_unlock(&log->writing_lock);
    return done;
}

static bool is_file(int fd)
{
    struct stat st;

    return fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* A full disk loses lines, not requests. */
static size_t write_lines(struct log *log, int fd, const char *p, size_t n)
{
    bool file = is_file(fd);

    while (n > 0) {
        ssize_t done = file ? write(fd, p, n) : write_piece(log, fd, p, n);

        if (done < 0 && errno == EAGAIN && !atomic_load(&log->give_up))
            is_writable(fd, LOOK_MS);
        else if (done < 0 && errno != EINTR)
            break;
        if (done > 0) {
            p += done;
            n -= (size_t)done;
        }
    }
    return n;
}

/* From the event loops: they wait for a reader once, and then no more until it reads again. */
static void write_event(struct log *log, const char *p, size_t n)
{
    pthread_mutex_lock(&log->writing_lock);
    while (n > 0) {
        log->events_stuck = !is_writable(STDERR_FILENO, log->events_stuck ? 0 : EVENT_WAIT_MS);
        if (log->events_stuck)
            break;
        ssize_t done = write(STDERR_FILENO, p, piece_n(p, n));

        if (done < 0 && errno != EINTR && errno != EAGAIN)
            break;
        if (done > 0) {
            p += done;
            n -= (size_t)done;
        }
    }
    pthread_mutex_unlock(&log->writing_lock);
}

static void *run(void *data)
{
    struct log *log = data;

    pthread_mutex_lock(&log->lock);
    for (;;) {
        while (log->pending_n == 0 && !log->stop)
            pthread_cond_wait(&log->some, &log->lock);
        if (log->pending_n == 0)
            break;
        char *full = log->pending;
        size_t n = log->pending_n;
        uint64_t dropped = log->dropped;
        /* a duplicate: the log may be reopened while this one is written */
        int fd = log->fd >= 0 ? fcntl(log->fd, F_DUPFD_CLOEXEC, 3) : -1;

        log->pending = log->writing;
        log->writing = full;
        log->pending_n = 0;
        log->dropped = 0;
        pthread_mutex_unlock(&log->lock);
        if (fd >= 0) {
            size_t left = write_lines(log, fd, full, n);
            close(fd);
            if (atomic_load(&log->give_up))
                log->lost += left;
        }
        if (dropped > 0)
            log_event(log, CONF_LOG_WARN, "access log too slow: %llu lines dropped", (unsigned long long)dropped);
        pthread_mutex_lock(&log->lock);
    }
    log->ended = true;
    pthread_cond_signal(&log->over);
    pthread_mutex_unlock(&log->lock);
    return NULL;
}

/* What libraries print. libh2o has a line for each HTTP/2 frame that it does not know: any client could fill the disk
 * with them, so they are events of the lowest level. All else (a failed assertion) is written out as it is. */
static ssize_t on_stderr(void *data, const char *text, size_t n)
{
    static const struct bytes noise = BYTES_LIT("skipping frame");
    struct bytes line = {text, n};

    while (line.n > 0 && line.p[line.n - 1] == '\n')
        line.n--;
    if (bytes_starts(line, noise))
        log_event(data, CONF_LOG_DEBUG, "libh2o: %.*s", (int)line.n, line.p);
    else
        write_event(data, text, n);
    return (ssize_t)n;
}

static void take_stderr(struct log *log)
{
    FILE *ours = fopencookie(log, "w", (cookie_io_functions_t){.write = on_stderr});

    if (ours == NULL)
        abort();
    setvbuf(ours, NULL, _IONBF, 0); /* fprintf then writes a line at once, from its own stack */
    log->stderr_before = stderr;
    stderr = ours;
}

static void give_back_stderr(struct log *log)
{
    FILE *ours = stderr;

    stderr = log->stderr_before;
    fclose(ours);
}

struct log *log_create(void)
{
    struct log *log = calloc(1, sizeof *log);

    if (log == NULL)
        abort();
    log->pending = malloc(BUFFER_MAX);
    log->writing = malloc(BUFFER_MAX);
    if (log->pending == NULL || log->writing == NULL)
        abort();
    log->fd = -1;
    log->level = CONF_LOG_INFO;
    pthread_mutex_init(&log->lock, NULL);
    pthread_mutex_init(&log->writing_lock, NULL);
    pthread_cond_init(&log->some, NULL);
    pthread_cond_init(&log->over, NULL);
    take_stderr(log);
    if (pthread_create(&log->thread, NULL, run, log) != 0)
        abort();
    return log;
}

static struct timespec in_ms(int64_t ms)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += ms / 1000;
    t.tv_nsec += ms % 1000 * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_sec++;
        t.tv_nsec -= 1000000000;
    }
    return t;
}

/* The thread writes what is pending and ends; past the time it gives up where it is. Should another process have filled
 * the pipe at the wrong moment, it hangs in write(2), and is left to the process's end. */
void log_end(struct log *log, int64_t max_ms)
{
    struct timespec until = in_ms(max_ms);
    int late = 0;

    pthread_mutex_lock(&log->lock);
    log->stop = true;
    pthread_cond_signal(&log->some);
    while (!log->ended && late == 0)
        late = pthread_cond_timedwait(&log->over, &log->lock, &until);
    pthread_mutex_unlock(&log->lock);
    atomic_store(&log->give_up, true);
    until = in_ms(2 * LOOK_MS);
    log->hangs = pthread_timedjoin_np(log->thread, NULL, &until) != 0;
    if (!log->hangs && log->lost > 0)
        log_event(log, CONF_LOG_WARN, "access log: the last %zu bytes could not be written", log->lost);
}

void log_destroy(struct log *log)
{
    if (log->hangs)
        return;
    give_back_stderr(log);
    if (log->fd_is_ours)
        close(log->fd);
    pthread_mutex_destroy(&log->lock);
    pthread_mutex_destroy(&log->writing_lock);
    pthread_cond_destroy(&log->some);
    pthread_cond_destroy(&log->over);
    free(log->path);
    free(log->pending);
    free(log->writing);
    free(log);
}

static int open_path(const char *path, int *fd, char *err, size_t err_cap)
{
    *fd = -1;
    if (path == NULL)
        return 0;
    if (strcmp(path, "-") == 0) {
        *fd = STDOUT_FILENO;
        return 0;
    }
    *fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    if (*fd < 0) {
        snprintf(err, err_cap, "cannot open the access log '%s': %s%s", path, strerror(errno),
                 errno == EACCES ? "; it and its directory must be writable by the user that weir runs as" : "");
        return -1;
    }
    return 0;
}

static void switch_to(struct log *log, const char *path, int fd)
{
    char *copy = path != NULL ? strdup(path) : NULL;

    pthread_mutex_lock(&log->lock);
    int old = log->fd_is_ours ? log->fd : -1;
    char *old_path = log->path;

    log->fd = fd;
    log->fd_is_ours = fd >= 0 && fd != STDOUT_FILENO;
    log->path = copy;
    atomic_store(&log->access_on, fd >= 0);
    pthread_mutex_unlock(&log->lock);
    if (old >= 0)
        close(old);
    free(old_path);
}

/* Only the main thread changes the path, so it reads it without the lock. */
static bool is_open(const struct log *log, const char *path)
{
    return path != NULL && log->path != NULL && strcmp(path, log->path) == 0;
}

int log_configure(struct log *log, const struct conf *conf, char *err, size_t err_cap)
{
    const struct conf_mark *mark = &conf->access_mark;
    char why[512];
    int fd;

    if (!is_open(log, conf->access_log)) {
        if (open_path(conf->access_log, &fd, why, sizeof why) != 0) {
            snprintf(err, err_cap, "%s:%u:%u: %s", mark->file, mark->line, mark->column, why);
            return -1;
        }
        switch_to(log, conf->access_log, fd);
    }
    atomic_store(&log->format, conf->access_format);
    atomic_store(&log->level, conf->log_level);
    return 0;
}

int log_reopen(struct log *log, char *err, size_t err_cap)
{
    pthread_mutex_lock(&log->lock);
    char *path = log->path != NULL ? strdup(log->path) : NULL;

    pthread_mutex_unlock(&log->lock);
    int fd, failed = open_path(path, &fd, err, err_cap);

    if (failed == 0)
        switch_to(log, path, fd);
    free(path);
    return failed;
}

void log_give(struct log *log, uid_t user)
{
    struct stat open, named;

    if (!log->fd_is_ours || fstat(log->fd, &open) != 0 || lstat(log->path, &named) != 0)
        return;
    if (S_ISREG(open.st_mode) && open.st_nlink == 1 && open.st_dev == named.st_dev && open.st_ino == named.st_ino &&
        fchown(log->fd, user, (gid_t)-1) != 0)
        log_event(log, CONF_LOG_WARN, "the access log '%s' cannot be given to its user: %s", log->path,
                  strerror(errno));
}

bool log_access_on(const struct log *log)
{
    return atomic_load_explicit(&((struct log *)log)->access_on, memory_order_relaxed);
}

/* --- lines --- */

struct line {
    char text[LINE_MAX_BYTES];
    size_t n;
};

_Static_assert(LINE_REST_BYTES + VALUES_MAX * VALUE_MAX_BYTES <= LINE_MAX_BYTES, "a line's end has room");

static void put(struct line *l, struct bytes s)
{
    if (l->n + s.n < sizeof l->text) {
        if (s.n > 0)
            memcpy(l->text + l->n, s.p, s.n);
        l->n += s.n;
    }
}

static void put_number(struct line *l, const char *format, long long n)
{
    char text[32];

    put(l, (struct bytes){text, (size_t)snprintf(text, sizeof text, format, n)});
}

static size_t escape(char c, const char *format, char out[16])
{
    unsigned char byte = (unsigned char)c;

    if (byte < 0x20 || byte >= 0x7f)
        return (size_t)snprintf(out, 16, format, byte);
    size_t n = 0;

    if (c == '"' || c == '\\')
        out[n++] = '\\';
    out[n++] = c;
    return n;
}

/* What clients send is not trusted in a log: controls, quotes and bytes above ASCII are escaped, and what is too long
 * is cut, but not in the middle of an escape. */
static void put_escaped(struct line *l, struct bytes s, const char *format)
{
    size_t end = l->n + VALUE_MAX_BYTES;
    char text[16];

    for (size_t i = 0; i < s.n; i++) {
        size_t n = escape(s.p[i], format, text);

        if (l->n + n > end)
            return;
        put(l, (struct bytes){text, n});
    }
}

static void put_json(struct line *l, struct bytes name, struct bytes value)
{
    put(l, BYTES_LIT(",\""));
    put(l, name);
    put(l, BYTES_LIT("\":\""));
    put_escaped(l, value, "\\u%04x");
    put(l, BYTES_LIT("\""));
}

static void put_json_number(struct line *l, struct bytes name, long long n)
{
    put(l, BYTES_LIT(",\""));
    put(l, name);
    put_number(l, "\":%lld", n);
}

static void format_json(struct line *l, const struct access_line *a)
{
    time_t s = (time_t)(a->wall_ms / 1000);
    struct tm tm;
    char when[40];
    size_t n;

    gmtime_r(&s, &tm);
    n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    put(l, BYTES_LIT("{\"time\":\""));
    put(l, (struct bytes){when, n});
    put_number(l, ".%03lldZ\"", a->wall_ms % 1000);
    put_json(l, BYTES_LIT("client"), a->client);
    put_json(l, BYTES_LIT("method"), a->method);
    put_json(l, BYTES_LIT("host"), a->host);
    put_json(l, BYTES_LIT("target"), a->target);
    put_json(l, BYTES_LIT("protocol"), a->http2 ? BYTES_LIT("HTTP/2") : BYTES_LIT("HTTP/1.1"));
    put_json_number(l, BYTES_LIT("status"), a->status);
    put_json_number(l, BYTES_LIT("bytes"), (long long)a->bytes);
    put_number(l, ",\"duration_ms\":%lld", (long long)(a->duration_us / 1000));
    put_number(l, ".%03lld", (long long)(a->duration_us % 1000));
    put_json(l, BYTES_LIT("route"), a->route);
    put_json(l, BYTES_LIT("cache"), bytes_of(a->cache));
    put_json(l, BYTES_LIT("referer"), a->referer);
    put_json(l, BYTES_LIT("user_agent"), a->user_agent);
    put(l, a->complete ? BYTES_LIT(",\"complete\":true}\n") : BYTES_LIT(",\"complete\":false}\n"));
}

static void put_or_dash(struct line *l, struct bytes s)
{
    if (s.n == 0)
        put(l, BYTES_LIT("-"));
    else
        put_escaped(l, s, "\\x%02x");
}

static void format_combined(struct line *l, const struct access_line *a)
{
    time_t s = (time_t)(a->wall_ms / 1000);
    struct tm tm;
    char when[48];
    size_t n;

    localtime_r(&s, &tm);
    n = strftime(when, sizeof when, " - - [%d/%b/%Y:%H:%M:%S %z] \"", &tm);
    put_escaped(l, a->client, "\\x%02x");
    put(l, (struct bytes){when, n});
    put_escaped(l, a->method, "\\x%02x");
    put(l, BYTES_LIT(" "));
    put_escaped(l, a->target, "\\x%02x");
    put(l, a->http2 ? BYTES_LIT(" HTTP/2\" ") : BYTES_LIT(" HTTP/1.1\" "));
    put_number(l, "%lld ", a->status);
    put_number(l, "%lld \"", (long long)a->bytes);
    put_or_dash(l, a->referer);
    put(l, BYTES_LIT("\" \""));
    put_or_dash(l, a->user_agent);
    put(l, BYTES_LIT("\"\n"));
}

void log_access(struct log *log, const struct access_line *a)
{
    struct line l;

    l.n = 0;
    if (atomic_load_explicit(&log->format, memory_order_relaxed) == CONF_LOG_JSON)
        format_json(&l, a);
    else
        format_combined(&l, a);
    pthread_mutex_lock(&log->lock);
    if (log->pending_n + l.n <= BUFFER_MAX) {
        memcpy(log->pending + log->pending_n, l.text, l.n);
        if (log->pending_n == 0)
            pthread_cond_signal(&log->some);
        log->pending_n += l.n;
    } else
        log->dropped++;
    pthread_mutex_unlock(&log->lock);
}

/* Returns false when this second has had its share. */
static bool take_event(struct log *log, time_t now, unsigned *suppressed)
{
    pthread_mutex_lock(&log->lock);
    *suppressed = 0;
    if (now != log->event_second) {
        *suppressed = log->events_suppressed;
        log->event_second = now;
        log->events = log->events_suppressed = 0;
    }
    bool ok = log->events < EVENTS_A_SECOND;

    if (ok)
        log->events++;
    else
        log->events_suppressed++;
    pthread_mutex_unlock(&log->lock);
    return ok;
}

void log_event(struct log *log, enum conf_log_level level, const char *format, ...)
{
    static const char *const words[] = {"error", "warn", "info", "debug"};
    char text[1024], when[40];
    struct timespec now;
    struct tm tm;
    unsigned suppressed;
    va_list args;

    if ((int)level > atomic_load_explicit(&log->level, memory_order_relaxed))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    if (!take_event(log, now.tv_sec, &suppressed))
        return;
    gmtime_r(&now.tv_sec, &tm);
    strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    int n = snprintf(text, sizeof text, "%s.%03ldZ %s: ", when, now.tv_nsec / 1000000, words[level]);

    va_start(args, format);
    n += vsnprintf(text + n, sizeof text - (size_t)n, format, args);
    va_end(args);
    if (n > (int)sizeof text - 2)
        n = (int)sizeof text - 2;
    text[n++] = '\n';
    write_event(log, text, (size_t)n);
    if (suppressed > 0)
        log_event(log, CONF_LOG_WARN, "%u more events were not logged in the second before", suppressed);
}
