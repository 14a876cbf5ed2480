#include "proxy/pool.h"

#include <assert.h>
#include <errno.h>
#include <h2o.h>
#include <linux/tcp.h> /* glibc's struct tcp_info ends before the counts of bytes */
#include <pthread.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    SWEEP_MS = 500,
    SPARE_MAX = 256,         /* transfers kept for the next ones */
    NAME_LIFETIME_S = 30,    /* connections to named servers, so that they follow DNS */
    DNS_CACHE_S = 30,        /* what libcurl remembers of names */
    CA_CACHE_S = 60,         /* how long a changed ca_file may go unnoticed */
    TURN_BYTES = 256 << 10,  /* of a body, and other transfers go first */
    RECEIVE_BYTES = 64 << 10 /* libcurl's buffer: also the largest piece of a body */
};

struct pool {
    struct gate_pool gate;
    struct pools *all;
    struct pool *next;
    CURLM *multi;
    CURLSH *share; /* TLS sessions */
    CURLU *url;    /* taken apart once: that is an eighth of a fetch's instructions */
    struct curl_slist *connect_to;
    struct conn *conns;
    struct transfer *spare;
    unsigned nspare, active;
    struct timer timer;
    bool due;
};

/* A descriptor that libcurl wants to hear of. Connections stay in the loop's epoll set when idle: that saves two system
 * calls a fetch, and tells of origins that close. */
struct conn {
    struct gate_conn gate;
    struct watch watch;
    struct pool *pool;
    struct transfer *user;    /* NULL: idle */
    struct conn *prev, *next; /* in the pool's list */
    uint16_t port;            /* its own; 0: not known, or none (unix) */
    uint32_t wanted, watched;
    bool foreign;         /* not a connection (the resolver's) */
    struct conn *nascent; /* the next in its transfer's list of those not known to be connected */
};

#define OF(type, member, ptr) ((type *)((char *)(ptr)-offsetof(type, member)))

/* libcurl at work */

static void read_messages(struct pool *pool)
{
    CURLMsg *msg;
    int left;

    while ((msg = curl_multi_info_read(pool->multi, &left)) != NULL) {
        struct transfer *t = NULL;
        CURLcode code = msg->data.result; /* msg does not outlive transfer_end */
        curl_easy_getinfo(msg->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        transfer_end(t);
        pool->all->ended(t, code);
    }
}

static void act(struct pool *pool, curl_socket_t fd, int events)
{
    int running;
    pool->all->inside++;
    curl_multi_socket_action(pool->multi, fd, events, &running);
    pool->all->inside--;
    read_messages(pool);
}

static void on_kick(struct message *m)
{
    struct pools *pools = OF(struct pools, kick, m);
    pools->kicked = false;
    for (struct pool *p = pools->first; p != NULL; p = p->next) {
        if (!p->due)
            continue;
        p->due = false;
        act(p, CURL_SOCKET_TIMEOUT, 0);
    }
}

static void kick(struct pool *pool)
{
    pool->due = true;
    if (pool->all->kicked)
        return;
    pool->all->kicked = true;
    loop_defer(pool->all->loop, &pool->all->kick);
}

static void on_timer(struct timer *t)
{
    act(OF(struct pool, timer, t), CURL_SOCKET_TIMEOUT, 0);
}

static int set_timer(CURLM *multi, long ms, void *data)
{
    struct pool *pool = data;
    (void)multi;

    timer_disarm(pool->all->loop, &pool->timer);
    if (ms == 0)
        kick(pool);
    else if (ms > 0)
        timer_arm(pool->all->loop, &pool->timer, ms);
    return 0;
}

/* Descriptors */

static void unwatch(struct conn *conn)
{
    watch_remove(conn->pool->all->loop, &conn->watch);
    conn->watched = 0;
}

static void end_rest(struct timer *timer)
{
    struct transfer *t = OF(struct transfer, rest, timer);

    struct pool *pool = t->pool;

    timer_disarm(pool->all->loop, timer);
    CURLcode code = transfer_resume(t);

    if (code == CURLE_OK) {
        act(pool, CURL_SOCKET_TIMEOUT, 0);
        return;
    }
    transfer_end(t);
    pool->all->ended(t, code);
}

/* While nothing is wanted: the origin has closed an idle connection or sent what nobody asked for. Or libcurl has
 * paused the transfer: then it will ask again. */
static void on_unwanted(struct conn *conn)
{
    unwatch(conn);
    if (conn->user == NULL && !conn->foreign)
        gate_conn_kill(&conn->gate);
}

static void on_ready(struct watch *w, uint32_t events)
{
    struct conn *conn = OF(struct conn, watch, w);
    int flags = 0;

    if (conn->wanted == 0 && conn->user != NULL && timer_armed(&conn->user->rest)) {
        end_rest(&conn->user->rest);
        return;
    }
    if (conn->wanted == 0) {
        on_unwanted(conn);
        return;
    }
    if (events & EPOLLIN)
        flags |= CURL_CSELECT_IN;
    if (events & EPOLLOUT)
        flags |= CURL_CSELECT_OUT;
    if (events & (EPOLLERR | EPOLLHUP))
        flags |= CURL_CSELECT_ERR;
    act(conn->pool, w->fd, flags);
}

static struct conn *conn_create(struct pool *pool, int fd)
{
    struct pools *pools = pool->all;
    struct conn *conn = h2o_mem_alloc(sizeof(*conn));

    *conn = (struct conn){.pool = pool, .watch = {.ready = on_ready, .fd = fd}, .next = pool->conns};
    if (conn->next != NULL)
        conn->next->prev = conn;
    pool->conns = conn;
    if ((size_t)fd >= pools->nfds) {
        size_t n = (size_t)fd * 2 + 64;
        pools->by_fd = h2o_mem_realloc(pools->by_fd, n * sizeof(*pools->by_fd));
        memset(pools->by_fd + pools->nfds, 0, (n - pools->nfds) * sizeof(*pools->by_fd));
        pools->nfds = n;
    }
    pools->by_fd[fd] = conn;
    return conn;
}

static struct conn *conn_find(const struct pools *pools, int fd)
{
    return (size_t)fd < pools->nfds ? pools->by_fd[fd] : NULL;
}

/* libcurl closes sockets that did not get connected by itself, not through close_socket. What a transfer has opened is
 * nascent until libcurl wants to read from it or, if it never comes to that, says that it is the one in use. */
static bool nascent_remove(struct conn *conn)
{
    if (conn->user == NULL)
        return false;
    for (struct conn **at = &conn->user->nascent; *at != NULL; at = &(*at)->nascent) {
        if (*at != conn)
            continue;
        *at = conn->nascent;
        return true;
    }
    return false;
}

static void conn_destroy(struct conn *conn)
{
    nascent_remove(conn);
    *(conn->prev != NULL ? &conn->prev->next : &conn->pool->conns) = conn->next;
    if (conn->next != NULL)
        conn->next->prev = conn->prev;
    unwatch(conn);
    conn->pool->all->by_fd[conn->watch.fd] = NULL;
    if (conn->user != NULL && conn->user->conn == conn)
        conn->user->conn = NULL;
    free(conn);
}

static void conn_closed(struct conn *conn)
{
    gate_conn_closed(&conn->gate);
    conn_destroy(conn);
}

/* libcurl has closed its descriptor, and the number may be another thread's by now: to take that out of this thread's
 * epoll set, where it is not, does nothing. */
static void forget_nascent(struct conn *conn)
{
    conn_closed(conn);
}

static void want(struct conn *conn, uint32_t events)
{
    struct loop *loop = conn->pool->all->loop;
    conn->wanted = events;
    if (conn->watched == events)
        return;
    if (conn->watched == 0)
        watch_add(loop, &conn->watch, events);
    else
        watch_change(loop, &conn->watch, events);
    conn->watched = events;
}

static struct conn *conn_open(struct transfer *t, int fd)
{
    struct conn *conn = conn_create(t->pool, fd);
    gate_conn_opened(&conn->gate, &t->pool->gate, t->ticket, fd);
    conn->user = t;
    conn->nascent = t->nascent;
    t->nascent = conn;
    return t->conn = conn;
}

static curl_socket_t open_socket(void *data, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct transfer *t = data;
    uint32_t wanted = 0;
    (void)purpose;

    int fd = socket(address->family, address->socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, address->protocol);
    if (fd < 0)
        return CURL_SOCKET_BAD;
    struct conn *former = conn_find(t->pool->all, fd);
    if (former != NULL) { /* closed without a word; libcurl takes the new one for the same and does not ask again */
        wanted = former->user == t ? former->wanted : 0;
        forget_nascent(former);
    }
    struct conn *conn = conn_open(t, fd);
    if (wanted != 0)
        want(conn, wanted);
    t->pool->all->connecting(t);
    return fd;
}

/* Has the other end's kernel taken all that was sent? Where a connection was dead it has taken nothing of the last
 * request. */
static bool has_arrived(int fd)
{
    struct tcp_info info;
    socklen_t n = sizeof(info);

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &n) != 0)
        return true;
    return info.tcpi_bytes_acked > info.tcpi_bytes_sent; /* the SYN counts among those that were acknowledged */
}

static int close_socket(void *data, curl_socket_t fd)
{
    struct conn *conn = conn_find(data, fd);

    if (conn != NULL && conn->user != NULL && conn->user->conn == conn)
        conn->user->arrived = has_arrived(fd);
    if (conn != NULL)
        conn_closed(conn);
    return close(fd);
}

/* Another transfer that had it is done with it then, even if its end has not been told yet. False: it is dead. */
static bool use(struct transfer *t, struct conn *conn)
{
    if (t->conn == conn && conn->user == t)
        return true;
    t->conn = conn;
    if (conn->user == t) /* its first try, after another one */
        return true;
    if (conn->user != NULL && conn->user->conn == conn)
        conn->user->conn = NULL;
    conn->user = t;
    return gate_conn_used(&conn->gate, t->ticket);
}

/* The end of a wish to hear. */
static void unwanted(struct conn *conn)
{
    if (conn == NULL)
        return;
    conn->wanted = 0;
    if (conn->foreign) /* libcurl closes it without a word */
        conn_destroy(conn);
    else if (nascent_remove(conn))
        forget_nascent(conn);
}

static int on_wanted(CURL *easy, curl_socket_t fd, int what, void *data, void *unused)
{
    struct pool *pool = data;
    struct conn *conn = conn_find(pool->all, fd);
    struct transfer *t = NULL;
    (void)unused;

    if (what == CURL_POLL_REMOVE || what == CURL_POLL_NONE) {
        unwanted(conn);
        return 0;
    }
    if (conn == NULL) {
        conn = conn_create(pool, fd);
        conn->foreign = true;
    }
    curl_easy_getinfo(easy, CURLINFO_PRIVATE, (char **)&t);
    if (!conn->foreign && t != NULL)
        use(t, conn);
    if (what & CURL_POLL_IN)
        nascent_remove(conn);
    want(conn, (what & CURL_POLL_IN ? (uint32_t)EPOLLIN : 0) | (what & CURL_POLL_OUT ? (uint32_t)EPOLLOUT : 0));
    return 0;
}

/* Transfers */

static bool is_named(const struct server *s)
{
    unsigned char address[sizeof(struct in6_addr)];
    return s->unix_path == NULL && inet_pton(AF_INET, s->host, address) != 1 &&
           inet_pton(AF_INET6, s->host, address) != 1;
}

static void set_tls(const struct pool *pool, CURL *easy)
{
    const struct server *s = pool->gate.server;

    curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, s->verify ? 1L : 0L);
    curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, s->verify ? 2L : 0L);
    curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* with a path libcurl would read the file for each connection */
    curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, (long)CA_CACHE_S);
    if (s->ca_file != NULL)
        curl_easy_setopt(easy, CURLOPT_CAINFO, s->ca_file);
    curl_easy_setopt(easy, CURLOPT_SHARE, pool->share);
}

static CURLcode set_connection(const struct pool *pool, struct transfer *t)
{
    const struct server *s = pool->gate.server;
    CURL *easy = t->easy;

    curl_easy_setopt(easy, CURLOPT_PRIVATE, t);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "*"); /* else it looks in the environment each time */
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_HTTP09_ALLOWED, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L); /* else an unknown transfer coding is an error to it */
    curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, (long)RECEIVE_BYTES);
    curl_easy_setopt(easy, CURLOPT_DNS_CACHE_TIMEOUT, (long)DNS_CACHE_S);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(easy, CURLOPT_CLOSESOCKETDATA, pool->all);
    if (is_named(s))
        curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, (long)NAME_LIFETIME_S);
    if (s->unix_path != NULL)
        curl_easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, s->unix_path);
    if (pool->connect_to != NULL)
        curl_easy_setopt(easy, CURLOPT_CONNECT_TO, pool->connect_to);
    if (s->https)
        set_tls(pool, easy);
    return curl_easy_setopt(easy, CURLOPT_CURLU, pool->url);
}

static struct transfer *transfer_create(struct pool *pool)
{
    struct transfer *t = h2o_mem_alloc(sizeof(*t));
    *t = (struct transfer){.pool = pool, .easy = curl_easy_init()};
    if (t->easy == NULL || set_connection(pool, t) != CURLE_OK) {
        curl_easy_cleanup(t->easy);
        free(t);
        return NULL;
    }
    pool->all->prepare(t);
    return t;
}

static void transfer_destroy(struct transfer *t)
{
    curl_easy_cleanup(t->easy);
    answer_head_fini(&t->head);
    free(t);
}

/* Pools */

/* For a server_name the URL names that (SNI, verification) and libcurl connects to the server all the same. */
static void set_address(struct pool *pool)
{
    const struct server *s = pool->gate.server;
    const char *name = s->https && s->server_name != NULL ? s->server_name : s->host;
    bool brackets = strchr(name, ':') != NULL;
    char *text;

    if (asprintf(&text, "%s://%s%s%s:%u/", s->https ? "https" : "http", brackets ? "[" : "", name, brackets ? "]" : "",
                 s->port != 0 ? s->port
                 : s->https   ? 443
                              : 80) < 0 ||
        (pool->url = curl_url()) == NULL)
        h2o_fatal("out of memory");
    curl_url_set(pool->url, CURLUPART_URL, text, 0); /* without one, each transfer fails */
    free(text);
    if (name == s->host || s->unix_path != NULL)
        return;
    brackets = strchr(s->host, ':') != NULL;
    if (asprintf(&text, "::%s%s%s:%u", brackets ? "[" : "", s->host, brackets ? "]" : "", s->port) < 0)
        h2o_fatal("out of memory");
    pool->connect_to = curl_slist_append(NULL, text);
    free(text);
}

static struct pool *pool_create(struct pools *pools, const struct gate_ticket *ticket)
{
    struct pool *pool = h2o_mem_alloc(sizeof(*pool));

    *pool = (struct pool){.all = pools, .next = pools->first, .timer.fire = on_timer};
    pools->first = pool;
    gate_pool_init(&pool->gate, ticket->server, ticket->owner);
    set_address(pool);
    pool->multi = curl_multi_init();
    pool->share = curl_share_init();
    if (pool->multi == NULL || pool->share == NULL)
        h2o_fatal("out of memory");
    curl_share_setopt(pool->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    curl_multi_setopt(pool->multi, CURLMOPT_SOCKETFUNCTION, on_wanted);
    curl_multi_setopt(pool->multi, CURLMOPT_SOCKETDATA, pool);
    curl_multi_setopt(pool->multi, CURLMOPT_TIMERFUNCTION, set_timer);
    curl_multi_setopt(pool->multi, CURLMOPT_TIMERDATA, pool);
    curl_multi_setopt(pool->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    curl_multi_setopt(pool->multi, CURLMOPT_MAXCONNECTS, (long)1 << 20); /* the gate bounds them */
    if (!timer_armed(&pools->sweep))
        timer_arm(pools->loop, &pools->sweep, SWEEP_MS);
    return pool;
}

static void pool_destroy(struct pool *pool)
{
    for (struct transfer *t = pool->spare, *next; t != NULL; t = next) {
        next = t->next;
        transfer_destroy(t);
    }
    pool->all->inside++;
    curl_multi_cleanup(pool->multi);
    pool->all->inside--;
    curl_share_cleanup(pool->share);
    curl_slist_free_all(pool->connect_to);
    curl_url_cleanup(pool->url);
    timer_disarm(pool->all->loop, &pool->timer);
    gate_pool_fini(&pool->gate);
    free(pool);
}

static struct pool *pool_of(struct pools *pools, const struct gate_ticket *ticket)
{
    for (struct pool *p = pools->first; p != NULL; p = p->next)
        if (p->gate.server == ticket->server)
            return p;
    return pool_create(pools, ticket);
}

static void on_sweep(struct timer *timer)
{
    struct pools *pools = OF(struct pools, sweep, timer);

    loop_refresh(pools->loop);
    for (struct pool **at = &pools->first, *p; (p = *at) != NULL;) {
        if (p->active == 0 && atomic_load(&p->gate.server->retired)) {
            *at = p->next;
            pool_destroy(p);
            continue;
        }
        gate_pool_expire(&p->gate, loop_now(pools->loop));
        at = &p->next;
    }
    if (pools->first != NULL)
        timer_arm(pools->loop, &pools->sweep, SWEEP_MS);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int tls_index = -1; /* of the transfer in its connection's SSL */

static void init_libcurl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
    tls_index = SSL_get_ex_new_index(0, NULL, NULL, NULL, NULL);
}

void pools_init(struct pools *pools, struct loop *loop)
{
    pthread_once(&once, init_libcurl);
    pools->loop = loop;
    pools->kick.run = on_kick;
    pools->sweep.fire = on_sweep;
}

void pools_fini(struct pools *pools)
{
    for (struct pool *p = pools->first, *next; p != NULL; p = next) {
        next = p->next;
        assert(p->active == 0);
        pool_destroy(p);
    }
    timer_disarm(pools->loop, &pools->sweep);
    loop_undefer(pools->loop, &pools->kick);
    free(pools->by_fd);
}

static void set_reuse(CURL *easy, const struct gate_ticket *ticket)
{
    int64_t keepalive_ms = ticket->limits.keepalive_ms;
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)(keepalive_ms / 1000 + 1));
    curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, keepalive_ms > 0 && !ticket->single ? 0L : 1L);
    curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, ticket->fresh ? 1L : 0L);
}

struct transfer *transfer_take(struct pools *pools, struct gate_ticket *ticket)
{
    struct pool *pool = pool_of(pools, ticket);
    struct transfer *t = pool->spare;

    if (t != NULL) {
        pool->spare = t->next;
        pool->nspare--;
    } else if ((t = transfer_create(pool)) == NULL) {
        return NULL;
    }
    pool->active++;
    t->ticket = ticket;
    set_reuse(t->easy, ticket);
    answer_head_begin(&t->head);
    t->until_close = false;
    return t;
}

void transfer_begin(struct transfer *t)
{
    t->running = true;
    t->taken = 0;
    t->rest_at = TURN_BYTES;
    curl_multi_add_handle(t->pool->multi, t->easy);
}

static void find_used(struct transfer *t)
{
    curl_socket_t fd = CURL_SOCKET_BAD;
    if (t->nascent == NULL)
        return;
    curl_easy_getinfo(t->easy, CURLINFO_ACTIVESOCKET, &fd);
    for (struct conn *conn = t->nascent; conn != NULL; conn = conn->nascent) {
        if (conn->watch.fd != fd)
            continue;
        nascent_remove(conn);
        t->conn = conn;
        return;
    }
}

void transfer_end(struct transfer *t)
{
    if (!t->running)
        return;
    t->running = false;
    timer_disarm(t->pool->all->loop, &t->rest);
    find_used(t);
    t->pool->all->inside++;
    curl_multi_remove_handle(t->pool->multi, t->easy);
    t->pool->all->inside--;
    while (t->nascent != NULL)
        forget_nascent(t->nascent);
}

/* What a connection is known by when libcurl is about to send on it. */
static uint16_t own_port(int fd)
{
    struct sockaddr_storage a;
    socklen_t n = sizeof(a);
    if (getsockname(fd, (struct sockaddr *)&a, &n) != 0)
        return 0;
    if (a.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&a)->sin_port);
    return a.ss_family == AF_INET6 ? ntohs(((struct sockaddr_in6 *)&a)->sin6_port) : 0;
}

static struct conn *find_by_port(const struct pool *pool, uint16_t port)
{
    struct conn *conn = pool->conns;
    while (conn != NULL && (conn->foreign || conn->port != port))
        conn = conn->next;
    return conn;
}

static void learn_port(struct transfer *t, uint16_t port)
{
    for (struct conn *conn = t->nascent; conn != NULL; conn = conn->nascent)
        if (own_port(conn->watch.fd) == port)
            conn->port = port;
    if (t->conn->port == 0 && own_port(t->conn->watch.fd) == port)
        t->conn->port = port;
}

/* libcurl has just looked whether the connection is alive, but takes waiting input for life; and another thread may
 * have shut it down since. */
bool transfer_may_send(struct transfer *t, uint16_t port)
{
    char byte;

    t->reused = t->conn == NULL;
    t->arrived = false;
    if (t->pool->gate.server->unix_path != NULL) /* connections cannot be told apart */
        return true;
    if (t->conn != NULL) { /* opened for it */
        learn_port(t, port);
        return true;
    }
    struct conn *conn = find_by_port(t->pool, port);
    return conn != NULL && use(t, conn) && recv(conn->watch.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 &&
           errno == EAGAIN;
}

void transfer_give(struct transfer *t)
{
    struct pool *pool = t->pool;

    if (t->conn != NULL) {
        t->conn->user = NULL;
        gate_conn_idle(&t->conn->gate, loop_now(pool->all->loop));
        t->conn = NULL;
    }
    t->ticket = NULL;
    t->user = NULL;
    pool->active--;
    if (pool->nspare >= SPARE_MAX) {
        transfer_destroy(t);
        return;
    }
    t->next = pool->spare;
    pool->spare = t;
    pool->nspare++;
}

static void on_tls_info(const SSL *ssl, int where, int value)
{
    struct transfer *t = SSL_get_ex_data(ssl, tls_index);
    if ((where & SSL_CB_READ_ALERT) == SSL_CB_READ_ALERT && (value & 0xff) == SSL_AD_CLOSE_NOTIFY)
        t->tls_closed = true;
}

void transfer_until_close(struct transfer *t)
{
    struct curl_tlssessioninfo *tls = NULL;

    t->until_close = t->pool->gate.server->https;
    t->tls_closed = false;
    if (!t->until_close || curl_easy_getinfo(t->easy, CURLINFO_TLS_SSL_PTR, &tls) != CURLE_OK || tls == NULL ||
        tls->internals == NULL)
        return;
    SSL_set_ex_data(tls->internals, tls_index, t);
    SSL_set_info_callback(tls->internals, on_tls_info);
}

/* Its descriptor stays watched, and is ready in the next turn if there is more. The timer is for when libcurl has read
 * the last of it, or OpenSSL has. Who has all of it is told so at once. */
void transfer_took(struct transfer *t, size_t n)
{
    struct loop *loop = t->pool->all->loop;
    bool all = t->head.content_length >= 0 && t->taken + n >= (uint64_t)t->head.content_length;

    t->taken += n;
    if (all && timer_armed(&t->rest)) {
        timer_disarm(loop, &t->rest);
        curl_easy_pause(t->easy, CURLPAUSE_CONT);
    } else if (!all && t->taken >= t->rest_at && curl_easy_pause(t->easy, CURLPAUSE_RECV) == CURLE_OK) {
        t->rest_at = t->taken + TURN_BYTES;
        t->rest.fire = end_rest;
        timer_arm(loop, &t->rest, 1);
    }
}

void transfer_holds(struct transfer *t)
{
    timer_disarm(t->pool->all->loop, &t->rest);
}

CURLcode transfer_resume(struct transfer *t)
{
    t->pool->all->inside++;
    CURLcode code = curl_easy_pause(t->easy, CURLPAUSE_CONT);
    t->pool->all->inside--;
    return code;
}
