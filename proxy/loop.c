#include "proxy/loop.h"

#include <assert.h>
#include <errno.h>
#include <h2o.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { ROUND_MAX = 128 };

/* libh2o runs a timeout when registered_at <= now - timeout and wakes up at registered_at + timeout, both modulo 2^64.
 * With half the range, the first always holds and the second never comes: a callback at the end of each turn, which
 * neither shortens the wait nor heeds the wall clock that libh2o counts in. */
#define EVERY_TURN (UINT64_C(1) << 63)

struct loop {
    h2o_evloop_t *h2o;

    h2o_timeout_t turn_end;
    h2o_timeout_entry_t turn_end_entry;

    int64_t now_ms;
    bool now_read; /* in this turn */

    struct timer **heap; /* by due_ms; slots from 1 */
    size_t ntimers, heap_cap;

    struct message *deferred, **deferred_tail;

    int watch_fd;
    h2o_socket_t *watch_sock;
    struct epoll_event round[ROUND_MAX]; /* what is being handed out */
    int round_at, round_n;

    int wake_fd;
    h2o_socket_t *wake_sock;
    _Alignas(64) _Atomic(struct message *) mailbox; /* any thread; newest first */
};

static int64_t clock_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* Heap */

static void heap_put(struct loop *loop, size_t slot, struct timer *t)
{
    loop->heap[slot] = t;
    t->slot = slot;
}

static void heap_up(struct loop *loop, size_t slot, struct timer *t)
{
    while (slot > 1 && loop->heap[slot / 2]->due_ms > t->due_ms) {
        heap_put(loop, slot, loop->heap[slot / 2]);
        slot /= 2;
    }
    heap_put(loop, slot, t);
}

static void heap_down(struct loop *loop, size_t slot, struct timer *t)
{
    for (size_t child; (child = slot * 2) <= loop->ntimers; slot = child) {
        if (child < loop->ntimers && loop->heap[child + 1]->due_ms < loop->heap[child]->due_ms)
            child++;
        if (loop->heap[child]->due_ms >= t->due_ms)
            break;
        heap_put(loop, slot, loop->heap[child]);
    }
    heap_put(loop, slot, t);
}

static void heap_settle(struct loop *loop, size_t slot, struct timer *t)
{
    if (slot > 1 && loop->heap[slot / 2]->due_ms > t->due_ms)
        heap_up(loop, slot, t);
    else
        heap_down(loop, slot, t);
}

static void heap_remove(struct loop *loop, struct timer *t)
{
    size_t slot = t->slot;
    struct timer *last = loop->heap[loop->ntimers--];

    t->slot = 0;
    if (last != t)
        heap_settle(loop, slot, last);
}

static void heap_reserve(struct loop *loop)
{
    if (loop->ntimers + 1 < loop->heap_cap)
        return;
    loop->heap_cap = loop->heap_cap == 0 ? 64 : loop->heap_cap * 2;
    loop->heap = h2o_mem_realloc(loop->heap, loop->heap_cap * sizeof(*loop->heap));
}

void timer_arm(struct loop *loop, struct timer *t, int64_t delay_ms)
{
    if (delay_ms < 1)
        delay_ms = 1;
    if (delay_ms > INT64_C(1) << 40)
        delay_ms = INT64_C(1) << 40;
    /* Rounded up and from the real time, not the turn's: never early. */
    t->due_ms = (clock_ns() + 999999) / 1000000 + delay_ms;
    if (t->slot == 0) {
        heap_reserve(loop);
        heap_up(loop, ++loop->ntimers, t);
    } else {
        heap_settle(loop, t->slot, t);
    }
}

void timer_disarm(struct loop *loop, struct timer *t)
{
    if (t->slot != 0)
        heap_remove(loop, t);
}

static void fire_due(struct loop *loop)
{
    if (loop->ntimers == 0)
        return;
    /* A timer armed meanwhile is due after now, so this ends. */
    int64_t now_ms = loop_now(loop).ms;
    while (loop->ntimers > 0 && loop->heap[1]->due_ms <= now_ms) {
        struct timer *t = loop->heap[1];
        heap_remove(loop, t);
        t->fire(t);
    }
}

/* Turns */

static void run_deferred(struct loop *loop)
{
    while (loop->deferred != NULL) {
        struct message *m = loop->deferred;
        loop->deferred = m->next;
        if (loop->deferred == NULL)
            loop->deferred_tail = &loop->deferred;
        m->run(m);
    }
}

static void on_turn_end(h2o_timeout_entry_t *entry)
{
    struct loop *loop = H2O_STRUCT_FROM_MEMBER(struct loop, turn_end_entry, entry);
    fire_due(loop);
    run_deferred(loop);
}

static void link_turn_end(struct loop *loop)
{
    if (!h2o_timeout_is_linked(&loop->turn_end_entry))
        h2o_timeout_link(loop->h2o, &loop->turn_end, &loop->turn_end_entry);
}

/* libh2o completes writes after on_turn_end and within it; what they defer finds the entry unlinked and links it, so
 * that libh2o calls it once more. */
void loop_defer(struct loop *loop, struct message *m)
{
    m->next = NULL;
    *loop->deferred_tail = m;
    loop->deferred_tail = &m->next;
    link_turn_end(loop);
}

void loop_undefer(struct loop *loop, struct message *m)
{
    for (struct message **at = &loop->deferred; *at != NULL; at = &(*at)->next) {
        if (*at != m)
            continue;
        *at = m->next;
        if (m->next == NULL)
            loop->deferred_tail = at;
        return;
    }
}

static int32_t wait_ms(const struct loop *loop, int32_t max_wait_ms)
{
    if (loop->deferred != NULL || max_wait_ms <= 0)
        return 0;
    if (loop->ntimers == 0)
        return max_wait_ms;
    int64_t ns = loop->heap[1]->due_ms * 1000000 - clock_ns();
    if (ns <= 0)
        return 0;
    int64_t ms = (ns + 999999) / 1000000;
    return ms < max_wait_ms ? (int32_t)ms : max_wait_ms;
}

void loop_run(struct loop *loop, int32_t max_wait_ms)
{
    link_turn_end(loop);
    int32_t wait = wait_ms(loop, max_wait_ms);
    loop->now_read = false;
    h2o_evloop_run(loop->h2o, wait); /* fails on EINTR: an empty turn */
}

struct mono_ms loop_now(const struct loop *loop)
{
    if (!loop->now_read)
        loop_refresh((struct loop *)loop);
    return (struct mono_ms){loop->now_ms};
}

struct wall_s loop_wall(const struct loop *loop)
{
    return (struct wall_s){(int64_t)(h2o_now(loop->h2o) / 1000)};
}

void loop_refresh(struct loop *loop)
{
    loop->now_ms = clock_ns() / 1000000;
    loop->now_read = true;
}

/* Watched descriptors */

void loop_poll(struct loop *loop)
{
    assert(loop->round_n == 0);
    loop->round_n = epoll_wait(loop->watch_fd, loop->round, ROUND_MAX, 0); /* < 0: none */
    for (loop->round_at = 0; loop->round_at < loop->round_n; loop->round_at++) {
        struct epoll_event *e = &loop->round[loop->round_at];
        struct watch *w = e->data.ptr;
        if (w != NULL)
            w->ready(w, e->events);
    }
    loop->round_n = 0;
}

static void on_watch(h2o_socket_t *sock, const char *err)
{
    (void)err;
    loop_poll(sock->data);
}

int watch_add(struct loop *loop, struct watch *w, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    if (epoll_ctl(loop->watch_fd, EPOLL_CTL_ADD, w->fd, &e) != 0)
        return -1;
    w->added = true;
    return 0;
}

int watch_change(struct loop *loop, struct watch *w, uint32_t events)
{
    struct epoll_event e = {.events = events, .data.ptr = w};
    return epoll_ctl(loop->watch_fd, EPOLL_CTL_MOD, w->fd, &e);
}

void watch_remove(struct loop *loop, struct watch *w)
{
    if (!w->added)
        return;
    w->added = false;
    epoll_ctl(loop->watch_fd, EPOLL_CTL_DEL, w->fd, NULL);
    for (int i = loop->round_at + 1; i < loop->round_n; i++)
        if (loop->round[i].data.ptr == w)
            loop->round[i].data.ptr = NULL;
}

/* Mailbox */

void loop_wake(struct loop *loop)
{
    int saved = errno;
    uint64_t one = 1;
    while (write(loop->wake_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    errno = saved;
}

/* Only who finds the mailbox empty wakes the loop: one wake-up for any number of messages. */
void loop_post(struct loop *loop, struct message *m)
{
    struct message *head = atomic_load_explicit(&loop->mailbox, memory_order_relaxed);
    do {
        m->next = head;
    } while (
        !atomic_compare_exchange_weak_explicit(&loop->mailbox, &head, m, memory_order_release, memory_order_relaxed));
    if (head == NULL)
        loop_wake(loop);
}

static void run_mailbox(struct loop *loop)
{
    struct message *newest = atomic_exchange_explicit(&loop->mailbox, NULL, memory_order_acquire);
    struct message *m = NULL;

    while (newest != NULL) {
        struct message *next = newest->next;
        newest->next = m;
        m = newest;
        newest = next;
    }
    while (m != NULL) {
        struct message *next = m->next;
        m->run(m);
        m = next;
    }
}

/* The counter is read before the mailbox is emptied: a message that comes in between costs a wake-up, not its life. */
static void on_wake(h2o_socket_t *sock, const char *err)
{
    struct loop *loop = sock->data;
    uint64_t n;
    (void)err;

    while (read(loop->wake_fd, &n, sizeof(n)) < 0 && errno == EINTR)
        ;
    run_mailbox(loop);
}

/* Life */

static h2o_socket_t *listen_on(struct loop *loop, int fd, h2o_socket_cb ready)
{
    h2o_socket_t *sock = h2o_evloop_socket_create(loop->h2o, fd, H2O_SOCKET_FLAG_DONT_READ);
    sock->data = loop;
    h2o_socket_read_start(sock, ready);
    return sock;
}

struct loop *loop_create(void)
{
    struct loop *loop = aligned_alloc(64, (sizeof(*loop) + 63) & ~(size_t)63);
    if (loop == NULL)
        h2o_fatal("out of memory");
    memset(loop, 0, sizeof(*loop));
    loop->h2o = h2o_evloop_create();
    loop->deferred_tail = &loop->deferred;
    loop->turn_end_entry.cb = on_turn_end;
    h2o_timeout_init(loop->h2o, &loop->turn_end, EVERY_TURN);

    loop->watch_fd = epoll_create1(EPOLL_CLOEXEC);
    loop->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (loop->watch_fd < 0 || loop->wake_fd < 0)
        h2o_fatal("no more file descriptors");
    loop->watch_sock = listen_on(loop, loop->watch_fd, on_watch);
    loop->wake_sock = listen_on(loop, loop->wake_fd, on_wake);
    return loop;
}

void loop_destroy(struct loop *loop)
{
    run_mailbox(loop);
    run_deferred(loop);
    h2o_timeout_unlink(&loop->turn_end_entry);
    h2o_timeout_dispose(loop->h2o, &loop->turn_end);
    h2o_socket_close(loop->watch_sock);
    h2o_socket_close(loop->wake_sock);
    h2o_evloop_destroy(loop->h2o); /* leaves its epoll descriptor open */
    free(loop->heap);
    free(loop);
}

struct st_h2o_evloop_t *loop_h2o(struct loop *loop)
{
    return loop->h2o;
}
