#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <h2o.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "proxy/loop.h"

#define OF(type, member, ptr) ((type *)((char *)(ptr)-offsetof(type, member)))

/* libh2o's wall clock, under the test's control: the executable's symbol wins over libc's. */
static int64_t wall_shift_s;

int gettimeofday(struct timeval *restrict tv, void *restrict tz)
{
    struct timespec t;
    (void)tz;
    clock_gettime(CLOCK_REALTIME, &t);
    tv->tv_sec = t.tv_sec + wall_shift_s;
    tv->tv_usec = t.tv_nsec / 1000;
    return 0;
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int setup(void **state)
{
    wall_shift_s = 0;
    *state = loop_create();
    return 0;
}

static int teardown(void **state)
{
    loop_destroy(*state);
    return 0;
}

struct alarm {
    struct timer timer;
    struct loop *loop;
    int64_t armed_ns, delay_ms, fired_ns;
    unsigned fired, again;
    unsigned order;
};
static unsigned fired_total;

static void on_alarm(struct timer *t)
{
    struct alarm *a = OF(struct alarm, timer, t);
    a->fired_ns = now_ns();
    a->fired++;
    a->order = fired_total++;
    if (a->again > 0) {
        a->again--;
        a->armed_ns = a->fired_ns;
        timer_arm(a->loop, t, a->delay_ms);
    }
}

static void alarm_set(struct loop *loop, struct alarm *a, int64_t delay_ms)
{
    a->timer.fire = on_alarm;
    a->loop = loop;
    a->delay_ms = delay_ms;
    a->armed_ns = now_ns();
    timer_arm(loop, &a->timer, delay_ms);
}

/* Neither early nor late, and the loop sleeps meanwhile. */
static void a_timer_fires_when_due_and_the_loop_sleeps_until_then(void **state)
{
    struct loop *loop = *state;
    struct alarm a = {0};
    unsigned turns = 0;

    alarm_set(loop, &a, 30);
    assert_true(timer_armed(&a.timer));
    while (a.fired == 0) {
        loop_run(loop, 10000);
        turns++;
    }
    assert_false(timer_armed(&a.timer));
    assert_true(a.fired_ns - a.armed_ns >= 30 * 1000000);
    assert_true(a.fired_ns - a.armed_ns < 500 * 1000000);
    assert_true(turns <= 4);
}

static void a_delay_below_one_ms_is_one_ms(void **state)
{
    struct loop *loop = *state;
    struct alarm a = {.again = 3}, b = {0};

    alarm_set(loop, &a, 0);
    alarm_set(loop, &b, -5);
    loop_run(loop, 0);
    while (a.fired < 4)
        loop_run(loop, 1000);
    assert_true(a.fired_ns - a.armed_ns >= 1000000);
    assert_int_equal(b.fired, 1);
    assert_true(b.fired_ns - b.armed_ns >= 1000000);
}

static void a_far_timer_does_not_overflow(void **state)
{
    struct loop *loop = *state;
    struct alarm far = {0}, near = {0};

    alarm_set(loop, &far, INT64_MAX);
    alarm_set(loop, &near, 1);
    while (near.fired == 0)
        loop_run(loop, 1000);
    assert_int_equal(far.fired, 0);
    timer_disarm(loop, &far.timer);
    assert_false(timer_armed(&far.timer));
    timer_disarm(loop, &far.timer);
}

/* Method: many timers armed, moved and disarmed at random; those that stay must fire in the order of their due times.
 */
static void many_timers_fire_in_order_and_disarmed_ones_never(void **state)
{
    enum { N = 500 };
    struct loop *loop = *state;
    static struct alarm a[N];
    unsigned left = 0;

    srand(7);
    memset(a, 0, sizeof(a));
    fired_total = 0;
    for (int i = 0; i < N; i++)
        alarm_set(loop, &a[i], 1 + rand() % 40);
    for (int i = 0; i < 3 * N; i++) {
        struct alarm *x = &a[rand() % N];
        if (rand() % 4 == 0)
            timer_disarm(loop, &x->timer);
        else
            alarm_set(loop, x, 1 + rand() % 40);
    }
    for (int i = 0; i < N; i++)
        left += timer_armed(&a[i].timer);
    assert_in_range(left, N / 4, N - 1);
    while (fired_total < left)
        loop_run(loop, 1000);
    loop_run(loop, 50);
    assert_int_equal(fired_total, left);
    for (int i = 0; i < N; i++) {
        assert_true(a[i].fired <= 1);
        for (int j = 0; a[i].fired && j < N; j++)
            if (a[j].fired && a[i].timer.due_ms < a[j].timer.due_ms)
                assert_true(a[i].order < a[j].order);
    }
}

struct disarmer {
    struct timer timer;
    struct loop *loop;
    struct timer *other;
};

static void on_disarmer(struct timer *t)
{
    struct disarmer *d = OF(struct disarmer, timer, t);
    timer_disarm(d->loop, d->other);
}

static void a_timer_disarmed_by_another_in_the_same_turn_does_not_fire(void **state)
{
    struct loop *loop = *state;
    struct alarm victim = {0};
    struct disarmer d = {.timer.fire = on_disarmer, .loop = loop, .other = &victim.timer};

    timer_arm(loop, &d.timer, 2);
    alarm_set(loop, &victim, 2);
    victim.timer.due_ms = d.timer.due_ms; /* due at once, one behind the other */
    usleep(5000);
    while (timer_armed(&d.timer))
        loop_run(loop, 1000);
    loop_run(loop, 0);
    assert_int_equal(victim.fired, 0);
}

static void jumps_of_the_wall_clock_neither_fire_nor_hold_up_timers(void **state)
{
    struct loop *loop = *state;
    static const int64_t shifts[] = {-1000000, 1000000, 0};

    for (size_t i = 0; i < sizeof(shifts) / sizeof(*shifts); i++) {
        struct alarm a = {0};
        unsigned turns = 0;
        loop_run(loop, 0);
        alarm_set(loop, &a, 20);
        wall_shift_s = shifts[i];
        for (; a.fired == 0; turns++)
            loop_run(loop, 5000);
        assert_true(a.fired_ns - a.armed_ns >= 20 * 1000000);
        assert_true(a.fired_ns - a.armed_ns < 500 * 1000000);
        assert_true(turns <= 4);
    }
}

static void ignore_signal(int sig)
{
    (void)sig;
}

static void signals_do_not_disturb_timers(void **state)
{
    struct loop *loop = *state;
    struct alarm a = {0};
    struct itimerval every_ms = {{0, 1000}, {0, 1000}}, off = {{0, 0}, {0, 0}};
    struct sigaction act = {.sa_handler = ignore_signal}, before;

    sigaction(SIGALRM, &act, &before);
    setitimer(ITIMER_REAL, &every_ms, NULL);
    alarm_set(loop, &a, 30);
    while (a.fired == 0)
        loop_run(loop, 1000);
    setitimer(ITIMER_REAL, &off, NULL);
    sigaction(SIGALRM, &before, NULL);
    assert_true(a.fired_ns - a.armed_ns >= 30 * 1000000);
    assert_true(a.fired_ns - a.armed_ns < 500 * 1000000);
}

struct ping {
    struct timer timer;
    h2o_socket_t *sock;
    bool complete;
};

static void on_ping_written(h2o_socket_t *sock, const char *err)
{
    struct ping *p = sock->data;
    assert_null(err);
    p->complete = true;
}

static void on_ping(struct timer *t)
{
    struct ping *p = OF(struct ping, timer, t);
    h2o_iovec_t text = {H2O_STRLIT("ping")};
    h2o_socket_write(p->sock, &text, 1, on_ping_written);
}

static void a_write_begun_by_a_timer_completes_in_the_same_turn(void **state)
{
    struct loop *loop = *state;
    struct ping p = {.timer.fire = on_ping};
    int fd[2];
    char buf[8];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    p.sock = h2o_evloop_socket_create(loop_h2o(loop), fd[0], 0);
    p.sock->data = &p;
    timer_arm(loop, &p.timer, 1);
    while (timer_armed(&p.timer))
        loop_run(loop, 1000);
    assert_true(p.complete);
    assert_int_equal(read(fd[1], buf, sizeof(buf)), 4);
    h2o_socket_close(p.sock);
    close(fd[1]);
}

static void the_time_stands_still_within_a_turn_unless_refreshed(void **state)
{
    struct loop *loop = *state;
    struct mono_ms begin = loop_now(loop);

    usleep(3000);
    assert_int_equal(loop_now(loop).ms, begin.ms);
    loop_refresh(loop);
    assert_true(loop_now(loop).ms >= begin.ms + 3);
    begin = loop_now(loop);
    loop_run(loop, 5);
    assert_true(loop_now(loop).ms >= begin.ms + 4);
    assert_true(llabs((long long)(loop_wall(loop).s - time(NULL))) <= 1);
}

/* Watches */

struct listener {
    struct watch watch;
    struct loop *loop;
    struct listener *other; /* removed when this one hears something */
    int writer;
    unsigned heard;
    uint32_t events;
};

static void on_heard(struct watch *w, uint32_t events)
{
    struct listener *l = OF(struct listener, watch, w);
    l->heard++;
    l->events = events;
    if (l->other != NULL)
        watch_remove(l->loop, &l->other->watch);
}

static void listener_open(struct loop *loop, struct listener *l)
{
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    *l = (struct listener){.watch = {.ready = on_heard, .fd = fd[0]}, .loop = loop, .writer = fd[1]};
    assert_int_equal(watch_add(loop, &l->watch, EPOLLIN), 0);
}

static void listener_close(struct listener *l)
{
    watch_remove(l->loop, &l->watch);
    close(l->watch.fd);
    close(l->writer);
}

static void a_watch_hears_what_it_asked_for_until_it_is_removed(void **state)
{
    struct loop *loop = *state;
    struct listener l;

    listener_open(loop, &l);
    loop_run(loop, 0);
    assert_int_equal(l.heard, 0);
    assert_int_equal(write(l.writer, "x", 1), 1);
    loop_run(loop, 1000);
    loop_run(loop, 1000);
    assert_int_equal(l.heard, 2); /* level-triggered */
    assert_int_equal(l.events, EPOLLIN);
    assert_int_equal(watch_change(loop, &l.watch, EPOLLOUT), 0);
    loop_run(loop, 1000);
    assert_int_equal(l.events, EPOLLOUT);
    watch_remove(loop, &l.watch);
    watch_remove(loop, &l.watch);
    loop_run(loop, 5);
    assert_int_equal(l.heard, 3);
    assert_int_equal(watch_add(loop, &l.watch, EPOLLIN), 0);
    loop_run(loop, 1000);
    assert_int_equal(l.heard, 4);
    assert_int_equal(watch_add(loop, &l.watch, EPOLLIN), -1);
    listener_close(&l);
}

/* Each of two removes the other: only the first of a round may hear. */
static void a_watch_removed_in_a_round_hears_nothing_more_in_it(void **state)
{
    struct loop *loop = *state;
    struct listener a, b;

    listener_open(loop, &a);
    listener_open(loop, &b);
    a.other = &b;
    b.other = &a;
    assert_int_equal(write(a.writer, "x", 1), 1);
    assert_int_equal(write(b.writer, "x", 1), 1);
    loop_run(loop, 1000);
    assert_int_equal(a.heard + b.heard, 1);
    listener_close(&a);
    listener_close(&b);
}

static void more_watches_than_a_round_holds_are_all_heard(void **state)
{
    enum { N = 300 };
    struct loop *loop = *state;
    static struct listener l[N];

    for (int i = 0; i < N; i++) {
        listener_open(loop, &l[i]);
        assert_int_equal(write(l[i].writer, "x", 1), 1);
    }
    for (int i = 0; i < 8; i++)
        loop_run(loop, 10);
    for (int i = 0; i < N; i++) {
        assert_true(l[i].heard > 0);
        listener_close(&l[i]);
    }
}

/* Messages */

enum { POSTERS = 4, LETTERS = 20000 };

struct letter {
    struct message message;
    unsigned poster, number;
};

static unsigned next_number[POSTERS], letters_read;

static void on_letter(struct message *m)
{
    struct letter *l = OF(struct letter, message, m);
    assert_int_equal(l->number, next_number[l->poster]);
    next_number[l->poster]++;
    letters_read++;
    free(l);
}

struct poster {
    pthread_t thread;
    struct loop *loop;
    unsigned index;
};

static void *post_letters(void *arg)
{
    struct poster *p = arg;
    for (unsigned i = 0; i < LETTERS; i++) {
        struct letter *l = malloc(sizeof(*l));
        *l = (struct letter){.message.run = on_letter, .poster = p->index, .number = i};
        loop_post(p->loop, &l->message);
    }
    return NULL;
}

static void messages_of_many_threads_all_arrive_in_each_ones_order(void **state)
{
    struct loop *loop = *state;
    struct poster p[POSTERS];

    letters_read = 0;
    memset(next_number, 0, sizeof(next_number));
    for (unsigned i = 0; i < POSTERS; i++) {
        p[i] = (struct poster){.loop = loop, .index = i};
        assert_int_equal(pthread_create(&p[i].thread, NULL, post_letters, &p[i]), 0);
    }
    while (letters_read < POSTERS * LETTERS)
        loop_run(loop, 5000);
    for (unsigned i = 0; i < POSTERS; i++)
        pthread_join(p[i].thread, NULL);
}

static void messages_left_are_run_when_the_loop_is_destroyed(void **state)
{
    struct loop *loop = loop_create();
    struct poster p = {.loop = loop};
    (void)state;

    letters_read = 0;
    next_number[0] = 0;
    post_letters(&p);
    loop_destroy(loop);
    assert_int_equal(letters_read, LETTERS);
}

static void *wake(void *loop)
{
    loop_wake(loop);
    return NULL;
}

static void a_wake_ends_the_wait(void **state)
{
    struct loop *loop = *state;
    pthread_t thread;
    int64_t begin = now_ns();

    assert_int_equal(pthread_create(&thread, NULL, wake, loop), 0);
    loop_run(loop, 10000);
    assert_true(now_ns() - begin < INT64_C(5000000000));
    pthread_join(thread, NULL);
    loop_run(loop, 0);
}

/* Deferred */

struct note {
    struct message message;
    struct loop *loop;
    struct note *then;
    unsigned order;
};
static unsigned notes_read;

static void on_note(struct message *m)
{
    struct note *n = OF(struct note, message, m);
    n->order = ++notes_read;
    if (n->then != NULL)
        loop_defer(n->loop, &n->then->message);
}

struct noter {
    struct timer timer;
    struct loop *loop;
    struct note *note;
    unsigned seen;
};

static void on_noter(struct timer *t)
{
    struct noter *n = OF(struct noter, timer, t);
    loop_defer(n->loop, &n->note->message);
    n->seen = notes_read;
}

static void what_is_deferred_runs_in_order_before_the_turn_ends(void **state)
{
    struct loop *loop = *state;
    struct note c = {.message.run = on_note, .loop = loop}, b = c, a = c;
    struct noter n = {.timer.fire = on_noter, .loop = loop, .note = &a};

    a.then = &c;
    notes_read = 0;
    timer_arm(loop, &n.timer, 1);
    while (timer_armed(&n.timer))
        loop_run(loop, 1000);
    assert_int_equal(n.seen, 0); /* not within the callback that deferred it */
    assert_int_equal(a.order, 1);
    assert_int_equal(c.order, 2);

    int64_t begin = now_ns();
    loop_defer(loop, &b.message);
    loop_defer(loop, &c.message);
    loop_defer(loop, &a.message);
    loop_undefer(loop, &a.message);
    loop_undefer(loop, &b.message);
    loop_undefer(loop, &b.message);
    loop_run(loop, 10000);
    assert_true(now_ns() - begin < INT64_C(5000000000));
    assert_int_equal(notes_read, 3);
    assert_int_equal(c.order, 3);
    loop_defer(loop, &b.message);
    loop_run(loop, 10000);
    assert_int_equal(b.order, 4);
}

static void on_ping_defer(h2o_socket_t *sock, const char *err)
{
    struct noter *n = sock->data;
    assert_null(err);
    loop_defer(n->loop, &n->note->message);
}

static void on_ping_defers(struct timer *t)
{
    struct ping *p = OF(struct ping, timer, t);
    h2o_iovec_t text = {H2O_STRLIT("ping")};
    h2o_socket_write(p->sock, &text, 1, on_ping_defer);
}

/* libh2o completes the write after the turn's end has been called. */
static void what_a_late_completion_defers_still_runs_in_the_turn(void **state)
{
    struct loop *loop = *state;
    struct note a = {.message.run = on_note, .loop = loop};
    struct noter n = {.loop = loop, .note = &a};
    struct ping p = {.timer.fire = on_ping_defers};
    int fd[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    p.sock = h2o_evloop_socket_create(loop_h2o(loop), fd[0], 0);
    p.sock->data = &n;
    notes_read = 0;
    timer_arm(loop, &p.timer, 1);
    while (timer_armed(&p.timer))
        loop_run(loop, 1000);
    assert_int_equal(notes_read, 1);
    h2o_socket_close(p.sock);
    close(fd[1]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_timer_fires_when_due_and_the_loop_sleeps_until_then),
        TEST(a_delay_below_one_ms_is_one_ms),
        TEST(a_far_timer_does_not_overflow),
        TEST(many_timers_fire_in_order_and_disarmed_ones_never),
        TEST(a_timer_disarmed_by_another_in_the_same_turn_does_not_fire),
        TEST(jumps_of_the_wall_clock_neither_fire_nor_hold_up_timers),
        TEST(signals_do_not_disturb_timers),
        TEST(a_write_begun_by_a_timer_completes_in_the_same_turn),
        TEST(the_time_stands_still_within_a_turn_unless_refreshed),
        TEST(a_watch_hears_what_it_asked_for_until_it_is_removed),
        TEST(a_watch_removed_in_a_round_hears_nothing_more_in_it),
        TEST(more_watches_than_a_round_holds_are_all_heard),
        TEST(messages_of_many_threads_all_arrive_in_each_ones_order),
        TEST(messages_left_are_run_when_the_loop_is_destroyed),
        TEST(a_wake_ends_the_wait),
        TEST(what_is_deferred_runs_in_order_before_the_turn_ends),
        TEST(what_a_late_completion_defers_still_runs_in_the_turn),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
