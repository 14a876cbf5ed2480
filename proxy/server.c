#include "proxy/server.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <curl/curl.h>

#include "proxy/admin.h"
#include "proxy/health.h"
#include "proxy/tls.h"
#include "proxy/worker.h"

enum {
    TICK_MS = 1000,
    DRAIN_MAX_MS = 30 * 1000, /* all in all */
    DRAIN_LOOK_MS = 10,
    LOG_MAX_MS = 5000, /* of that, for the rest of the access log */
    LOG_MIN_MS = 500,
};

struct server {
    const char *conf_file;
    struct shared shared;
    struct loop *loop;
    struct admin *admin;
    struct snapshot *snapshot;
    struct watch signals;
    struct timer tick, drain;
    struct mono_ms drain_by;
    bool done, forced;
};

static void raise_descriptor_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void warn_of(struct server *s, const char *file, const char *consequence)
{
    if (file != NULL && access(file, R_OK) != 0)
        log_event(s->shared.log, CONF_LOG_WARN, "'%s' cannot be read by user '%s': %s", file, s->snapshot->conf->user,
                  consequence);
}

/* What root could read at the start, and the user cannot: that comes to light when it is needed again. */
static void warn_of_unreadable(struct server *s, const struct conf *conf)
{
    for (size_t i = 0; i < conf->nfiles; i++)
        warn_of(s, conf->files[i], "reloads will fail");
    warn_of(s, conf->admin_token_file, "reloads will fail");
    if (conf->redis != NULL)
        warn_of(s, conf->redis->password_file, "reloads will fail");
    for (size_t i = 0; i < conf->nlistens; i++) {
        const struct conf_tls *tls = conf->listens[i].tls;

        for (size_t k = 0; tls != NULL && k < tls->ncertificates; k++) {
            warn_of(s, tls->certificates[k].certificate, "a reload will keep the one that is loaded now");
            warn_of(s, tls->certificates[k].key, "a reload will keep the one that is loaded now");
        }
    }
    for (size_t i = 0; i < conf->nbackends; i++)
        for (size_t k = 0; k < conf->backends[i].nservers; k++)
            warn_of(s, conf->backends[i].servers[k].tls_ca_file,
                    "nothing can be fetched from the server that it is for");
}

static int drop_privileges(struct server *s, const struct conf *conf)
{
    struct passwd *pw;

    if (conf->user == NULL || geteuid() != 0)
        return 0;
    pw = getpwnam(conf->user);
    if (pw == NULL) {
        fprintf(stderr, "weir: user '%s' does not exist\n", conf->user);
        return -1;
    }
    log_give(s->shared.log, pw->pw_uid);
    if (initgroups(conf->user, pw->pw_gid) != 0 || setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0) {
        fprintf(stderr, "weir: cannot become '%s': %s\n", conf->user, strerror(errno));
        return -1;
    }
    warn_of_unreadable(s, conf);
    return 0;
}

static enum store_eviction eviction_of(const struct conf *conf)
{
    return conf->memory_eviction == CONF_SIEVE ? STORE_SIEVE : STORE_LRU;
}

/* --- reload --- */

static bool same_text(const char *a, const char *b)
{
    return a == b || (a != NULL && b != NULL && strcmp(a, b) == 0);
}

static bool same_redis(const struct conf_redis *a, const struct conf_redis *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    return same_text(a->server, b->server) && a->database == b->database && same_text(a->password, b->password) &&
           bytes_eq(a->namespace, b->namespace) && a->timeout_ms == b->timeout_ms;
}

static void note_what_stays(struct server *s, const struct conf *conf)
{
    const struct conf *old = s->snapshot->conf;

    if (conf->threads != old->threads)
        log_event(s->shared.log, CONF_LOG_WARN, "threads: %u takes effect at the next start", conf->threads);
    if (conf->memory_shards != old->memory_shards)
        log_event(s->shared.log, CONF_LOG_WARN, "memory: shards: %u takes effect at the next start",
                  conf->memory_shards);
    if (!same_redis(conf->redis, s->shared.redis != NULL ? redis_conf(s->shared.redis) : NULL))
        log_event(s->shared.log, CONF_LOG_WARN, "redis: takes effect at the next start");
    if (conf->user != old->user && (conf->user == NULL || old->user == NULL || strcmp(conf->user, old->user) != 0))
        log_event(s->shared.log, CONF_LOG_WARN, "user: %s takes effect at the next start",
                  conf->user != NULL ? conf->user : "(none)");
}

static void note_what_was_let_pass(struct server *s)
{
    const struct conf_errors *warnings = listeners_warnings(s->shared.listeners);

    for (size_t i = 0; i < warnings->n; i++) {
        const struct conf_error *w = &warnings->v[i];

        log_event(s->shared.log, CONF_LOG_WARN, "reload: %s:%u:%u: %s", w->mark.file, w->mark.line, w->mark.column,
                  w->text);
    }
}

static int prepare_listeners(struct server *s, const struct conf *conf)
{
    struct conf_errors errors = {NULL, 0};
    int failed = listeners_prepare(s->shared.listeners, conf, &errors);

    conf_errors_print(&errors, stderr);
    conf_errors_free(&errors);
    return failed;
}

/* All that can fail comes before anything changes. */
static void reload(struct server *s)
{
    struct conf_errors errors = {NULL, 0};
    struct conf *conf;
    char err[512];

    if (conf_load(s->conf_file, &conf, &errors) != 0) {
        conf_errors_print(&errors, stderr);
        conf_errors_free(&errors);
        log_event(s->shared.log, CONF_LOG_ERROR, "reload: %s has errors; the old configuration stays", s->conf_file);
        return;
    }
    conf_errors_free(&errors);
    if (prepare_listeners(s, conf) != 0) {
        conf_release(conf);
        log_event(s->shared.log, CONF_LOG_ERROR, "reload: listeners cannot be set up; the old configuration stays");
        return;
    }
    struct snapshot *next = snapshot_create(conf, s->shared.counters);

    if (next == NULL)
        abort();
    if (admin_apply(s->admin, next, err, sizeof err) != 0 ||
        log_configure(s->shared.log, next->conf, err, sizeof err) != 0) {
        char again[512];

        log_event(s->shared.log, CONF_LOG_ERROR, "reload: %s; the old configuration stays", err);
        listeners_abort(s->shared.listeners);
        if (admin_apply(s->admin, s->snapshot, again, sizeof again) != 0)
            log_event(s->shared.log, CONF_LOG_ERROR, "reload: %s", again);
        snapshot_release(next);
        return;
    }
    snapshot_connect(next, s->shared.backends);
    note_what_stays(s, conf);
    note_what_was_let_pass(s);
    listeners_commit(s->shared.listeners);
    store_set_eviction(s->shared.store, eviction_of(conf));
    store_resize(s->shared.store, conf->memory_bytes);
    for (unsigned i = 0; i < s->shared.nworkers; i++)
        worker_reload(s->shared.workers[i], next);
    snapshot_release(s->snapshot);
    s->snapshot = next;
    log_event(s->shared.log, CONF_LOG_INFO, "reload: %s is in force", s->conf_file);
}

/* --- stop --- */

static void look_whether_drained(struct timer *t)
{
    struct server *s = (struct server *)((char *)t - offsetof(struct server, drain));
    bool all = true;

    for (unsigned i = 0; i < s->shared.nworkers; i++)
        all = all && atomic_load(&s->shared.workers[i]->idle);
    s->forced = !all && mono_since_ms(s->drain_by, loop_now(s->loop)) >= 0;
    s->done = all || s->forced;
    if (!s->done)
        timer_arm(s->loop, t, DRAIN_LOOK_MS);
}

static void drain(struct server *s, int signal)
{
    if (atomic_exchange(&s->shared.draining, true))
        return;
    log_event(s->shared.log, CONF_LOG_INFO, "%s: no new connections, finishing what is in flight",
              signal == SIGTERM ? "SIGTERM" : "SIGINT");
    s->drain_by.ms = loop_now(s->loop).ms + DRAIN_MAX_MS - LOG_MIN_MS;
    listeners_drain(s->shared.listeners);
    for (unsigned i = 0; i < s->shared.nworkers; i++)
        worker_drain(s->shared.workers[i]);
    s->drain.fire = look_whether_drained;
    timer_arm(s->loop, &s->drain, DRAIN_LOOK_MS);
}

/* --- signals --- */

static void reopen_logs(struct server *s)
{
    char err[512];

    if (log_reopen(s->shared.log, err, sizeof err) != 0)
        log_event(s->shared.log, CONF_LOG_ERROR, "SIGUSR1: %s; the old log file stays open", err);
    else
        log_event(s->shared.log, CONF_LOG_INFO, "SIGUSR1: the access log is open anew");
}

static void on_signal(struct watch *w, uint32_t events)
{
    struct server *s = (struct server *)((char *)w - offsetof(struct server, signals));
    struct signalfd_siginfo info;

    (void)events;
    while (read(w->fd, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo == SIGHUP && !atomic_load(&s->shared.draining))
            reload(s);
        else if (info.ssi_signo == SIGUSR1)
            reopen_logs(s);
        else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGINT)
            drain(s, (int)info.ssi_signo);
    }
}

/* Before any thread is started, so that all inherit the mask and signals come by the descriptor only. */
static int take_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    signal(SIGPIPE, SIG_IGN);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
}

/* --- start --- */

static void on_tick(struct timer *t)
{
    struct server *s = (struct server *)((char *)t - offsetof(struct server, tick));

    rates_tick(s->shared.rates, &s->shared);
    store_trim(s->shared.store);
    timer_arm(s->loop, t, TICK_MS);
}

static void create_shared(struct shared *shared, const struct conf *conf)
{
    uint64_t seed;

    shared->nworkers = conf->threads;
    pthread_barrier_init(&shared->all_over, NULL, conf->threads + 1);
    shared->workers = calloc(conf->threads, sizeof(struct worker *));
    if (shared->workers == NULL || getrandom(&seed, sizeof seed, 0) != sizeof seed ||
        getrandom(shared->user_secret, sizeof shared->user_secret, 0) != sizeof shared->user_secret)
        abort();
    shared->store = store_create(&(struct store_options){
        .bytes_max = conf->memory_bytes,
        .shards = conf->memory_shards,
        .threads = conf->threads,
        .seed = seed,
        .eviction = eviction_of(conf),
    });
    shared->flights = flights_create(&(struct flights_options){
        .threads = conf->threads,
        .store = shared->store,
        .post = worker_post_sub,
        .post_home = worker_post_home,
        .context = shared,
    });
    shared->backends = backends_create();
    shared->counters = counters_create(conf->threads);
    shared->rates = rates_create();
    if (shared->store == NULL || shared->flights == NULL || shared->backends == NULL)
        abort();
}

static void destroy_shared(struct shared *shared)
{
    pthread_barrier_destroy(&shared->all_over);
    listeners_destroy(shared->listeners);
    backends_destroy(shared->backends);
    flights_destroy(shared->flights);
    coder_destroy(shared->coder);
    store_destroy(shared->store);
    rates_destroy(shared->rates);
    counters_destroy(shared->counters);
    free(shared->workers);
}

static void say_ready(const struct conf *conf)
{
    fprintf(stderr, "weir " WEIR_VERSION " ready:");
    for (size_t i = 0; i < conf->nlistens; i++)
        fprintf(stderr, " %s%s",
                conf->listens[i].tls != NULL ? "https://"
                : conf->listens[i].unix_path ? ""
                                             : "http://",
                conf->listens[i].address);
    if (conf->admin != NULL)
        fprintf(stderr, ", admin %s%s", conf->admin->unix_path ? "" : "http://", conf->admin->address);
    fprintf(stderr, "\n");
}

static void serve(struct server *s)
{
    struct shared *shared = &s->shared;

    shared->redis = redis_tier_create(s->snapshot->conf, s->loop, shared->log);
    shared->coder = coder_create(shared->store, (shared->nworkers + 1) / 2);
    for (unsigned i = 0; i < shared->nworkers; i++)
        worker_start(shared, i, s->snapshot);
    s->tick.fire = on_tick;
    timer_arm(s->loop, &s->tick, TICK_MS);
    say_ready(s->snapshot->conf);
    while (!s->done)
        loop_run(s->loop, TICK_MS);
    if (s->forced) {
        log_event(shared->log, CONF_LOG_WARN, "some requests were not finished within %d s", DRAIN_MAX_MS / 1000);
        log_end(shared->log, LOG_MIN_MS);
        _exit(0);
    }
    coder_stop(shared->coder);
    workers_end(shared);
    for (unsigned i = 0; i < shared->nworkers; i++)
        worker_join(shared->workers[i]);
    redis_tier_destroy(shared->redis);
    shared->redis = NULL;
}

/* What is left of the drain's time, but no longer than a reader that reads needs. */
static int64_t log_ms(struct mono_ms drain_by, struct mono_ms now)
{
    int64_t left = drain_by.ms + LOG_MIN_MS - now.ms;

    return left < LOG_MIN_MS ? LOG_MIN_MS : left > LOG_MAX_MS ? LOG_MAX_MS : left;
}

int server_run(const char *conf_file)
{
    struct server s = {.conf_file = conf_file};
    struct conf_errors errors = {NULL, 0};
    struct conf *conf;
    char err[512];
    int status = 1, failed = conf_load_with(conf_file, tls_check_all, &conf, &errors);

    conf_errors_print(&errors, stderr);
    conf_errors_free(&errors);
    if (failed != 0)
        return 2;
    int signals = take_signals();

    raise_descriptor_limit();
    curl_global_init(CURL_GLOBAL_ALL);
    s.shared.log = log_create();
    s.shared.listeners = listeners_create(conf->threads);
    s.loop = loop_create();
    s.shared.started = loop_now(s.loop);
    create_shared(&s.shared, conf);
    s.snapshot = snapshot_create(conf, s.shared.counters);
    if (s.snapshot == NULL)
        abort();
    snapshot_connect(s.snapshot, s.shared.backends);
    s.admin = admin_create(&s.shared, s.loop);
    if (prepare_listeners(&s, conf) != 0)
        goto stop;
    listeners_commit(s.shared.listeners);
    if (admin_apply(s.admin, s.snapshot, err, sizeof err) != 0 ||
        log_configure(s.shared.log, conf, err, sizeof err) != 0) {
        fprintf(stderr, "%s\n", err);
        goto stop;
    }
    if (drop_privileges(&s, conf) != 0)
        goto stop;
    s.signals = (struct watch){.ready = on_signal, .fd = signals};
    if (watch_add(s.loop, &s.signals, EPOLLIN) != 0)
        abort();
    serve(&s);
    watch_remove(s.loop, &s.signals);
    status = 0;

stop:
    close(signals);
    loop_refresh(s.loop);
    struct mono_ms now = loop_now(s.loop);

    timer_disarm(s.loop, &s.tick);
    if (admin_destroy(s.admin)) {
        snapshot_release(s.snapshot);
        destroy_shared(&s.shared);
        loop_destroy(s.loop);
    }
    log_end(s.shared.log, log_ms(s.drain_by, now));
    log_destroy(s.shared.log);
    curl_global_cleanup();
    return status;
}
