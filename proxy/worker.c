#include "proxy/worker.h"

#include <assert.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/random.h>

#include "proxy/fill.h"
#include "proxy/interim.h"
#include "proxy/request.h"

enum {
    HOUSEKEEPING_MS = 500,
    EXPIRE_MAX = 1000, /* stored responses dropped in one go: some 0.1 ms */
    DRAIN_LOOK_MS = 10,
    TURN_MAX_MS = 1000,
};

struct start {
    struct worker *worker;
    struct snapshot *snapshot;
    sem_t ready;
};

static void keep_house(struct timer *t)
{
    struct worker *w = H2O_STRUCT_FROM_MEMBER(struct worker, housekeeping, t);

    if (!w->stopping) {
        store_expire(w->store, loop_now(w->loop), EXPIRE_MAX);
        store_thread_poll(w->store);
    } else if (listener_thread_is_closed(w->listeners) && connections_open(w->connections) == 0)
        atomic_store(&w->idle, true);
    timer_arm(w->loop, t, w->stopping ? DRAIN_LOOK_MS : HOUSEKEEPING_MS);
}

static void on_restarts(struct message *m)
{
    requests_restart(H2O_STRUCT_FROM_MEMBER(struct worker, restart_message, m));
}

static void on_reload(struct message *m)
{
    struct worker *w = H2O_STRUCT_FROM_MEMBER(struct worker, reload_message, m);
    struct hold *old = w->hold;

    w->hold = hold_create(w->reload_to);
    hold_drop(old);
    connections_configure(w->connections, w->hold->snapshot->conf);
    listener_thread_sync(w->listeners);
    sem_post(&w->reloaded);
}

static void on_drain(struct message *m)
{
    struct worker *w = H2O_STRUCT_FROM_MEMBER(struct worker, drain_message, m);

    w->stopping = true;
    listener_thread_stop(w->listeners);
    connections_drain(w->connections);
    timer_arm(w->loop, &w->housekeeping, DRAIN_LOOK_MS);
}

/* One path for everything: routing is weir's. */
static void configure_h2o(struct worker *w)
{
    h2o_config_init(&w->globalconf);
    w->globalconf.server_name = h2o_iovec_init(H2O_STRLIT(""));
    h2o_hostconf_t *host = h2o_config_register_host(&w->globalconf, h2o_iovec_init(H2O_STRLIT("default")), 65535);
    h2o_pathconf_t *path = h2o_config_register_path(host, "/", 0);

    chunked_install(path);
    interim_install(path);
    h2o_create_handler(path, sizeof(h2o_handler_t))->on_req = request_handle;
}

static void set_up(struct worker *w, struct snapshot *snapshot)
{
    struct shared *shared = w->shared;

    w->loop = loop_create();
    configure_h2o(w);
    h2o_context_init(&w->ctx, loop_h2o(w->loop), &w->globalconf);
    w->store = store_thread_create(shared->store);
    w->hasher = hasher_create(shared->user_secret);
    w->upstream = upstream_create(w->loop, shared->backends, shared->log);
    w->redis = redis_thread_create(shared->redis, w->loop);
    w->connections = connections_create(w->loop, &w->ctx, &shared->connections_open);
    if (w->store == NULL || w->upstream == NULL || w->connections == NULL)
        abort();
    w->hold = hold_create(snapshot);
    connections_configure(w->connections, snapshot->conf);
    w->listeners =
        listener_thread_create(shared->listeners, w->index, w->loop, &w->ctx, w->globalconf.hosts, w->connections);
    w->restart_message.run = on_restarts;
    w->reload_message.run = on_reload;
    w->drain_message.run = on_drain;
    w->housekeeping.fire = keep_house;
    if (getrandom(&w->random, sizeof w->random, 0) != sizeof w->random || w->random == 0)
        w->random = 88172645463325252u;
    timer_arm(w->loop, &w->housekeeping, HOUSEKEEPING_MS);
    listener_thread_sync(w->listeners);
}

static void tear_down(struct worker *w)
{
    fills_cancel(w);
    redis_thread_destroy(w->redis);
    /* who gives back a connection may wake another thread's loop: none goes before all are through */
    pthread_barrier_wait(&w->shared->all_over);
    listener_thread_destroy(w->listeners);
    connections_destroy(w->connections);
    upstream_destroy(w->upstream);
    h2o_context_dispose(&w->ctx);
    h2o_config_dispose(&w->globalconf);
    for (size_t i = 0; i < DATES; i++)
        if (w->dates[i].text != NULL)
            h2o_mem_release_shared(w->dates[i].text);
    hold_drop(w->hold);
    loop_destroy(w->loop);
    store_thread_destroy(w->store);
    hasher_destroy(w->hasher);
}

static void *run(void *data)
{
    struct start *start = data;
    struct worker *w = start->worker;

    set_up(w, start->snapshot);
    sem_post(&start->ready);
    while (!atomic_load_explicit(&w->shared->over, memory_order_acquire))
        loop_run(w->loop, TURN_MAX_MS);
    tear_down(w);
    return NULL;
}

struct worker *worker_start(struct shared *shared, unsigned index, struct snapshot *snapshot)
{
    struct worker *w = calloc(1, sizeof *w);
    struct start start = {w, snapshot, {{0}}};

    if (w == NULL)
        abort();
    w->shared = shared;
    w->index = index;
    sem_init(&w->reloaded, 0, 0);
    sem_init(&start.ready, 0, 0);
    /* known before it runs: others may post to it as soon as it accepts */
    shared->workers[index] = w;
    if (pthread_create(&w->thread, NULL, run, &start) != 0)
        abort();
    while (sem_wait(&start.ready) != 0)
        ;
    sem_destroy(&start.ready);
    return w;
}

void worker_reload(struct worker *w, struct snapshot *snapshot)
{
    w->reload_to = snapshot;
    loop_post(w->loop, &w->reload_message);
    while (sem_wait(&w->reloaded) != 0)
        ;
}

void worker_drain(struct worker *w)
{
    loop_post(w->loop, &w->drain_message);
}

void workers_end(struct shared *shared)
{
    atomic_store_explicit(&shared->over, true, memory_order_release);
    for (unsigned i = 0; i < shared->nworkers; i++)
        loop_wake(shared->workers[i]->loop);
    pthread_barrier_wait(&shared->all_over);
}

void worker_join(struct worker *w)
{
    pthread_join(w->thread, NULL);
    sem_destroy(&w->reloaded);
    free(w);
}

/* --- between workers --- */

static void run_sub(struct message *m)
{
    flight_sub_run(((struct sub_message *)m)->sub);
}

void worker_post_sub(void *context, unsigned thread, struct flight_sub *sub)
{
    struct shared *shared = context;
    struct sub_message *m = (struct sub_message *)sub->message;

    _Static_assert(sizeof(struct sub_message) <= sizeof sub->message, "a message fits into the room for it");
    m->message.run = run_sub;
    m->sub = sub;
    loop_post(shared->workers[thread]->loop, &m->message);
}

static void run_home(struct message *m)
{
    fill_look(((struct home_message *)m)->flight);
}

void worker_post_home(void *context, struct flight *flight)
{
    struct shared *shared = context;
    struct home_message *m = (struct home_message *)flight->home_message;

    _Static_assert(sizeof(struct home_message) <= sizeof flight->home_message, "a message fits into the room for it");
    m->message.run = run_home;
    m->flight = flight;
    loop_post(shared->workers[flight->home]->loop, &m->message);
}
