#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/storing.h"

#define FIELD(name, value) ((struct field){BYTES_LIT(name), NULL, BYTES_LIT(value)})
#define CC(value) FIELD("cache-control", value)
#define ETAG FIELD("etag", "\"a\"")
#define DATE FIELD("date", "Thu, 01 Jan 2026 00:00:00 GMT")
#define MODIFIED FIELD("last-modified", "Wed, 31 Dec 2025 00:00:00 GMT")
#define FIELDS(...)                                                                                                    \
    ((struct fields){(const struct field[]){__VA_ARGS__},                                                              \
                     sizeof((const struct field[]){__VA_ARGS__}) / sizeof(struct field)})
#define T0_WALL ((struct wall_s){INT64_C(1767225600)})
#define SECOND INT64_C(1000)

struct request {
    const char *method;
    const struct tier *tier;
    bool ignore_origin, user_scope, authorization, cookie, answers_get, asked_range;
    enum set_cookie set_cookie;
};

/* The verdict with the lifetimes that freshness_of() finds: the two policies are used together. */
static enum storing decide_with(struct request r, int status, struct fields fields)
{
    struct cache_control cc = cache_control_parse(fields);
    struct lifetimes l = freshness_of(&(struct freshness_facts){
        .status = status,
        .fields = fields,
        .cc = &cc,
        .tier = r.tier,
        .ignore_origin = r.ignore_origin,
        .user_scope = r.user_scope,
        .request_time = T0_WALL,
        .response_time = T0_WALL,
    });

    return storing_decide(&(struct storing_facts){
        .method = bytes_of(r.method == NULL ? "GET" : r.method),
        .status = status,
        .fields = fields,
        .cc = &cc,
        .lifetimes = &l,
        .ignore_origin = r.ignore_origin,
        .user_scope = r.user_scope,
        .has_authorization = r.authorization,
        .has_personal_cookie = r.cookie,
        .answers_get = r.answers_get,
        .asked_range = r.asked_range,
        .content_length = -1,
        .set_cookie = r.set_cookie,
    });
}

static enum storing decide(int status, struct fields fields)
{
    return decide_with((struct request){0}, status, fields);
}

static const struct request user = {.user_scope = true};
static const struct request authorized = {.authorization = true};
static const struct request with_cookie = {.cookie = true};

/* RFC 9111 section 3. */
static void an_explicit_lifetime_is_enough(void **state)
{
    static const int statuses[] = {200, 203, 204, 299, 301, 302, 303, 307, 308,
                                   400, 404, 410, 499, 500, 502, 503, 504, 599};

    (void)state;
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++)
        assert_int_equal(decide(statuses[i], FIELDS(CC("max-age=60"))), STORING_OK);
}

/* RFC 9111 section 3 lets more methods be stored. */
static void only_get_is_stored(void **state)
{
    (void)state;
    assert_int_equal(decide_with((struct request){.method = "HEAD"}, 200, FIELDS(CC("max-age=60"))), STORING_METHOD);
    assert_int_equal(decide_with((struct request){.method = "POST"}, 200, FIELDS(CC("max-age=60"))), STORING_METHOD);
    assert_int_equal(decide_with((struct request){.method = "get"}, 200, FIELDS(CC("max-age=60"))), STORING_METHOD);
}

/* RFC 9111 section 3.3. */
static void parts_are_not_stored(void **state)
{
    (void)state;
    assert_int_equal(decide(206, FIELDS(CC("max-age=60"))), STORING_PARTIAL);
    assert_int_equal(decide(206, FIELDS(CC("max-age=60"), FIELD("content-range", "bytes 0-1/9"))), STORING_PARTIAL);
    assert_int_equal(decide(416, FIELDS(CC("max-age=60"))), STORING_PARTIAL);
    /* of other statuses it says nothing (RFC 9110 section 14.4) */
    assert_int_equal(decide(200, FIELDS(CC("max-age=60"), FIELD("content-range", "bytes 0-1/9"))), STORING_OK);
}

/* RFC 9110 section 9.3.3. */
static void a_post_stands_for_get_where_the_origin_says_so(void **state)
{
    struct request post = {.method = "POST", .answers_get = true};

    (void)state;
    assert_int_equal(decide_with(post, 200, FIELDS(CC("max-age=60"))), STORING_OK);
    assert_int_equal(decide_with(post, 299, FIELDS(CC("max-age=60"))), STORING_OK);
    assert_int_equal(decide_with(post, 300, FIELDS(CC("max-age=60"))), STORING_METHOD);
    assert_int_equal(decide_with(post, 200, FIELDS(CC("max-age=0"), ETAG)), STORING_METHOD);
    assert_int_equal(decide_with(post, 200, FIELDS(DATE, MODIFIED)), STORING_METHOD);
    assert_int_equal(decide_with(post, 200, FIELDS(CC("max-age=60, private"))), STORING_PRIVATE);
    post.method = "PUT";
    assert_int_equal(decide_with(post, 200, FIELDS(CC("max-age=60"))), STORING_METHOD);
    post = (struct request){.method = "POST"};
    assert_int_equal(decide_with(post, 200, FIELDS(CC("max-age=60"))), STORING_METHOD);
}

/* RFC 9111 section 3.3. */
static void a_part_that_was_asked_for_is_stored(void **state)
{
    const struct request one = {.asked_range = true};

    (void)state;
    assert_int_equal(decide_with(one, 206, FIELDS(CC("max-age=60"), FIELD("content-range", "bytes 0-1/9"))),
                     STORING_OK);
    assert_int_equal(decide_with(one, 206, FIELDS(CC("max-age=60"), FIELD("content-range", "bytes */9"))),
                     STORING_PARTIAL);
    assert_int_equal(decide_with(one, 206, FIELDS(CC("no-store"), FIELD("content-range", "bytes 0-1/9"))),
                     STORING_NO_STORE);
    assert_int_equal(decide_with(one, 416, FIELDS(CC("max-age=60"))), STORING_PARTIAL);
}

/* RFC 9111 section 3 for 304 and what is not final, RFC 6585 sections 3 to 6 for those that MUST NOT be stored; a tier
 * cannot change it. */
static void some_statuses_are_never_stored(void **state)
{
    const struct tier_status all = {100, 599, 60 * SECOND};
    const struct tier tier = {"t", 60 * SECOND, -1, -1, 0, &all, 1};
    static const int statuses[] = {0, 100, 103, 199, 304, 407, 412, 428, 429, 431, 511, 600};

    (void)state;
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        assert_int_equal(decide(statuses[i], FIELDS(CC("public, max-age=60"))), STORING_STATUS);
        assert_int_equal(decide_with((struct request){.tier = &tier}, statuses[i], FIELDS(DATE)), STORING_STATUS);
    }
    assert_int_equal(decide_with((struct request){.tier = &tier}, 430, FIELDS(DATE)), STORING_OK);
}

/* Whoever shares what is merely of no use to store must not share what is somebody's own. */
static void whom_it_is_for_is_judged_before_the_status(void **state)
{
    static const int statuses[] = {403, 500, 511};

    (void)state;
    for (size_t i = 0; i < sizeof(statuses) / sizeof(statuses[0]); i++) {
        assert_int_equal(decide(statuses[i], FIELDS(DATE)), STORING_STATUS);
        assert_int_equal(decide(statuses[i], FIELDS(CC("no-store"))), STORING_NO_STORE);
        assert_int_equal(decide(statuses[i], FIELDS(CC("private"))), STORING_PRIVATE);
        assert_int_equal(decide(statuses[i], FIELDS(FIELD("set-cookie", "a=b"))), STORING_SET_COOKIE);
        assert_int_equal(decide(statuses[i], FIELDS(FIELD("vary", "*"))), STORING_VARY_STAR);
        assert_int_equal(decide_with(authorized, statuses[i], FIELDS(DATE)), STORING_AUTHORIZATION);
        assert_int_equal(decide_with(with_cookie, statuses[i], FIELDS(DATE)), STORING_COOKIE);
    }
}

/* RFC 9111 sections 3 and 4.2.2. */
static void without_a_lifetime_the_status_counts(void **state)
{
    const struct tier_status status = {500, 599, 1 * SECOND};
    const struct tier tier = {"t", -1, -1, -1, 0, &status, 1};

    (void)state;
    assert_int_equal(decide(200, FIELDS(DATE, MODIFIED)), STORING_OK);
    assert_int_equal(decide(404, FIELDS(DATE, MODIFIED)), STORING_OK);
    assert_int_equal(decide(201, FIELDS(DATE, MODIFIED)), STORING_STATUS);
    assert_int_equal(decide(403, FIELDS(DATE, MODIFIED)), STORING_STATUS);
    assert_int_equal(decide(503, FIELDS(DATE, MODIFIED)), STORING_STATUS);
    assert_int_equal(decide(599, FIELDS(DATE, MODIFIED)), STORING_STATUS);
    assert_int_equal(decide(599, FIELDS(DATE, MODIFIED, CC("public"))), STORING_OK);
    assert_int_equal(decide_with((struct request){.tier = &tier}, 503, FIELDS(DATE)), STORING_OK);
    assert_int_equal(decide_with((struct request){.tier = &tier}, 403, FIELDS(DATE)), STORING_STATUS);
    assert_int_equal(decide_with((struct request){.tier = &tier, .ignore_origin = true}, 503, FIELDS(CC("no-store"))),
                     STORING_OK);
    assert_int_equal(decide_with((struct request){.ignore_origin = true}, 503, FIELDS(CC("public, max-age=5"))),
                     STORING_STATUS);
}

/* RFC 9111 sections 5.2.2.3 and 5.2.2.5. */
static void no_store_unless_it_must_be_understood_and_is(void **state)
{
    (void)state;
    assert_int_equal(decide(200, FIELDS(CC("no-store"))), STORING_NO_STORE);
    assert_int_equal(decide(200, FIELDS(CC("max-age=60, No-Store"))), STORING_NO_STORE);
    assert_int_equal(decide_with(user, 200, FIELDS(CC("max-age=60, no-store"))), STORING_NO_STORE);
    assert_int_equal(decide(200, FIELDS(CC("max-age=60, no-store, must-understand"))), STORING_OK);
    assert_int_equal(decide(302, FIELDS(CC("max-age=60, no-store, must-understand"))), STORING_OK);
    assert_int_equal(decide(599, FIELDS(CC("max-age=60, no-store, must-understand"))), STORING_NO_STORE);
    assert_int_equal(decide(599, FIELDS(CC("max-age=60, must-understand"))), STORING_STATUS);
    assert_int_equal(decide(599, FIELDS(CC("max-age=60"))), STORING_OK);
    assert_int_equal(decide(502, FIELDS(CC("max-age=60, must-understand"))), STORING_OK);
}

/* RFC 9111 section 5.2.2.7. */
static void private_is_for_one_user(void **state)
{
    (void)state;
    assert_int_equal(decide(200, FIELDS(CC("private, max-age=60"))), STORING_PRIVATE);
    assert_int_equal(decide(200, FIELDS(CC("private=\"x-user\", max-age=60"))), STORING_OK); /* the rest of it */
    assert_int_equal(decide(200, FIELDS(CC("private=\"x-user\", private, max-age=60"))), STORING_PRIVATE);
    assert_int_equal(decide_with(user, 200, FIELDS(CC("private, max-age=60"))), STORING_OK);
    assert_int_equal(decide_with(user, 302, FIELDS(CC("private"), ETAG)), STORING_NO_LIFETIME);
    assert_int_equal(decide_with(user, 302, FIELDS(DATE, ETAG)), STORING_STATUS);
    assert_int_equal(decide(200, FIELDS(CC("no-cache=\"x\", max-age=60"))), STORING_OK);
}

static void ignoring_the_origin_only_set_cookie_forbids(void **state)
{
    const struct tier tier = {"t", 60 * SECOND, -1, -1, 0, NULL, 0};
    struct request r = {.tier = &tier, .ignore_origin = true};

    (void)state;
    assert_int_equal(decide_with(r, 200, FIELDS(CC("private, no-store, no-cache, max-age=0"))), STORING_OK);
    assert_int_equal(decide_with(r, 200, FIELDS(DATE, FIELD("set-cookie", "a=b"))), STORING_SET_COOKIE);
    r.authorization = true;
    assert_int_equal(decide_with(r, 200, FIELDS(DATE)), STORING_AUTHORIZATION);
    r = (struct request){.tier = &tier, .ignore_origin = true, .cookie = true};
    assert_int_equal(decide_with(r, 200, FIELDS(CC("max-age=60"))), STORING_COOKIE);
}

/* RFC 9111 section 7.3. */
static void set_cookie_is_stored_where_route_and_origin_say_so(void **state)
{
    const struct tier tier = {"t", 60 * SECOND, -1, -1, 0, NULL, 0};
    struct request store = {.set_cookie = SET_COOKIE_STORE}, strip = {.set_cookie = SET_COOKIE_STRIP};

    (void)state;
    assert_int_equal(decide_with(store, 200, FIELDS(CC("max-age=60"), FIELD("set-cookie", "a=b"))), STORING_OK);
    assert_int_equal(decide_with(store, 200, FIELDS(CC("max-age=0"), ETAG, FIELD("set-cookie", "a=b"))),
                     STORING_SET_COOKIE);
    assert_int_equal(decide_with(store, 200, FIELDS(DATE, MODIFIED, FIELD("set-cookie", "a=b"))), STORING_SET_COOKIE);
    assert_int_equal(decide_with(store, 200, FIELDS(CC("private, max-age=60"), FIELD("set-cookie", "a=b"))),
                     STORING_PRIVATE);
    assert_int_equal(decide_with(strip, 200, FIELDS(DATE, MODIFIED, FIELD("set-cookie", "a=b"))), STORING_OK);
    store.tier = strip.tier = &tier;
    store.ignore_origin = strip.ignore_origin = true;
    assert_int_equal(decide_with(store, 200, FIELDS(CC("max-age=60"), FIELD("set-cookie", "a=b"))), STORING_SET_COOKIE);
    assert_int_equal(decide_with(strip, 200, FIELDS(CC("no-store"), FIELD("set-cookie", "a=b"))), STORING_OK);
}

/* RFC 9111 section 7.3 would leave it to the cache. */
static void set_cookie_is_never_stored(void **state)
{
    (void)state;
    assert_int_equal(decide(200, FIELDS(CC("public, max-age=60"), FIELD("set-cookie", "a=b"))), STORING_SET_COOKIE);
    assert_int_equal(decide(200, FIELDS(CC("max-age=60, no-cache=\"set-cookie\""), FIELD("set-cookie", "a=b"))),
                     STORING_SET_COOKIE);
    assert_int_equal(decide_with(user, 200, FIELDS(CC("max-age=60"), FIELD("set-cookie", "a=b"))), STORING_SET_COOKIE);
}

/* RFC 9111 section 3.5. */
static void authorization_needs_the_origins_word(void **state)
{
    (void)state;
    assert_int_equal(decide_with(authorized, 200, FIELDS(CC("max-age=60"))), STORING_AUTHORIZATION);
    assert_int_equal(decide_with(authorized, 200, FIELDS(DATE, MODIFIED)), STORING_AUTHORIZATION);
    assert_int_equal(decide_with(authorized, 200, FIELDS(CC("max-age=60, proxy-revalidate"))), STORING_AUTHORIZATION);
    assert_int_equal(decide_with(authorized, 200, FIELDS(CC("max-age=60, public"))), STORING_OK);
    assert_int_equal(decide_with(authorized, 200, FIELDS(CC("s-maxage=60"))), STORING_OK);
    assert_int_equal(decide_with(authorized, 200, FIELDS(CC("max-age=60, must-revalidate"))), STORING_OK);
    assert_int_equal(decide_with((struct request){.user_scope = true, .authorization = true, .cookie = true}, 200,
                                 FIELDS(CC("max-age=60"))),
                     STORING_OK);
}

static void a_personal_cookie_needs_an_explicit_lifetime(void **state)
{
    const struct tier tier = {"t", 60 * SECOND, -1, -1, 0, NULL, 0};

    (void)state;
    assert_int_equal(decide_with(with_cookie, 200, FIELDS(CC("max-age=60"))), STORING_OK);
    assert_int_equal(decide_with(with_cookie, 200, FIELDS(CC("max-age=0"), ETAG)), STORING_COOKIE);
    assert_int_equal(decide_with(with_cookie, 200, FIELDS(DATE, MODIFIED)), STORING_COOKIE);
    assert_int_equal(decide_with((struct request){.cookie = true, .tier = &tier}, 200, FIELDS(DATE)), STORING_COOKIE);
}

/* RFC 9111 section 4.1. */
static void vary_on_everything_or_on_the_credential(void **state)
{
    const struct fields on_cookie = FIELDS(CC("public, max-age=60"), FIELD("vary", "Accept, Cookie"));
    const struct fields on_authorization = FIELDS(CC("public, max-age=60"), FIELD("vary", "Authorization"));
    struct request user_cookie = {.user_scope = true, .cookie = true};

    (void)state;
    assert_int_equal(decide(200, FIELDS(CC("max-age=60"), FIELD("vary", "accept"))), STORING_OK);
    assert_int_equal(decide(200, FIELDS(CC("max-age=60"), FIELD("vary", "*"))), STORING_VARY_STAR);
    assert_int_equal(decide(200, FIELDS(CC("max-age=60"), FIELD("vary", "accept"), FIELD("vary", "a, *"))),
                     STORING_VARY_STAR);
    assert_int_equal(decide_with(user, 200, FIELDS(CC("max-age=60"), FIELD("vary", "*"))), STORING_VARY_STAR);
    assert_int_equal(decide(200, on_cookie), STORING_OK);
    assert_int_equal(decide_with(with_cookie, 200, on_cookie), STORING_VARY_STAR);
    assert_int_equal(decide_with(user_cookie, 200, on_cookie), STORING_OK);
    assert_int_equal(decide_with(with_cookie, 200, on_authorization), STORING_OK);
    assert_int_equal(decide_with(authorized, 200, on_authorization), STORING_VARY_STAR);
    assert_int_equal(decide_with(authorized, 200, FIELDS(CC("public, max-age=60"), FIELD("vary", "x-authorization"))),
                     STORING_OK);
}

/* RFC 9111 section 3, its last note; a validator is of use for 2xx alone (RFC 9110 section 13.2.1). */
static void of_no_use_without_time_or_validator(void **state)
{
    const struct tier window = {"t", -1, -1, 5 * SECOND, 0, NULL, 0};

    (void)state;
    assert_int_equal(decide(200, FIELDS(DATE)), STORING_NO_LIFETIME);
    assert_int_equal(decide(200, FIELDS(CC("max-age=0"))), STORING_NO_LIFETIME);
    assert_int_equal(decide(200, FIELDS(CC("max-age=1"))), STORING_OK);
    assert_int_equal(decide(200, FIELDS(CC("max-age=0"), ETAG)), STORING_OK);
    assert_int_equal(decide(200, FIELDS(CC("max-age=0"), MODIFIED)), STORING_OK);
    assert_int_equal(decide(200, FIELDS(CC("max-age=60, no-cache"))), STORING_NO_LIFETIME);
    assert_int_equal(decide(200, FIELDS(CC("max-age=60, no-cache"), ETAG)), STORING_OK);
    assert_int_equal(decide(299, FIELDS(CC("max-age=0"), ETAG)), STORING_OK);
    assert_int_equal(decide(300, FIELDS(CC("max-age=0"), ETAG)), STORING_NO_LIFETIME);
    assert_int_equal(decide(404, FIELDS(CC("max-age=0"), ETAG)), STORING_NO_LIFETIME);
    assert_int_equal(decide(200, FIELDS(CC("max-age=0, stale-if-error=5"))), STORING_OK);
    assert_int_equal(decide(200, FIELDS(CC("max-age=0, stale-while-revalidate=5"))), STORING_OK);
    assert_int_equal(decide_with((struct request){.tier = &window}, 200, FIELDS(DATE)), STORING_OK);
}

/* What other caches have kept for its whole lifetime arrives stale. RFC 9111 section 4.2.3. */
static void stale_on_arrival_is_of_no_use(void **state)
{
    (void)state;
    assert_int_equal(decide(200, FIELDS(CC("max-age=60"), FIELD("age", "59"))), STORING_OK);
    assert_int_equal(decide(200, FIELDS(CC("max-age=60"), FIELD("age", "60"))), STORING_NO_LIFETIME);
    assert_int_equal(decide(200, FIELDS(CC("max-age=60"), FIELD("age", "60"), ETAG)), STORING_OK);
}

/* RFC 9111 section 5.4: it never had a meaning in a response. */
static void pragma_in_a_response_means_nothing(void **state)
{
    (void)state;
    assert_int_equal(decide(200, FIELDS(DATE, MODIFIED, FIELD("pragma", "no-cache"))), STORING_OK);
}

/* RFC 9111 section 3.5; cookies are our own caution. */
static void use_for_personal_requests(void **state)
{
    struct cache_control plain = cache_control_parse(FIELDS(CC("max-age=5")));
    struct cache_control zero = cache_control_parse(FIELDS(CC("s-maxage=0")));

    (void)state;
    assert_false(storing_usable_with_authorization(&plain));
    assert_true(storing_usable_with_authorization(&zero));
    assert_true(storing_usable_with_cookie(&(struct lifetimes){.explicit_ = true, .fresh_ms = 1}));
    assert_false(storing_usable_with_cookie(&(struct lifetimes){.explicit_ = true, .fresh_ms = 0}));
    assert_false(storing_usable_with_cookie(&(struct lifetimes){.explicit_ = false, .fresh_ms = 1}));
}

/* RFC 9110 section 15.1 has twelve of them. */
static void the_heuristically_cacheable_statuses(void **state)
{
    int n = 0;

    (void)state;
    for (int status = -1; status < 1000; status++)
        n += storing_heuristic_status(status);
    assert_int_equal(n, 12);
    assert_true(storing_heuristic_status(206) && storing_heuristic_status(308) && storing_heuristic_status(414));
}

static void every_verdict_has_a_word_of_its_own(void **state)
{
    (void)state;
    for (int a = STORING_OK; a <= STORING_OFF; a++) {
        assert_true(strlen(storing_word((enum storing)a)) > 0);
        for (int b = STORING_OK; b < a; b++)
            assert_string_not_equal(storing_word((enum storing)a), storing_word((enum storing)b));
    }
}

/* RFC 9111 section 4, collapsed requests. */
static void errors_about_the_request_itself_are_not_for_others(void **state)
{
    static const int own[] = {407, 412, 416, 417, 428, 431, 511};
    size_t at = 0;

    (void)state;
    for (int status = 100; status < 600; status++) {
        bool is_own = at < sizeof own / sizeof own[0] && own[at] == status;

        at += is_own;
        assert_int_equal(storing_may_be_shared(status), status >= 400 && !is_own);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_explicit_lifetime_is_enough),
        cmocka_unit_test(only_get_is_stored),
        cmocka_unit_test(parts_are_not_stored),
        cmocka_unit_test(a_part_that_was_asked_for_is_stored),
        cmocka_unit_test(errors_about_the_request_itself_are_not_for_others),
        cmocka_unit_test(some_statuses_are_never_stored),
        cmocka_unit_test(whom_it_is_for_is_judged_before_the_status),
        cmocka_unit_test(without_a_lifetime_the_status_counts),
        cmocka_unit_test(no_store_unless_it_must_be_understood_and_is),
        cmocka_unit_test(private_is_for_one_user),
        cmocka_unit_test(ignoring_the_origin_only_set_cookie_forbids),
        cmocka_unit_test(set_cookie_is_never_stored),
        cmocka_unit_test(set_cookie_is_stored_where_route_and_origin_say_so),
        cmocka_unit_test(a_post_stands_for_get_where_the_origin_says_so),
        cmocka_unit_test(authorization_needs_the_origins_word),
        cmocka_unit_test(a_personal_cookie_needs_an_explicit_lifetime),
        cmocka_unit_test(vary_on_everything_or_on_the_credential),
        cmocka_unit_test(of_no_use_without_time_or_validator),
        cmocka_unit_test(stale_on_arrival_is_of_no_use),
        cmocka_unit_test(pragma_in_a_response_means_nothing),
        cmocka_unit_test(use_for_personal_requests),
        cmocka_unit_test(the_heuristically_cacheable_statuses),
        cmocka_unit_test(every_verdict_has_a_word_of_its_own),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
