#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "proxy/gate.h"

#define OF(type, member, ptr) ((type *)((char *)(ptr)-offsetof(type, member)))

static const struct mono_ms T0 = {1000000};

static struct mono_ms after(int64_t ms)
{
    return (struct mono_ms){T0.ms + ms};
}

struct gates {
    struct loop *loop;
    struct backends *all;
    struct backend *backend;
    struct conf_server servers[4];
    struct conf_backend conf;
};

static int setup(void **state)
{
    static const char *const urls[] = {"a", "b", "c", "d"};
    struct gates *g = calloc(1, sizeof(*g));

    g->loop = loop_create();
    g->all = backends_create();
    for (int i = 0; i < 4; i++)
        g->servers[i] = (struct conf_server){.url = urls[i], .host = "h", .port = 1, .weight = 1};
    g->conf = (struct conf_backend){.name = "x",
                                    .servers = g->servers,
                                    .nservers = 1,
                                    .max_connections = 2,
                                    .queue_size = 10,
                                    .keepalive_ms = 1000};
    *state = g;
    return 0;
}

static int teardown(void **state)
{
    struct gates *g = *state;
    loop_destroy(g->loop);
    backends_destroy(g->all);
    free(g);
    return 0;
}

static void apply(struct gates *g)
{
    g->backend = backends_apply(g->all, &g->conf);
}

struct visit {
    struct gate_ticket ticket;
    unsigned told;
};

static void on_granted(struct message *m)
{
    struct visit *v = OF(struct visit, ticket.granted, m);
    v->told++;
}

static enum gate_answer enter_as(struct gates *g, struct visit *v, const void *owner, bool fresh, struct mono_ms now)
{
    *v = (struct visit){.ticket = {.loop = g->loop, .owner = owner, .fresh = fresh, .granted.run = on_granted}};
    return gate_enter(&v->ticket, g->backend, now);
}

static enum gate_answer enter(struct gates *g, struct visit *v)
{
    return enter_as(g, v, g, false, T0);
}

static char server_of(const struct visit *v)
{
    return v->ticket.server == NULL ? '-' : v->ticket.server->url[0];
}

/* Which servers n visits are granted, one after the other, all staying. */
static void check_order(struct gates *g, size_t n, const char *expected)
{
    struct visit v[32];
    char order[33] = "";

    assert_in_range(n, 1, 32);
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(enter(g, &v[i]), GATE_GRANTED);
        order[i] = server_of(&v[i]);
    }
    assert_string_equal(order, expected);
    for (size_t i = 0; i < n; i++)
        gate_leave(&v[i].ticket, T0);
}

static void round_robin_takes_turns_by_weight(void **state)
{
    struct gates *g = *state;

    g->conf.nservers = 3;
    g->conf.max_connections = 10;
    apply(g);
    check_order(g, 7, "abcabca");
    g->servers[0].weight = 3;
    g->conf.nservers = 2;
    apply(g);
    check_order(g, 8, "aabaaaba");
}

static void a_full_server_is_passed_over(void **state)
{
    struct gates *g = *state;
    struct visit v;

    g->conf.nservers = 2;
    g->conf.max_connections = 3;
    g->servers[0].weight = 100;
    apply(g);
    check_order(g, 6, "aaabbb");
    assert_int_equal(enter(g, &v), GATE_GRANTED);
    gate_leave(&v.ticket, T0);
}

static void least_requests_takes_the_least_busy_for_its_weight(void **state)
{
    struct gates *g = *state;
    struct visit v[8];

    g->conf.nservers = 2;
    g->conf.max_connections = 10;
    g->conf.balance = CONF_LEAST_REQUESTS;
    apply(g);
    for (int i = 0; i < 4; i++)
        enter(g, &v[i]);
    assert_int_not_equal(server_of(&v[0]), server_of(&v[1]));
    assert_int_not_equal(server_of(&v[2]), server_of(&v[3]));
    for (int i = 0; i < 4; i++)
        if (server_of(&v[i]) == 'b')
            gate_leave(&v[i].ticket, T0);
    for (int i = 4; i < 6; i++) {
        enter(g, &v[i]);
        assert_int_equal(server_of(&v[i]), 'b');
    }
    for (int i = 0; i < 6; i++)
        if (v[i].ticket.server != NULL)
            gate_leave(&v[i].ticket, T0);

    g->servers[1].weight = 2; /* b carries twice as much */
    apply(g);
    unsigned of_b = 0;
    for (int i = 0; i < 6; i++) {
        enter(g, &v[i]);
        of_b += server_of(&v[i]) == 'b';
    }
    assert_int_equal(of_b, 4);
    for (int i = 0; i < 6; i++)
        gate_leave(&v[i].ticket, T0);
}

static void slots_and_line_are_bounded_and_the_line_keeps_its_order(void **state)
{
    struct gates *g = *state;
    struct visit v[6];
    struct backend_figures figures;

    g->conf.queue_size = 3;
    apply(g);
    assert_int_equal(enter(g, &v[0]), GATE_GRANTED);
    assert_int_equal(enter(g, &v[1]), GATE_GRANTED);
    assert_int_equal(enter(g, &v[2]), GATE_WAITS);
    assert_int_equal(enter(g, &v[3]), GATE_WAITS);
    assert_int_equal(enter(g, &v[4]), GATE_WAITS);
    assert_int_equal(enter(g, &v[5]), GATE_FULL);
    backend_figures(g->backend, &figures);
    assert_int_equal(figures.in_flight, 2);
    assert_int_equal(figures.queued, 3);

    assert_true(gate_abandon(&v[3].ticket));
    assert_false(gate_abandon(&v[3].ticket));
    gate_leave(&v[0].ticket, T0);
    gate_leave(&v[1].ticket, T0);
    assert_false(gate_abandon(&v[2].ticket)); /* granted */
    loop_run(g->loop, 0);
    assert_int_equal(v[2].told, 1);
    assert_int_equal(v[3].told, 0);
    assert_int_equal(v[4].told, 1);
    assert_int_equal(server_of(&v[2]), 'a');
    gate_leave(&v[2].ticket, T0);
    gate_leave(&v[4].ticket, T0);
    backend_figures(g->backend, &figures);
    assert_int_equal(figures.in_flight, 0);
    assert_int_equal(figures.queued, 0);
}

static void without_a_line_nobody_waits(void **state)
{
    struct gates *g = *state;
    struct visit v[3];

    g->conf.queue_size = 0;
    apply(g);
    enter(g, &v[0]);
    enter(g, &v[1]);
    assert_int_equal(enter(g, &v[2]), GATE_FULL);
    gate_leave(&v[0].ticket, T0);
    assert_int_equal(enter(g, &v[2]), GATE_GRANTED);
    gate_leave(&v[1].ticket, T0);
    gate_leave(&v[2].ticket, T0);
}

static void nobody_overtakes_the_line(void **state)
{
    struct gates *g = *state;
    struct visit v[4];

    apply(g);
    for (int i = 0; i < 4; i++)
        enter(g, &v[i]);
    gate_leave(&v[0].ticket, T0); /* v[2] has it, though it does not know yet */
    struct visit late;
    assert_int_equal(enter(g, &late), GATE_WAITS);
    gate_leave(&v[1].ticket, T0);
    assert_ptr_equal(late.ticket.server, NULL);
    assert_non_null(v[3].ticket.server);
    gate_leave(&v[2].ticket, T0);
    gate_leave(&v[3].ticket, T0);
    gate_leave(&late.ticket, T0);
    loop_run(g->loop, 0);
}

static void who_was_refused_gets_another_server_and_the_refusing_one_a_rest(void **state)
{
    struct gates *g = *state;
    struct visit v, w;

    g->conf.nservers = 2;
    g->conf.max_connections = 10;
    apply(g);
    enter(g, &v);
    assert_int_equal(server_of(&v), 'a');
    assert_int_equal(gate_again(&v.ticket, true, T0), GATE_GRANTED);
    assert_int_equal(server_of(&v), 'b');
    gate_leave(&v.ticket, T0);
    for (int i = 0; i < 3; i++) {
        enter_as(g, &w, g, false, after(GATE_AVOID_MS - 1));
        assert_int_equal(server_of(&w), 'b');
        gate_leave(&w.ticket, T0);
    }
    struct visit x, y;
    enter_as(g, &x, g, false, after(GATE_AVOID_MS));
    enter_as(g, &y, g, false, after(GATE_AVOID_MS));
    assert_true(server_of(&x) == 'a' || server_of(&y) == 'a');
    gate_leave(&x.ticket, T0);
    gate_leave(&y.ticket, T0);
}

static void who_waits_for_one_server_holds_up_nobody_who_could_use_another(void **state)
{
    struct gates *g = *state;
    struct visit v[5];

    g->conf.nservers = 2;
    g->conf.max_connections = 1;
    apply(g);
    enter(g, &v[0]);
    enter(g, &v[1]);
    assert_int_equal(server_of(&v[0]), 'a');
    /* a failed it, and b is full: it waits for b, and a has room */
    assert_int_equal(gate_again(&v[0].ticket, false, T0), GATE_WAITS);
    assert_int_equal(enter(g, &v[2]), GATE_GRANTED);
    assert_int_equal(server_of(&v[2]), 'a');
    enter(g, &v[3]);
    enter(g, &v[4]);
    gate_leave(&v[2].ticket, T0);
    assert_int_equal(server_of(&v[3]), 'a');
    gate_leave(&v[1].ticket, T0);
    assert_int_equal(server_of(&v[0]), 'b');
    assert_int_equal(server_of(&v[4]), '-');
    gate_leave(&v[0].ticket, T0);
    assert_int_equal(server_of(&v[4]), 'b');
    gate_leave(&v[3].ticket, T0);
    gate_leave(&v[4].ticket, T0);
    loop_run(g->loop, 0);
}

static void the_line_is_served_when_a_server_is_avoided_no_more(void **state)
{
    struct gates *g = *state;
    struct visit v[3];

    g->conf.nservers = 2;
    g->conf.max_connections = 1;
    apply(g);
    assert_true(backends_serve(g->all, T0) == INT64_MAX);
    enter(g, &v[0]);
    enter(g, &v[1]);
    assert_int_equal(gate_again(&v[0].ticket, true, T0), GATE_WAITS); /* it does not go back to a, ... */
    assert_int_equal(enter(g, &v[2]), GATE_WAITS);                    /* ... and nobody does for a while */
    assert_true(backends_serve(g->all, after(GATE_AVOID_MS - 1)) == after(GATE_AVOID_MS).ms);
    assert_int_equal(server_of(&v[2]), '-');
    assert_true(backends_serve(g->all, after(GATE_AVOID_MS)) == INT64_MAX);
    assert_int_equal(server_of(&v[2]), 'a');
    assert_int_equal(server_of(&v[0]), '-');
    gate_leave(&v[1].ticket, after(GATE_AVOID_MS));
    assert_int_equal(server_of(&v[0]), 'b');
    gate_leave(&v[0].ticket, after(GATE_AVOID_MS));
    gate_leave(&v[2].ticket, after(GATE_AVOID_MS));
    loop_run(g->loop, 0);
}

static void where_all_refuse_all_are_tried(void **state)
{
    struct gates *g = *state;
    struct visit v;

    g->conf.nservers = 2;
    apply(g);
    enter(g, &v);
    assert_int_equal(gate_again(&v.ticket, true, T0), GATE_GRANTED);
    char second = server_of(&v);
    assert_int_equal(gate_again(&v.ticket, true, T0), GATE_GRANTED);
    assert_int_not_equal(server_of(&v), second);
    gate_leave(&v.ticket, T0);
    assert_int_equal(enter(g, &v), GATE_GRANTED);
    gate_leave(&v.ticket, T0);
}

static void a_single_server_is_tried_again_only_if_it_was_reached(void **state)
{
    struct gates *g = *state;
    struct visit v, w;
    struct backend_figures figures;

    g->conf.max_connections = 1;
    apply(g);
    enter(g, &v);
    assert_int_equal(gate_again(&v.ticket, false, T0), GATE_GRANTED);
    assert_int_equal(enter(g, &w), GATE_WAITS);
    assert_int_equal(gate_again(&v.ticket, true, T0), GATE_NO_OTHER);
    assert_ptr_equal(v.ticket.server, NULL);
    assert_non_null(w.ticket.server); /* its slot went on */
    gate_leave(&w.ticket, T0);
    loop_run(g->loop, 0);
    backend_figures(g->backend, &figures);
    assert_int_equal(figures.in_flight, 0);
}

static void who_comes_again_goes_ahead_of_the_line(void **state)
{
    struct gates *g = *state;
    struct visit v[5];

    g->conf.nservers = 2;
    g->conf.max_connections = 1;
    apply(g);
    for (int i = 0; i < 3; i++)
        enter(g, &v[i]);
    /* v[0] gives a back, which is left alone from now on; b is v[1]'s. */
    assert_int_equal(gate_again(&v[0].ticket, true, T0), GATE_WAITS);
    gate_leave(&v[1].ticket, T0);
    assert_int_equal(server_of(&v[0]), 'b');
    assert_ptr_equal(v[2].ticket.server, NULL);
    gate_leave(&v[0].ticket, T0);
    assert_int_equal(server_of(&v[2]), 'b');
    gate_leave(&v[2].ticket, T0);
    loop_run(g->loop, 0);
    assert_int_equal(v[0].told, 1);
}

static void a_change_of_limits_counts_at_once(void **state)
{
    struct gates *g = *state;
    struct visit v[5];

    apply(g);
    for (int i = 0; i < 5; i++)
        enter(g, &v[i]);
    g->conf.max_connections = 4;
    apply(g);
    assert_non_null(v[2].ticket.server);
    assert_non_null(v[3].ticket.server);
    assert_ptr_equal(v[4].ticket.server, NULL);
    g->conf.max_connections = 1;
    apply(g);
    for (int i = 0; i < 3; i++)
        gate_leave(&v[i].ticket, T0);
    assert_ptr_equal(v[4].ticket.server, NULL); /* still one in flight */
    gate_leave(&v[3].ticket, T0);
    assert_non_null(v[4].ticket.server);
    gate_leave(&v[4].ticket, T0);
    loop_run(g->loop, 0);
}

static void a_server_that_went_ends_with_its_last_user(void **state)
{
    struct gates *g = *state;
    struct visit v, w;
    struct gate_pool pool;

    apply(g);
    struct server *a = gate_server(g->backend, 0);
    gate_pool_init(&pool, a, g);
    enter(g, &v);
    g->servers[0].tls_verify = true; /* no longer the same */
    apply(g);
    assert_true(a->retired);
    assert_ptr_not_equal(gate_server(g->backend, 0), a);
    enter(g, &w);
    assert_ptr_equal(w.ticket.server, gate_server(g->backend, 0));
    gate_leave(&v.ticket, T0);
    gate_leave(&w.ticket, T0);
    gate_pool_fini(&pool);
    struct server *b = gate_server(g->backend, 0);
    g->servers[0].weight = 5;
    apply(g);
    assert_ptr_equal(gate_server(g->backend, 0), b);
}

/* Breakers */

enum { OPEN_MS = 5000 };

static void apply_with_breaker(struct gates *g, size_t nservers)
{
    g->conf.nservers = nservers;
    g->conf.breaker =
        (struct breaker_rules){.minimum = 3, .errors_percent = 50, .window_ms = 10000, .open_ms = OPEN_MS};
    apply(g);
}

static enum gate_answer enter_at(struct gates *g, struct visit *v, int64_t ms)
{
    return enter_as(g, v, g, false, after(ms));
}

static enum breaker_change judge(struct visit *v, enum breaker_verdict verdict, int64_t ms)
{
    return gate_judge(&v->ticket, verdict, after(ms)).change;
}

/* One whole visit. */
static enum breaker_change visit_and_judge(struct gates *g, char server, enum breaker_verdict verdict, int64_t ms)
{
    struct visit v;

    assert_int_equal(enter_at(g, &v, ms), GATE_GRANTED);
    assert_int_equal(server_of(&v), server);
    enum breaker_change change = judge(&v, verdict, ms);
    gate_leave(&v.ticket, after(ms));
    return change;
}

static void open_the_only_one(struct gates *g)
{
    apply_with_breaker(g, 1);
    assert_int_equal(visit_and_judge(g, 'a', BREAKER_FAILURE, 0), BREAKER_UNCHANGED);
    assert_int_equal(visit_and_judge(g, 'a', BREAKER_FAILURE, 0), BREAKER_UNCHANGED);
    assert_int_equal(visit_and_judge(g, 'a', BREAKER_FAILURE, 0), BREAKER_OPENS);
}

static void figures_are(struct gates *g, const char *breaker, const char *state)
{
    struct backend_figures figures;

    backend_figures(g->backend, &figures);
    assert_string_equal(figures.breaker, breaker);
    assert_string_equal(figures.state, state);
}

static void who_comes_while_all_breakers_are_open_is_turned_away(void **state)
{
    struct gates *g = *state;
    struct visit v;

    open_the_only_one(g);
    assert_int_equal(enter_at(g, &v, 0), GATE_SHUT);
    assert_ptr_equal(v.ticket.server, NULL);
    assert_int_equal(v.ticket.shut_ms, OPEN_MS);
    assert_int_equal(enter_at(g, &v, OPEN_MS - 1), GATE_SHUT);
    assert_int_equal(v.ticket.shut_ms, 1);
    assert_int_equal(visit_and_judge(g, 'a', BREAKER_SUCCESS, OPEN_MS), BREAKER_CLOSES);
    assert_int_equal(visit_and_judge(g, 'a', BREAKER_SUCCESS, OPEN_MS), BREAKER_UNCHANGED);
}

static void one_probe_goes_and_the_others_are_turned_away(void **state)
{
    struct gates *g = *state;
    struct visit probe, other;

    open_the_only_one(g);
    assert_int_equal(enter_at(g, &probe, OPEN_MS), GATE_GRANTED);
    assert_int_equal(enter_at(g, &other, OPEN_MS), GATE_SHUT);
    assert_int_equal(other.ticket.shut_ms, 0);
    gate_leave(&probe.ticket, after(OPEN_MS)); /* without a verdict */
    assert_int_equal(enter_at(g, &probe, OPEN_MS), GATE_GRANTED);
    assert_int_equal(judge(&probe, BREAKER_FAILURE, OPEN_MS), BREAKER_OPENS_AGAIN);
    assert_int_equal(judge(&probe, BREAKER_SUCCESS, OPEN_MS), BREAKER_UNCHANGED); /* the first verdict counts */
    gate_leave(&probe.ticket, after(OPEN_MS));
    assert_int_equal(enter_at(g, &other, 2 * OPEN_MS - 1), GATE_SHUT);
    assert_int_equal(visit_and_judge(g, 'a', BREAKER_SUCCESS, 2 * OPEN_MS), BREAKER_CLOSES);
}

static void whoever_waits_when_the_last_breaker_opens_is_turned_away(void **state)
{
    struct gates *g = *state;
    struct visit in[2], waiting[2];

    g->conf.max_connections = 2;
    apply_with_breaker(g, 1);
    visit_and_judge(g, 'a', BREAKER_FAILURE, 0);
    enter(g, &in[0]);
    enter(g, &in[1]);
    assert_int_equal(enter(g, &waiting[0]), GATE_WAITS);
    assert_int_equal(enter(g, &waiting[1]), GATE_WAITS);
    judge(&in[0], BREAKER_FAILURE, 0);
    assert_int_equal(judge(&in[1], BREAKER_FAILURE, 100), BREAKER_OPENS);
    for (int i = 0; i < 2; i++)
        assert_false(gate_abandon(&waiting[i].ticket));
    loop_run(g->loop, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(waiting[i].told, 1);
        assert_ptr_equal(waiting[i].ticket.server, NULL);
        assert_int_equal(waiting[i].ticket.shut_ms, OPEN_MS);
        gate_leave(&in[i].ticket, T0);
    }
}

/* Two hold the server up since before it opened; the line's first becomes the probe, and nobody waits for its end. */
static void the_line_sends_one_probe_and_is_turned_away(void **state)
{
    struct gates *g = *state;
    struct visit in[2], waiting[2];

    g->conf.max_connections = 2;
    apply_with_breaker(g, 1);
    for (int i = 0; i < 2; i++)
        visit_and_judge(g, 'a', BREAKER_FAILURE, 0);
    for (int i = 0; i < 2; i++)
        enter(g, &in[i]);
    assert_int_equal(judge(&in[0], BREAKER_FAILURE, 0), BREAKER_OPENS);
    for (int i = 0; i < 2; i++)
        assert_int_equal(enter_at(g, &waiting[i], OPEN_MS), GATE_WAITS); /* for a slot */
    gate_leave(&in[0].ticket, after(OPEN_MS));
    loop_run(g->loop, 0);
    assert_int_equal(server_of(&waiting[0]), 'a');
    assert_true(waiting[0].ticket.pass.probe);
    assert_int_equal(server_of(&waiting[1]), '-');
    assert_int_equal(waiting[1].told, 1);
    gate_leave(&in[1].ticket, after(OPEN_MS));
    gate_leave(&waiting[0].ticket, after(OPEN_MS));
}

/* Two servers take turns, and a fails. */
static void open_the_first_of_two(struct gates *g)
{
    apply_with_breaker(g, 2);
    for (int i = 0; i < 3; i++) {
        visit_and_judge(g, 'a', BREAKER_FAILURE, 0);
        visit_and_judge(g, 'b', BREAKER_SUCCESS, 0);
    }
}

static void of_two_servers_only_the_bad_one_is_left_alone(void **state)
{
    struct gates *g = *state;

    g->conf.max_connections = 10;
    open_the_first_of_two(g);
    check_order(g, 5, "bbbbb");
    char seen[3] = "";
    struct visit v[2];
    for (int i = 0; i < 2; i++) {
        enter_at(g, &v[i], OPEN_MS);
        seen[i] = server_of(&v[i]);
    }
    assert_non_null(strchr(seen, 'a'));
    assert_non_null(strchr(seen, 'b'));
    for (int i = 0; i < 2; i++)
        gate_leave(&v[i].ticket, after(OPEN_MS));
}

static void who_waits_for_the_good_server_goes_to_the_bad_one_in_its_time(void **state)
{
    struct gates *g = *state;
    struct visit in, waiting[2];

    g->conf.max_connections = 1;
    open_the_first_of_two(g);
    assert_true(backends_serve(g->all, T0) == after(OPEN_MS).ms);
    enter(g, &in);
    for (int i = 0; i < 2; i++)
        assert_int_equal(enter(g, &waiting[i]), GATE_WAITS);
    backends_serve(g->all, after(OPEN_MS - 1));
    assert_int_equal(server_of(&waiting[0]), '-');
    assert_true(backends_serve(g->all, after(OPEN_MS)) == INT64_MAX);
    assert_int_equal(server_of(&waiting[0]), 'a');
    assert_int_equal(server_of(&waiting[1]), '-');
    gate_leave(&in.ticket, after(OPEN_MS));
    assert_int_equal(server_of(&waiting[1]), 'b');
    gate_leave(&waiting[0].ticket, after(OPEN_MS));
    gate_leave(&waiting[1].ticket, after(OPEN_MS));
    loop_run(g->loop, 0);
}

/* Where there is no other, neither of them goes back to who has just refused or failed it. */
static void a_breaker_counts_for_who_tries_again(void **state)
{
    struct gates *g = *state;
    struct visit v;

    g->conf.max_connections = 10;
    open_the_first_of_two(g);
    enter(g, &v);
    assert_int_equal(gate_again(&v.ticket, true, T0), GATE_NO_OTHER);
    enter(g, &v);
    assert_int_equal(gate_again(&v.ticket, false, T0), GATE_GRANTED); /* reached, and closed */
    assert_int_equal(server_of(&v), 'b');
    gate_leave(&v.ticket, T0);
    for (int i = 0; i < 2; i++)
        visit_and_judge(g, 'b', BREAKER_FAILURE, 0);
    enter(g, &v);
    assert_int_equal(judge(&v, BREAKER_FAILURE, 0), BREAKER_OPENS);
    assert_int_equal(gate_again(&v.ticket, false, T0), GATE_SHUT);
    assert_ptr_equal(v.ticket.server, NULL);
    assert_int_equal(v.ticket.shut_ms, OPEN_MS);
}

static void a_breaker_stays_as_it_is_while_server_and_rules_do(void **state)
{
    struct gates *g = *state;
    struct visit v;

    open_the_only_one(g);
    g->conf.max_connections = 7;
    g->servers[0].weight = 5;
    apply(g);
    assert_int_equal(enter(g, &v), GATE_SHUT);
    g->conf.breaker.open_ms++;
    apply(g);
    visit_and_judge(g, 'a', BREAKER_SUCCESS, 0);

    open_the_only_one(g);
    g->servers[0].tls_verify = true; /* another server */
    apply(g);
    for (int i = 0; i < 3; i++)
        visit_and_judge(g, 'a', BREAKER_FAILURE, 0);
    assert_int_equal(enter(g, &v), GATE_SHUT);
    g->conf.breaker.minimum = 0; /* none any more */
    apply(g);
    for (int i = 0; i < 100; i++)
        assert_int_equal(visit_and_judge(g, 'a', BREAKER_FAILURE, 0), BREAKER_UNCHANGED);
}

static void what_began_under_other_rules_counts_for_nothing(void **state)
{
    struct gates *g = *state;
    struct visit before, probe;

    apply(g);
    enter(g, &before); /* there was no breaker then */
    open_the_only_one(g);
    assert_int_equal(judge(&before, BREAKER_SUCCESS, 0), BREAKER_UNCHANGED);
    gate_leave(&before.ticket, T0);
    enter_at(g, &probe, OPEN_MS);
    g->conf.breaker.minimum++;
    apply(g);
    assert_int_equal(judge(&probe, BREAKER_FAILURE, OPEN_MS), BREAKER_UNCHANGED);
    gate_leave(&probe.ticket, after(OPEN_MS));
    for (int i = 0; i < 3; i++)
        assert_int_equal(visit_and_judge(g, 'a', BREAKER_FAILURE, OPEN_MS), BREAKER_UNCHANGED);
    assert_int_equal(visit_and_judge(g, 'a', BREAKER_FAILURE, OPEN_MS), BREAKER_OPENS);
}

/* The figures go by the real clock. */
static void figures_say_the_worst_of_the_breakers(void **state)
{
    struct gates *g = *state;
    struct timespec t;

    g->conf.max_connections = 10;
    g->conf.nservers = 2;
    apply(g);
    figures_are(g, "off", "unknown");
    apply_with_breaker(g, 2);
    figures_are(g, "closed", "unknown");
    clock_gettime(CLOCK_MONOTONIC, &t);
    int64_t now_ms = t.tv_sec * INT64_C(1000) - T0.ms;
    for (int i = 0; i < 3; i++) {
        server_reached(gate_server(g->backend, 0), REACHED_YES);
        visit_and_judge(g, 'a', BREAKER_FAILURE, now_ms + 3600000);
        visit_and_judge(g, 'b', BREAKER_SUCCESS, now_ms + 3600000);
    }
    figures_are(g, "open", "down"); /* b has not been connected to, as far as is known */
    server_reached(gate_server(g->backend, 1), REACHED_YES);
    figures_are(g, "open", "up");
    g->conf.breaker.minimum++;
    apply(g);
    figures_are(g, "closed", "up");
    for (int i = 0; i < 4; i++) {
        visit_and_judge(g, 'a', BREAKER_FAILURE, now_ms - 2 * OPEN_MS);
        visit_and_judge(g, 'b', BREAKER_SUCCESS, now_ms - 2 * OPEN_MS);
    }
    figures_are(g, "half-open", "up"); /* its time has passed */
}

/* Connections: two owners (threads) with a pool each at one server */

struct wire {
    struct gate_conn conn;
    int fd, peer;
};

static void wire_open(struct wire *w, struct gate_pool *pool, struct visit *v)
{
    int fd[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
    w->fd = fd[0];
    w->peer = fd[1];
    gate_conn_opened(&w->conn, pool, &v->ticket, w->fd);
}

static void wire_close(struct wire *w)
{
    gate_conn_closed(&w->conn);
    close(w->fd);
    close(w->peer);
}

static bool wire_is_shut(const struct wire *w)
{
    char byte;
    return recv(w->peer, &byte, 1, MSG_DONTWAIT) == 0;
}

struct two {
    struct gate_pool one, other;
};

static void two_open(struct gates *g, struct two *t)
{
    apply(g);
    gate_pool_init(&t->one, gate_server(g->backend, 0), &t->one);
    gate_pool_init(&t->other, gate_server(g->backend, 0), &t->other);
}

static void two_close(struct two *t)
{
    gate_pool_fini(&t->one);
    gate_pool_fini(&t->other);
}

static void visit_once(struct gates *g, struct gate_pool *pool, struct wire *w)
{
    struct visit v;
    assert_int_equal(enter_as(g, &v, pool, false, T0), GATE_GRANTED);
    wire_open(w, pool, &v);
    gate_conn_idle(&w->conn, T0);
    gate_leave(&v.ticket, T0);
}

static void an_idle_connection_makes_room_for_another_threads(void **state)
{
    struct gates *g = *state;
    struct two t;
    struct wire w[3];
    struct visit v;

    two_open(g, &t);
    visit_once(g, &t.one, &w[0]);
    visit_once(g, &t.other, &w[1]);
    assert_false(wire_is_shut(&w[0]));
    assert_false(wire_is_shut(&w[1]));
    assert_int_equal(enter_as(g, &v, &t.one, true, T0), GATE_GRANTED);
    assert_true(wire_is_shut(&w[0])); /* the longest unused one */
    assert_false(wire_is_shut(&w[1]));
    wire_open(&w[2], &t.one, &v);
    assert_int_equal(gate_server(g->backend, 0)->open, 2);
    gate_conn_idle(&w[2].conn, T0);
    gate_conn_idle(&w[0].conn, T0); /* a dead one does not come back */
    gate_leave(&v.ticket, T0);
    for (int i = 0; i < 3; i++)
        wire_close(&w[i]);
    assert_int_equal(gate_server(g->backend, 0)->open, 0);
    two_close(&t);
}

static void an_idle_connection_that_is_about_to_be_used_is_let_be(void **state)
{
    struct gates *g = *state;
    struct two t;
    struct wire w[2];
    struct visit v, x;

    two_open(g, &t);
    visit_once(g, &t.one, &w[0]);
    visit_once(g, &t.one, &w[1]);
    assert_int_equal(enter_as(g, &v, &t.one, false, T0), GATE_GRANTED); /* will take either */
    assert_int_equal(enter_as(g, &x, &t.other, false, T0), GATE_GRANTED);
    assert_int_equal(wire_is_shut(&w[0]) + wire_is_shut(&w[1]), 1);
    gate_conn_used(wire_is_shut(&w[0]) ? &w[1].conn : &w[0].conn, &v.ticket);
    assert_int_equal(gate_server(g->backend, 0)->open, 2);
    gate_leave(&x.ticket, T0); /* never opened any */
    gate_leave(&v.ticket, T0);
    wire_close(&w[0]);
    wire_close(&w[1]);
    assert_int_equal(gate_server(g->backend, 0)->open, 0);
    two_close(&t);
}

/* A ticket that was to reuse a connection finds it gone and opens one: others' idle ones then make room. */
static void one_more_connection_than_foreseen_makes_room_too(void **state)
{
    struct gates *g = *state;
    struct two t;
    struct wire w[3];
    struct visit v;

    two_open(g, &t);
    visit_once(g, &t.one, &w[0]);
    visit_once(g, &t.other, &w[1]);
    assert_int_equal(enter_as(g, &v, &t.one, false, T0), GATE_GRANTED);
    wire_open(&w[2], &t.one, &v);
    assert_int_equal(wire_is_shut(&w[0]) + wire_is_shut(&w[1]), 1);
    assert_int_equal(gate_server(g->backend, 0)->open, 2);
    gate_leave(&v.ticket, T0);
    for (int i = 0; i < 3; i++)
        wire_close(&w[i]);
    two_close(&t);
}

static void idle_connections_end_after_keepalive_or_when_killed(void **state)
{
    struct gates *g = *state;
    struct two t;
    struct wire w[2];

    two_open(g, &t);
    visit_once(g, &t.one, &w[0]);
    visit_once(g, &t.other, &w[1]);
    gate_pool_expire(&t.one, after(999));
    assert_false(wire_is_shut(&w[0]));
    gate_pool_expire(&t.one, after(1000));
    assert_true(wire_is_shut(&w[0]));
    assert_false(wire_is_shut(&w[1])); /* the other thread's */
    gate_conn_kill(&w[1].conn);
    assert_true(wire_is_shut(&w[1]));
    gate_conn_kill(&w[1].conn);
    assert_int_equal(gate_server(g->backend, 0)->open, 0);
    wire_close(&w[0]);
    wire_close(&w[1]);
    two_close(&t);
}

static void a_lower_limit_or_a_removal_ends_idle_connections(void **state)
{
    struct gates *g = *state;
    struct two t;
    struct wire w[2];

    two_open(g, &t);
    visit_once(g, &t.one, &w[0]);
    visit_once(g, &t.other, &w[1]);
    g->conf.max_connections = 1;
    apply(g);
    assert_true(wire_is_shut(&w[0]));
    assert_false(wire_is_shut(&w[1]));
    g->servers[0].port = 2;
    apply(g);
    assert_true(wire_is_shut(&w[1]));
    wire_close(&w[0]);
    wire_close(&w[1]);
    two_close(&t);
}

/* Threads: never more in flight than allowed, everyone is told, nothing is left over. */

enum { THREADS = 4, VISITS = 3000 };
static _Atomic unsigned inside_now, inside_most;

struct visitor {
    pthread_t thread;
    struct gates *g;
    struct loop *loop;
};

struct stay {
    struct gate_ticket ticket;
    bool granted;
};

static void on_stay(struct message *m)
{
    OF(struct stay, ticket.granted, m)->granted = true;
}

static void *visit_often(void *arg)
{
    struct visitor *v = arg;
    v->loop = loop_create();
    for (int i = 0; i < VISITS; i++) {
        struct stay s = {.ticket = {.loop = v->loop, .owner = v, .granted.run = on_stay}};
        enum gate_answer answer = gate_enter(&s.ticket, v->g->backend, T0);
        assert_int_not_equal(answer, GATE_FULL);
        if (answer == GATE_WAITS && i % 7 == 0 && gate_abandon(&s.ticket))
            continue;
        while (answer == GATE_WAITS && !s.granted)
            loop_run(v->loop, 1000);
        unsigned now = atomic_fetch_add(&inside_now, 1) + 1, most = atomic_load(&inside_most);
        while (now > most && !atomic_compare_exchange_weak(&inside_most, &most, now))
            ;
        atomic_fetch_sub(&inside_now, 1);
        gate_leave(&s.ticket, T0);
    }
    loop_destroy(v->loop);
    return NULL;
}

static void threads_share_the_slots(void **state)
{
    struct gates *g = *state;
    struct visitor v[THREADS];
    struct backend_figures figures;

    apply(g);
    for (int i = 0; i < THREADS; i++) {
        v[i].g = g;
        pthread_create(&v[i].thread, NULL, visit_often, &v[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(v[i].thread, NULL);
    assert_in_range(inside_most, 1, 2);
    backend_figures(g->backend, &figures);
    assert_int_equal(figures.in_flight, 0);
    assert_int_equal(figures.queued, 0);
    assert_int_equal(gate_server(g->backend, 0)->open, 0);
}

/* Threads and a breaker that opens and closes all the time: one probe at a time, everyone is told, nothing is left. */

static _Atomic unsigned probes_now, probes, turned_away;
static _Atomic int64_t clock_ms;

static bool is_inside(struct loop *loop, struct stay *s, enum gate_answer answer)
{
    assert_int_not_equal(answer, GATE_FULL);
    while (answer == GATE_WAITS && !s->granted)
        loop_run(loop, 1000);
    return s->ticket.server != NULL;
}

static void *visit_and_fail(void *arg)
{
    struct visitor *v = arg;
    v->loop = loop_create();
    for (int i = 0; i < VISITS; i++) {
        struct stay s = {.ticket = {.loop = v->loop, .owner = v, .granted.run = on_stay}};
        struct mono_ms now = after(atomic_fetch_add(&clock_ms, 1));

        if (!is_inside(v->loop, &s, gate_enter(&s.ticket, v->g->backend, now))) {
            turned_away++;
            continue;
        }
        bool probe = s.ticket.pass.probe;
        if (probe) {
            probes++;
            assert_int_equal(atomic_fetch_add(&probes_now, 1), 0);
            atomic_fetch_sub(&probes_now, 1);
        }
        gate_judge(&s.ticket, (enum breaker_verdict)(i % 3), now);
        gate_leave(&s.ticket, now);
    }
    loop_destroy(v->loop);
    return NULL;
}

static void threads_share_a_breaker(void **state)
{
    struct gates *g = *state;
    struct visitor v[THREADS];
    struct backend_figures figures;

    apply_with_breaker(g, 1);
    g->conf.breaker.open_ms = 3;
    apply(g);
    for (int i = 0; i < THREADS; i++) {
        v[i].g = g;
        pthread_create(&v[i].thread, NULL, visit_and_fail, &v[i]);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(v[i].thread, NULL);
    assert_true(probes > 10 && turned_away > 10);
    backend_figures(g->backend, &figures);
    assert_int_equal(figures.in_flight, 0);
    assert_int_equal(figures.queued, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(round_robin_takes_turns_by_weight),
        TEST(a_full_server_is_passed_over),
        TEST(least_requests_takes_the_least_busy_for_its_weight),
        TEST(slots_and_line_are_bounded_and_the_line_keeps_its_order),
        TEST(without_a_line_nobody_waits),
        TEST(nobody_overtakes_the_line),
        TEST(who_was_refused_gets_another_server_and_the_refusing_one_a_rest),
        TEST(who_waits_for_one_server_holds_up_nobody_who_could_use_another),
        TEST(the_line_is_served_when_a_server_is_avoided_no_more),
        TEST(where_all_refuse_all_are_tried),
        TEST(a_single_server_is_tried_again_only_if_it_was_reached),
        TEST(who_comes_again_goes_ahead_of_the_line),
        TEST(a_change_of_limits_counts_at_once),
        TEST(a_server_that_went_ends_with_its_last_user),
        TEST(who_comes_while_all_breakers_are_open_is_turned_away),
        TEST(one_probe_goes_and_the_others_are_turned_away),
        TEST(whoever_waits_when_the_last_breaker_opens_is_turned_away),
        TEST(the_line_sends_one_probe_and_is_turned_away),
        TEST(of_two_servers_only_the_bad_one_is_left_alone),
        TEST(who_waits_for_the_good_server_goes_to_the_bad_one_in_its_time),
        TEST(a_breaker_counts_for_who_tries_again),
        TEST(a_breaker_stays_as_it_is_while_server_and_rules_do),
        TEST(what_began_under_other_rules_counts_for_nothing),
        TEST(figures_say_the_worst_of_the_breakers),
        TEST(an_idle_connection_makes_room_for_another_threads),
        TEST(an_idle_connection_that_is_about_to_be_used_is_let_be),
        TEST(one_more_connection_than_foreseen_makes_room_too),
        TEST(idle_connections_end_after_keepalive_or_when_killed),
        TEST(a_lower_limit_or_a_removal_ends_idle_connections),
        TEST(threads_share_the_slots),
        TEST(threads_share_a_breaker),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
