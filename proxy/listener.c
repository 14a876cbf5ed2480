#include "proxy/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netdb.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "conf/address.h"
#include "proxy/bind.h"
#include "proxy/tls.h"

enum {
    ACCEPTS_MAX = 64,   /* in one turn: other connections want theirs */
    PAUSE_MS = 100,     /* out of descriptors or memory */
    HANDSHAKE_MS = 100, /* for the last handshakes, before a listening socket is closed */
};

/* One address. */
struct listener {
    struct listener *next;
    char *address, *host, *unix_path; /* as conf_listen's */
    uint16_t port;
    int *fds; /* one for each thread; -1: closed by it */
    struct unix_file unix_file;
    struct tls *tls;
    bool removed;

    /* between prepare and commit or abort */
    bool fresh, wanted;
    struct tls *next_tls;
};

struct listeners {
    unsigned nthreads;
    struct conf_errors warnings; /* of the last prepare */
    pthread_mutex_t lock;        /* the list, tls and removed: threads read them in listener_thread_sync */
    struct listener *first;      /* nodes stay until listeners_destroy, for threads hold them */
};

/* Sockets */

/* SO_REUSEPORT would let a second weir of the same user take half of the first one's connections. */
static int check_unused(const struct addrinfo *ai)
{
    int fd = bind_tcp(ai, false);
    if (fd < 0)
        return -1;
    close(fd);
    return 0;
}

static int open_tcp_sockets(struct listener *l, unsigned n, struct addrinfo *ai)
{
    if (check_unused(ai) != 0)
        return -1;
    for (unsigned i = 0; i < n; i++) {
        l->fds[i] = bind_tcp(ai, true);
        if (l->fds[i] < 0)
            return -1;
        /* Port 0: the others take the port that the first was given. */
        if (i == 0 && getsockname(l->fds[0], ai->ai_addr, &ai->ai_addrlen) != 0)
            return -1;
    }
    return 0;
}

/* Listeners */

static char *copy_text(const char *text)
{
    return text == NULL ? NULL : h2o_strdup(NULL, text, SIZE_MAX).base;
}

static struct listener *make_listener(unsigned n, const struct conf_listen *conf)
{
    struct listener *l = h2o_mem_alloc(sizeof(*l));

    *l = (struct listener){.address = copy_text(conf->address),
                           .host = copy_text(conf->host),
                           .unix_path = copy_text(conf->unix_path),
                           .port = conf->port,
                           .fresh = true};
    l->fds = h2o_mem_alloc(sizeof(*l->fds) * n);
    for (unsigned i = 0; i < n; i++)
        l->fds[i] = -1;
    return l;
}

static void free_listener(struct listener *l, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (l->fds[i] >= 0)
            close(l->fds[i]);
    unix_file_remove(&l->unix_file);
    tls_release(l->tls);
    tls_release(l->next_tls);
    free(l->fds);
    free(l->address);
    free(l->host);
    free(l->unix_path);
    free(l);
}

static struct conf_listen where(const struct listener *l)
{
    return (struct conf_listen){.address = l->address, .host = l->host, .port = l->port, .unix_path = l->unix_path};
}

/* Written otherwise it is the same address. Port 0 is another one each time. */
static struct listener *find(struct listeners *all, const struct conf_listen *conf)
{
    for (struct listener *l = all->first; l != NULL; l = l->next) {
        const struct conf_listen its = where(l);
        bool same =
            conf->host != NULL && conf->port == 0 ? strcmp(l->address, conf->address) == 0 : address_same(&its, conf);
        if (!l->removed && same)
            return l;
    }
    return NULL;
}

static const struct listener *find_overlap(const struct listeners *all, const struct conf_listen *conf)
{
    for (const struct listener *l = all->first; l != NULL; l = l->next) {
        const struct conf_listen its = where(l);
        if (!l->removed && address_overlaps(&its, conf))
            return l;
    }
    return NULL;
}

static bool open_tcp(struct listeners *all, struct listener *l, const struct conf_listen *conf,
                     struct conf_errors *errors)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *ai = NULL;
    char port[8];
    int error;

    snprintf(port, sizeof(port), "%u", conf->port);
    error = getaddrinfo(conf->host, port, &hints, &ai);
    if (error != 0) {
        conf_errors_add(errors, conf->mark, "cannot listen on %s: %s", conf->address, gai_strerror(error));
        return false;
    }
    bool ok = open_tcp_sockets(l, all->nthreads, ai) == 0;
    const struct listener *own = !ok && errno == EADDRINUSE ? find_overlap(all, conf) : NULL;
    if (own != NULL)
        conf_errors_add(errors, conf->mark, "cannot listen on %s beside %s, " BIND_OVERLAP_ADVICE, conf->address,
                        own->address);
    else if (!ok)
        conf_errors_add(errors, conf->mark, "cannot listen on %s: %s", conf->address, strerror(errno));
    freeaddrinfo(ai);
    return ok;
}

static bool open_unix(struct listener *l, unsigned n, const struct conf_listen *conf, struct conf_errors *errors)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};

    if (strlen(conf->unix_path) >= sizeof(addr.sun_path)) {
        conf_errors_add(errors, conf->mark, "cannot listen on %s: the path is longer than %zu bytes", conf->address,
                        sizeof(addr.sun_path) - 1);
        return false;
    }
    strcpy(addr.sun_path, conf->unix_path);
    l->fds[0] = bind_unix(&addr, 0666, &l->unix_file);
    bool ok = l->fds[0] >= 0;
    for (unsigned i = 1; i < n && ok; i++) {
        l->fds[i] = fcntl(l->fds[0], F_DUPFD_CLOEXEC, 0);
        ok = l->fds[i] >= 0;
    }
    if (!ok)
        conf_errors_add(errors, conf->mark, "cannot listen on %s: %s", conf->address, bind_error(errno));
    return ok;
}

struct listeners *listeners_create(unsigned nthreads)
{
    struct listeners *all = h2o_mem_alloc(sizeof(*all));

    *all = (struct listeners){.nthreads = nthreads};
    pthread_mutex_init(&all->lock, NULL);
    return all;
}

/* Only this thread changes the list, so it reads it without the lock. */
static struct listener *open_listener(struct listeners *all, const struct conf_listen *conf, struct conf_errors *errors)
{
    struct listener *l = find(all, conf);

    if (l != NULL)
        return l;
    l = make_listener(all->nthreads, conf);
    if (conf->unix_path != NULL ? !open_unix(l, all->nthreads, conf, errors) : !open_tcp(all, l, conf, errors)) {
        free_listener(l, all->nthreads);
        return NULL;
    }
    pthread_mutex_lock(&all->lock);
    l->next = all->first;
    all->first = l;
    pthread_mutex_unlock(&all->lock);
    return l;
}

/* The first of its files that the process may not read. */
static const char *forbidden_file(const struct conf_tls *conf, const struct conf_mark **mark)
{
    for (size_t i = 0; i < conf->ncertificates; i++) {
        const struct conf_certificate *c = &conf->certificates[i];
        const char *files[] = {c->certificate, c->key};

        for (size_t k = 0; k < 2; k++) {
            *mark = k == 0 ? &c->certificate_mark : &c->key_mark;
            if (access(files[k], R_OK) != 0 && errno == EACCES)
                return files[k];
        }
    }
    return NULL;
}

/* A key is often root's alone, and a reload is no longer root: that must not stand in the way of new routes. */
static struct tls *keep_tls(struct listeners *all, const struct conf_listen *conf)
{
    const struct listener *l = find(all, conf);
    const struct conf_mark *mark;
    const char *file = NULL;

    if (l == NULL || l->tls == NULL || !tls_is_of(l->tls, conf->tls) ||
        (file = forbidden_file(conf->tls, &mark)) == NULL)
        return NULL;
    conf_errors_add(&all->warnings, *mark, "cannot read '%s': %s; the certificates that were loaded before stay in use",
                    file, strerror(EACCES));
    return tls_retain(l->tls);
}

static struct tls *load_tls(struct listeners *all, const struct conf_listen *conf, struct conf_errors *errors)
{
    char err[1024];
    size_t before = errors->n;
    struct tls *tls = tls_create(conf->tls, err, sizeof(err));

    if (tls == NULL)
        tls = keep_tls(all, conf);
    if (tls != NULL)
        return tls;
    tls_check(conf->tls, errors);
    if (errors->n == before)
        conf_errors_add(errors, conf->tls->certificates[0].certificate_mark, "%s", err);
    return NULL;
}

static bool prepare_one(struct listeners *all, const struct conf_listen *conf, struct conf_errors *errors)
{
    struct tls *tls = NULL;
    struct listener *l = NULL;

    if (conf->tls != NULL && (tls = load_tls(all, conf, errors)) == NULL)
        return false;
    l = open_listener(all, conf, errors);
    if (l == NULL) {
        tls_release(tls);
        return false;
    }
    tls_release(l->next_tls); /* an address that is listed twice */
    l->next_tls = tls;
    l->wanted = true;
    return true;
}

int listeners_prepare(struct listeners *all, const struct conf *conf, struct conf_errors *errors)
{
    bool ok = true;

    conf_errors_free(&all->warnings);
    for (size_t i = 0; i < conf->nlistens; i++)
        ok &= prepare_one(all, &conf->listens[i], errors);
    if (ok)
        return 0;
    listeners_abort(all);
    return -1;
}

const struct conf_errors *listeners_warnings(const struct listeners *all)
{
    return &all->warnings;
}

static void commit_one(struct listener *l)
{
    if (l->removed)
        return;
    if (!l->wanted) {
        l->removed = true;
        unix_file_remove(&l->unix_file);
        return;
    }
    tls_release(l->tls);
    l->tls = l->next_tls;
    l->next_tls = NULL;
    l->fresh = l->wanted = false;
}

void listeners_commit(struct listeners *all)
{
    pthread_mutex_lock(&all->lock);
    for (struct listener *l = all->first; l != NULL; l = l->next)
        commit_one(l);
    pthread_mutex_unlock(&all->lock);
}

/* No thread has seen a fresh one: listener_thread_sync leaves them out. */
void listeners_abort(struct listeners *all)
{
    pthread_mutex_lock(&all->lock);
    for (struct listener **at = &all->first, *l; (l = *at) != NULL;) {
        tls_release(l->next_tls);
        l->next_tls = NULL;
        l->wanted = false;
        if (!l->fresh) {
            at = &l->next;
            continue;
        }
        *at = l->next;
        free_listener(l, all->nthreads);
    }
    pthread_mutex_unlock(&all->lock);
}

void listeners_drain(struct listeners *all)
{
    for (struct listener *l = all->first; l != NULL; l = l->next)
        unix_file_remove(&l->unix_file);
}

void listeners_destroy(struct listeners *all)
{
    for (struct listener *l = all->first, *next; l != NULL; l = next) {
        next = l->next;
        free_listener(l, all->nthreads);
    }
    pthread_mutex_destroy(&all->lock);
    conf_errors_free(&all->warnings);
    free(all);
}

uint16_t listeners_port(struct listeners *all, const char *address)
{
    struct sockaddr_storage addr;
    socklen_t n = sizeof(addr);
    const struct listener *l = all->first;

    while (l != NULL && (l->removed || strcmp(l->address, address) != 0))
        l = l->next;
    if (l == NULL || getsockname(l->fds[0], (struct sockaddr *)&addr, &n) != 0)
        return 0;
    if (addr.ss_family == AF_INET)
        return ntohs(((struct sockaddr_in *)&addr)->sin_port);
    if (addr.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&addr)->sin6_port);
    return 0;
}

/* One thread's part */

/* Stays until the thread ends: libh2o points to accept as long as a TLS handshake goes on. */
struct attached {
    struct attached *next;
    struct listener_thread *thread;
    struct listener *listener;
    h2o_socket_t *sock; /* NULL: detached */
    h2o_accept_ctx_t accept;
    struct tls *tls;
    struct timer resume;
};

struct listener_thread {
    struct listeners *all;
    unsigned index;
    struct loop *loop;
    h2o_context_t *ctx;
    h2o_hostconf_t **hosts;
    struct connections *connections;
    struct attached *first;
    bool stopped;
    struct timer closing;
};

/* 0, or the error that ended it: EAGAIN when the queue is empty. */
static int accept_some(struct attached *a, unsigned max)
{
    while (max-- > 0) {
        h2o_socket_t *sock = h2o_evloop_socket_accept(a->sock);
        if (sock != NULL)
            connections_accept(a->thread->connections, sock, &a->accept);
        else if (errno == EAGAIN || bind_is_exhaustion(errno))
            return errno;
        /* Others concern one connection that has already gone (accept(2)). */
    }
    return 0;
}

static void on_connections(h2o_socket_t *sock, const char *err)
{
    struct attached *a = sock->data;
    (void)err;

    if (!bind_is_exhaustion(accept_some(a, ACCEPTS_MAX)))
        return;
    h2o_socket_read_stop(a->sock);
    timer_arm(a->thread->loop, &a->resume, PAUSE_MS);
}

static void on_resume(struct timer *t)
{
    struct attached *a = H2O_STRUCT_FROM_MEMBER(struct attached, resume, t);
    if (a->sock != NULL)
        h2o_socket_read_start(a->sock, on_connections);
}

static void attach(struct listener_thread *t, struct listener *l)
{
    struct attached *a = h2o_mem_alloc(sizeof(*a));

    *a = (struct attached){.next = t->first, .thread = t, .listener = l, .resume = {.fire = on_resume}};
    a->accept = (h2o_accept_ctx_t){.ctx = t->ctx, .hosts = t->hosts};
    a->sock = h2o_evloop_socket_create(loop_h2o(t->loop), l->fds[t->index], H2O_SOCKET_FLAG_DONT_READ);
    a->sock->data = a;
    h2o_socket_read_start(a->sock, on_connections);
    t->first = a;
}

static struct attached *find_attached(struct listener_thread *t, const struct listener *l)
{
    for (struct attached *a = t->first; a != NULL; a = a->next)
        if (a->listener == l)
            return a;
    return NULL;
}

/* Whose connection the kernel has taken is reset when the socket is closed. So it takes no more: those that come now
 * try again, as after a lost packet, and find the address closed; those that are in the middle of their handshake still
 * get through. A unix socket has no handshake, and its file is gone before. */
static void refuse_handshakes(int fd)
{
    enum { FLAGS_AT = 13, SYN = 2 };
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS_AT),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

    if (bind_is_tcp(fd)) /* where it fails a few more are reset */
        (void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program));
}

static void detach(struct attached *a)
{
    timer_disarm(a->thread->loop, &a->resume);
    refuse_handshakes(h2o_socket_get_fd(a->sock));
    accept_some(a, SOMAXCONN);
    h2o_socket_close(a->sock);
    a->sock = NULL;
    a->listener->fds[a->thread->index] = -1;
}

/* Connections keep the SSL_CTX that they were accepted with, and that what hangs off it: the old ones may go at once.
 */
static void take_tls(struct attached *a, struct tls *tls)
{
    struct tls *old = a->tls;

    a->tls = tls_retain(tls);
    a->accept.ssl_ctx = tls == NULL ? NULL : tls_ctx(tls);
    tls_release(old);
}

void listener_thread_sync(struct listener_thread *t)
{
    pthread_mutex_lock(&t->all->lock);
    for (struct listener *l = t->all->first; l != NULL; l = l->next) {
        struct attached *a = find_attached(t, l);
        if (l->fresh || (l->removed && a == NULL))
            continue;
        if (a == NULL && !t->stopped) {
            attach(t, l);
            a = t->first;
        }
        if (a == NULL || a->sock == NULL)
            continue;
        if (l->removed)
            detach(a);
        else
            take_tls(a, l->tls);
    }
    pthread_mutex_unlock(&t->all->lock);
}

static void on_closing(struct timer *t)
{
    struct listener_thread *thread = H2O_STRUCT_FROM_MEMBER(struct listener_thread, closing, t);

    for (struct attached *a = thread->first; a != NULL; a = a->next)
        if (a->sock != NULL)
            detach(a);
}

struct listener_thread *listener_thread_create(struct listeners *all, unsigned index, struct loop *loop,
                                               h2o_context_t *ctx, h2o_hostconf_t **hosts,
                                               struct connections *connections)
{
    struct listener_thread *t = h2o_mem_alloc(sizeof(*t));

    *t = (struct listener_thread){.all = all,
                                  .index = index,
                                  .loop = loop,
                                  .ctx = ctx,
                                  .hosts = hosts,
                                  .connections = connections,
                                  .closing = {.fire = on_closing}};
    listener_thread_sync(t);
    return t;
}

void listener_thread_stop(struct listener_thread *t)
{
    if (t->stopped)
        return;
    t->stopped = true;
    for (struct attached *a = t->first; a != NULL; a = a->next)
        if (a->sock != NULL)
            refuse_handshakes(h2o_socket_get_fd(a->sock));
    timer_arm(t->loop, &t->closing, HANDSHAKE_MS);
}

bool listener_thread_is_closed(const struct listener_thread *t)
{
    return t->stopped && !timer_armed(&t->closing);
}

/* Takes the descriptor back from libh2o, which else would close it. */
static void hand_back(struct attached *a)
{
    h2o_socket_export_t out;

    timer_disarm(a->thread->loop, &a->resume);
    h2o_socket_read_stop(a->sock);
    if (h2o_socket_export(a->sock, &out) == 0)
        h2o_buffer_dispose(&out.input);
}

void listener_thread_destroy(struct listener_thread *t)
{
    timer_disarm(t->loop, &t->closing);
    for (struct attached *a = t->first, *next; a != NULL; a = next) {
        next = a->next;
        if (a->sock != NULL)
            hand_back(a);
        tls_release(a->tls);
        free(a);
    }
    free(t);
}
