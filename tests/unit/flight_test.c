/* Flights: one fetch in the air for a key, and who is told what. The threads' mailboxes are played by a list. */
// clang-format off
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
// clang-format on

#include <stdlib.h>
#include <string.h>

#include "cache/flight.h"

enum { THREADS = 2, POSTS_MAX = 64 };

struct world {
    struct store *store;
    struct store_thread *thread;
    struct flights *flights;
    struct flight_sub *posted[POSTS_MAX];
    size_t nposted;
    struct flight *home[POSTS_MAX];
    size_t nhome;
};

struct waiter {
    struct flight_waiter base;
    unsigned woken;
    bool leave;
};

static void on_wake(struct flight_waiter *w)
{
    struct waiter *waiter = (struct waiter *)w;

    waiter->woken++;
    if (waiter->leave)
        flight_leave(w);
}

static struct waiter waiter(void)
{
    return (struct waiter){.base = {.wake = on_wake}};
}

static void post(void *context, unsigned thread, struct flight_sub *sub)
{
    struct world *w = context;

    (void)thread;
    assert_true(w->nposted < POSTS_MAX);
    w->posted[w->nposted++] = sub;
}

static void post_home(void *context, struct flight *f)
{
    struct world *w = context;

    assert_true(w->nhome < POSTS_MAX);
    w->home[w->nhome++] = f;
}

static void deliver(struct world *w)
{
    for (size_t i = 0; i < w->nposted; i++)
        flight_sub_run(w->posted[i]);
    w->nposted = 0;
    for (size_t i = 0; i < w->nhome; i++) {
        flight_home_begin(w->home[i]);
        flight_home_done(w->home[i]);
    }
    w->nhome = 0;
}

static int set_up(void **state)
{
    struct world *w = calloc(1, sizeof *w);

    w->store = store_create(&(struct store_options){.bytes_max = 16 << 20, .threads = 1, .seed = 1});
    w->thread = store_thread_create(w->store);
    w->flights = flights_create(&(struct flights_options){
        .threads = THREADS, .store = w->store, .post = post, .post_home = post_home, .context = w});
    *state = w;
    return 0;
}

/* flights_destroy asserts that nothing is left in the air. */
static int tear_down(void **state)
{
    struct world *w = *state;

    deliver(w);
    flights_destroy(w->flights);
    store_thread_destroy(w->thread);
    store_destroy(w->store);
    free(w);
    return 0;
}

static const struct bytes key = BYTES_LIT("url|rest"), other = BYTES_LIT("url|tail"), elsewhere = BYTES_LIT("uri|rest");
enum { URL_N = 3 };

static size_t places(struct world *w)
{
    struct flights_figures f;

    flights_figures(w->flights, &f);
    return f.places;
}

static struct flight *join(struct world *w, unsigned thread, struct bytes k, struct waiter *waiter, bool *created)
{
    return flight_join(w->flights, thread, store_hash(w->store, k), k, URL_N, waiter != NULL ? &waiter->base : NULL,
                       created);
}

static struct stored *response(struct world *w)
{
    return stored_create(
        w->thread,
        &(struct stored_options){
            .kind = STORED_RESPONSE, .key = key, .key_url_n = URL_N, .status = 200, .content_length = -1},
        (struct mono_ms){0});
}

static void the_second_joins_what_the_first_made(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter(), b = waiter(), c = waiter();
    bool created;
    struct flight *f = join(w, 0, key, &a, &created), *g;

    assert_true(created && a.base.leader);
    assert_ptr_equal(join(w, 1, key, &b, &created), f);
    assert_false(created || b.base.leader);
    g = join(w, 1, other, &c, &created);
    assert_true(created && g != f);
    flight_leave(&a.base);
    flight_leave(&b.base);
    flight_leave(&c.base);
    flight_end(f);
    flight_end(g);
}

/* For the home to speak to: whose request was sent, while it waits. */
static void the_leader_is_known_until_it_leaves(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter(), b = waiter(), c = waiter();
    bool created;
    struct flight *f = join(w, 0, key, &a, &created), *g, *alone;

    join(w, 0, key, &b, &created);
    assert_ptr_equal(f->leader, &a.base);
    flight_leave(&b.base);
    assert_ptr_equal(f->leader, &a.base);
    flight_leave(&a.base);
    join(w, 0, key, &b, &created);
    assert_false(created);
    assert_null(f->leader);
    flight_leave(&b.base);
    flight_end(f);

    g = join(w, 0, other, NULL, &created);
    assert_null(g->leader);
    flight_end(g);
    alone = flight_create_alone(w->flights, 0, key, URL_N, &c.base);
    assert_ptr_equal(alone->leader, &c.base);
    flight_leave(&c.base);
    flight_end(alone);
}

/* A refresh joins nobody: it is made once, and declined while one is in the air. */
static void a_refresh_is_made_once(void **state)
{
    struct world *w = *state;
    bool created;
    struct flight *f = join(w, 0, key, NULL, &created);

    assert_true(created);
    assert_null(join(w, 0, key, NULL, &created));
    assert_false(created);
    flight_end(f);
    f = join(w, 0, key, NULL, &created);
    assert_true(created);
    flight_end(f);
}

/* The home's waiters are woken at once, another thread's by one message however many they are. */
static void a_thread_is_told_once(void **state)
{
    struct world *w = *state;
    struct waiter own = waiter(), far[3] = {waiter(), waiter(), waiter()};
    bool created;
    struct flight *f = join(w, 0, key, &own, &created);

    for (int i = 0; i < 3; i++)
        join(w, 1, key, &far[i], &created);
    f->response = response(w);
    flight_tell(f, FLIGHT_SHARED);
    assert_int_equal(own.woken, 1);
    assert_int_equal(w->nposted, 1);
    assert_int_equal(far[0].woken, 0);
    flight_tell_body(f);
    flight_tell_body(f);
    assert_int_equal(w->nposted, 1);
    deliver(w);
    for (int i = 0; i < 3; i++)
        assert_int_equal(far[i].woken, 1);
    flight_tell_body(f);
    assert_int_equal(w->nposted, 1);
    deliver(w);
    assert_int_equal(far[2].woken, 2);
    flight_leave(&own.base);
    for (int i = 0; i < 3; i++)
        flight_leave(&far[i].base);
    flight_end(f);
}

/* Waking may make any waiter leave, the next one too. */
static void waiters_may_leave_while_being_woken(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter(), b = waiter(), c = waiter();
    bool created;
    struct flight *f = join(w, 0, key, &a, &created);

    join(w, 0, key, &b, &created);
    join(w, 0, key, &c, &created);
    a.leave = b.leave = c.leave = true;
    flight_tell(f, FLIGHT_DECLINED);
    assert_int_equal(a.woken + b.woken + c.woken, 3);
    assert_int_equal(atomic_load(&f->waiters), 0);
    assert_int_equal(w->nhome, 1);
    flight_end(f);
}

/* Who joins after the verdict was told is told, too. */
static void a_late_joiner_learns_the_state(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter(), late = waiter();
    bool created;
    struct flight *f = join(w, 0, key, &a, &created);

    f->response = response(w);
    flight_tell(f, FLIGHT_SHARED);
    join(w, 1, key, &late, &created);
    assert_int_equal(w->nposted, 1);
    deliver(w);
    assert_int_equal(late.woken, 1);
    flight_leave(&a.base);
    flight_leave(&late.base);
    flight_end(f);
}

/* A purge takes flights of its url out of the table and marks them; others stay. */
static void a_purge_dooms_its_urls_flights(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter(), b = waiter(), c = waiter(), again = waiter();
    bool created;
    struct flight *f = join(w, 0, key, &a, &created), *g = join(w, 0, other, &b, &created);
    struct flight *h = join(w, 0, elsewhere, &c, &created), *fresh;

    flights_doom_url(w->flights, (struct bytes){"url", 3});
    assert_true(atomic_load(&f->doomed) && atomic_load(&g->doomed));
    assert_false(atomic_load(&h->doomed));
    fresh = join(w, 0, key, &again, &created);
    assert_true(created && fresh != f);
    assert_true(fresh->born > f->born);
    flights_doom_all(w->flights);
    assert_true(atomic_load(&h->doomed));
    flight_leave(&a.base);
    flight_leave(&b.base);
    flight_leave(&c.base);
    flight_leave(&again.base);
    flight_end(f);
    flight_end(g);
    flight_end(h);
    flight_end(fresh);
}

/* Once the answer told what it varies on, the flight is found under both keys, and a purge finds both. */
static void a_flight_is_found_under_its_variant_too(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter(), b = waiter(), c = waiter();
    struct flights_figures figures;
    bool created;
    struct flight *f = join(w, 0, key, &a, &created);

    assert_true(flight_add_variant(f, store_hash(w->store, other), other, URL_N));
    assert_true(bytes_eq(f->answer_key, other));
    assert_ptr_equal(join(w, 1, other, &b, &created), f);
    assert_ptr_equal(join(w, 1, key, &c, &created), f);
    flights_figures(w->flights, &figures);
    assert_int_equal(figures.places, 2);
    assert_int_equal(figures.flights, 1);
    assert_int_equal(figures.waiters, 3);
    flights_doom_url(w->flights, (struct bytes){"url", 3});
    assert_int_equal(places(w), 0);
    flight_leave(&a.base);
    flight_leave(&b.base);
    flight_leave(&c.base);
    flight_end(f);
}

/* The key of the answer may have a url part of its own; a purge of either is the flight's end. */
static void a_flight_is_found_by_either_url(void **state)
{
    struct world *w = *state;
    const struct bytes answer = BYTES_LIT("reduced url|p");

    for (int i = 0; i < 2; i++) {
        struct waiter a = waiter();
        bool created;
        struct flight *f = join(w, 0, key, &a, &created);

        assert_true(flight_add_variant(f, store_hash(w->store, answer), answer, 11));
        flights_doom_url(w->flights, (struct bytes){"red", 3});
        assert_false(atomic_load(&f->doomed));
        flights_doom_url(w->flights, i == 0 ? BYTES_LIT("url") : BYTES_LIT("reduced url"));
        assert_true(atomic_load(&f->doomed));
        flight_leave(&a.base);
        flight_end(f);
    }
}

/* A purge that came between the first key and the variant's is not missed. */
static void a_purge_before_the_variant_is_added_dooms(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter();
    bool created;
    struct flight *f = join(w, 0, key, &a, &created);

    store_purge_url(w->thread, (struct bytes){"url", 3}, false);
    assert_true(flight_add_variant(f, store_hash(w->store, other), other, URL_N));
    assert_true(atomic_load(&f->doomed));
    assert_int_equal(places(w), 1);
    flight_leave(&a.base);
    flight_end(f);
}

static struct flight *fly_with_tag(struct world *w, struct waiter *leader, const char *text)
{
    struct tags tags = {.n = 0};
    bool created;
    struct flight *f = join(w, 0, key, leader, &created);

    assert_true(created);
    tags_add(&tags, w->store, bytes_of(text), false);
    f->response = stored_create(w->thread,
                                &(struct stored_options){.kind = STORED_RESPONSE,
                                                         .key = key,
                                                         .key_url_n = URL_N,
                                                         .status = 200,
                                                         .content_length = -1,
                                                         .tags = tags.v,
                                                         .ntags = tags.n,
                                                         .born = f->born},
                                (struct mono_ms){0});
    return f;
}

static void purge_tag(struct world *w, const char *text)
{
    struct tag_target target = tag_target_anywhere(w->store, bytes_of(text));

    (void)store_purge_tag(w->thread, &target, false);
    flights_doom_tag(w->flights, &target);
}

/* Before its head nobody can know what a flight carries; afterwards a purge finds it, under its variant's key too. */
static void a_purge_by_tag_dooms_what_carries_it(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter(), b = waiter(), c = waiter();
    bool created;
    struct flight *f = fly_with_tag(w, &a, "t"), *g = join(w, 0, elsewhere, &b, &created), *fresh;

    g->response = response(w);
    assert_true(flight_show_tags(f) && flight_show_tags(g));
    assert_true(flight_add_variant(f, store_hash(w->store, other), other, URL_N));
    assert_int_equal(places(w), 3);
    purge_tag(w, "another");
    assert_false(atomic_load(&f->doomed));
    purge_tag(w, "t");
    assert_true(atomic_load(&f->doomed));
    assert_false(atomic_load(&g->doomed));
    assert_int_equal(places(w), 1);
    fresh = join(w, 0, key, &c, &created);
    assert_true(created && fresh != f);
    flight_leave(&a.base);
    flight_leave(&b.base);
    flight_leave(&c.base);
    flight_end(f);
    flight_end(g);
    flight_end(fresh);
}

/* Who joined after the purge is told that the answer is not for them: the flight says so when its head has come. */
static void a_purge_before_the_head_is_seen_then(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter(), b = waiter();
    bool created;
    struct flight *f = fly_with_tag(w, &a, "t"), *fresh;

    purge_tag(w, "another");
    purge_tag(w, "t");
    assert_false(atomic_load(&f->doomed));
    assert_ptr_equal(join(w, 1, key, &b, &created), f);
    assert_false(flight_show_tags(f));
    assert_true(atomic_load(&f->doomed));
    assert_int_equal(places(w), 0);
    flight_leave(&b.base);
    fresh = join(w, 1, key, &b, &created);
    assert_true(created);
    flight_leave(&a.base);
    flight_leave(&b.base);
    flight_end(f);
    flight_end(fresh);
}

/* Between the head and the variant's key: the second entry must not stay for others to find. */
static void a_purge_by_tag_before_the_variant_is_added_dooms(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter();
    struct flight *f = fly_with_tag(w, &a, "t");
    struct tag_target target = tag_target_anywhere(w->store, bytes_of("t"));

    assert_true(flight_show_tags(f));
    (void)store_purge_tag(w->thread, &target, false);
    assert_true(flight_add_variant(f, store_hash(w->store, other), other, URL_N));
    assert_true(atomic_load(&f->doomed));
    assert_int_equal(places(w), 1);
    flight_leave(&a.base);
    flight_end(f);
}

/* The home hears of the last waiter's leaving, and of progress while it pauses: each time once until it has looked. */
static void the_home_is_told_once(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter(), b = waiter();
    bool created;
    struct flight *f = join(w, 0, key, &a, &created);

    join(w, 0, key, &b, &created);
    flight_leave(&a.base);
    assert_int_equal(w->nhome, 0);
    flight_consumed(f, 100);
    assert_int_equal(w->nhome, 0);
    atomic_store(&f->paused, true);
    flight_consumed(f, 200);
    flight_consumed(f, 150);
    assert_int_equal(w->nhome, 1);
    assert_int_equal(atomic_load(&f->consumed), 200);
    deliver(w);
    flight_leave(&b.base);
    assert_int_equal(w->nhome, 1);
    flight_end(f);
}

static void what_is_alone_is_joined_by_nobody(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter(), b = waiter();
    bool created;
    struct flight *f = flight_create_alone(w->flights, 0, key, URL_N, &a.base), *g = join(w, 0, key, &b, &created);

    assert_true(created && g != f && a.base.leader);
    flight_leave(&a.base);
    flight_leave(&b.base);
    flight_end(f);
    flight_end(g);
}

/* What it waits for may be the memory that the leaving reader held. */
static void who_leaves_a_paused_flight_tells_the_home(void **state)
{
    struct world *w = *state;
    struct waiter a = waiter(), b = waiter();
    bool created;
    struct flight *f = join(w, 0, key, &a, &created);

    assert_ptr_equal(join(w, 1, key, &b, &created), f);
    deliver(w);
    atomic_store(&f->paused, true);
    flight_leave(&b.base);
    assert_int_equal(w->nhome, 1);
    deliver(w);
    atomic_store(&f->paused, false);
    assert_ptr_equal(join(w, 1, key, &b, &created), f);
    flight_leave(&b.base);
    assert_int_equal(w->nhome, 0);
    flight_leave(&a.base);
    assert_int_equal(w->nhome, 1);
    deliver(w);
    flight_end(f);
}

int main(void)
{
#define FLIGHT_TEST(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        FLIGHT_TEST(the_second_joins_what_the_first_made),
        FLIGHT_TEST(the_leader_is_known_until_it_leaves),
        FLIGHT_TEST(a_refresh_is_made_once),
        FLIGHT_TEST(a_thread_is_told_once),
        FLIGHT_TEST(waiters_may_leave_while_being_woken),
        FLIGHT_TEST(a_late_joiner_learns_the_state),
        FLIGHT_TEST(a_purge_dooms_its_urls_flights),
        FLIGHT_TEST(a_flight_is_found_by_either_url),
        FLIGHT_TEST(a_flight_is_found_under_its_variant_too),
        FLIGHT_TEST(a_purge_before_the_variant_is_added_dooms),
        FLIGHT_TEST(a_purge_by_tag_dooms_what_carries_it),
        FLIGHT_TEST(a_purge_before_the_head_is_seen_then),
        FLIGHT_TEST(a_purge_by_tag_before_the_variant_is_added_dooms),
        FLIGHT_TEST(the_home_is_told_once),
        FLIGHT_TEST(what_is_alone_is_joined_by_nobody),
        FLIGHT_TEST(who_leaves_a_paused_flight_tells_the_home),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
