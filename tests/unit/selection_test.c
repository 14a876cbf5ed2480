/* Choosing among variants, in a store without a network around it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/vary.h"
#include "proxy/respond.h"
#include "proxy/selection.h"
#include "proxy/variant.h"
#include "tests/unit/stored_make.h"

enum { NAMES_MAX = 8 };

static const unsigned char secret[32] = "a secret of thirty-two bytes....";
static const struct conf_route shared_route = {.scope = CONF_SHARED};

struct fixture {
    struct store *store;
    struct store_thread *t;
    struct hasher *hasher;
    struct made_key primary;
    struct bytes spec;
    char list[VARIANTS_BYTES_MAX];
    size_t list_n;
};

static struct fixture *fixture_create(const char *spec)
{
    struct fixture *f = calloc(1, sizeof *f);

    f->store = store_create(&(struct store_options){.bytes_max = 8 << 20, .threads = 1, .seed = 42});
    f->t = store_thread_create(f->store);
    f->hasher = hasher_create(secret);
    make_key(&f->primary, "/a", NULL);
    f->spec = bytes_of(spec);
    return f;
}

static void fixture_destroy(struct fixture *f)
{
    hasher_destroy(f->hasher);
    store_thread_destroy(f->t);
    store_destroy(f->store);
    free(f);
}

/* name, value, ..., NULL */
struct some {
    struct field v[NAMES_MAX];
    size_t n;
};

static struct some some_of(va_list *names)
{
    struct some s = {.n = 0};
    const char *name;

    while ((name = va_arg(*names, const char *)) != NULL)
        s.v[s.n++] = (struct field){bytes_of(name), NULL, bytes_of(va_arg(*names, const char *))};
    return s;
}

static struct some some(const char *first, ...)
{
    struct some rest, all = {.n = 0};
    va_list names;

    if (first == NULL)
        return all;
    va_start(names, first);
    all.v[all.n++] = (struct field){bytes_of(first), NULL, bytes_of(va_arg(names, const char *))};
    rest = some_of(&names);
    va_end(names);
    memcpy(all.v + 1, rest.v, rest.n * sizeof rest.v[0]);
    all.n += rest.n;
    return all;
}

static struct bytes key_of(struct fixture *f, const struct some *request, char buf[4096])
{
    assert_true(variant_key_bytes_max(f->primary.key.whole, f->spec, (struct fields){request->v, request->n}) <= 4096);
    return variant_key(&shared_route, f->hasher, f->primary.key.whole, f->spec, (struct fields){request->v, request->n},
                       buf);
}

struct made {
    int status;
    bool with_authorization;
    int64_t date_s;
};

/* A response stored for that request, and listed. */
static void store_one(struct fixture *f, struct some request, struct some response, struct made made)
{
    char buf[4096], list[VARIANTS_BYTES_MAX];
    struct stored_options o = options_for(f->store, &f->primary);

    o.key = key_of(f, &request, buf);
    o.hash = store_hash(f->store, o.key);
    o.status = made.status != 0 ? made.status : 200;
    o.fields = (struct fields){response.v, response.n};
    o.with_authorization = made.with_authorization;
    o.date = (struct wall_s){made.date_s};
    struct stored *s = make_complete(f->t, o, 10, T0);

    assert_true(store_put(f->t, s, T0));
    f->list_n = variants_add((struct bytes){f->list, f->list_n}, variant_of(o.key, f->primary.key.whole, f->spec),
                             VARIANTS_MAX, list);
    memcpy(f->list, list, f->list_n);
    stored_release(s);
}

static struct stored *marker_of(struct fixture *f)
{
    struct stored_options o = options_for(f->store, &f->primary);

    o.kind = STORED_VARY;
    o.spec = f->spec;
    o.list = (struct bytes){f->list, f->list_n};
    struct stored *marker = stored_create(f->t, &o, T0);

    stored_finish_body(marker, BODY_COMPLETE);
    return marker;
}

static struct selection selection_of(struct fixture *f, const struct some *request, char buf[4096])
{
    return (struct selection){
        .store = f->store,
        .thread = f->t,
        .now = T0,
        .primary = f->primary.key.whole,
        .variant = key_of(f, request, buf),
        .request = {request->v, request->n},
    };
}

/* The value of a field of what is chosen, or "-". */
static const char *chosen(struct fixture *f, struct some request, bool authorization)
{
    static char text[64];
    char buf[4096];
    struct stored *marker = marker_of(f);
    struct selection q = selection_of(f, &request, buf);

    q.authorization = authorization;
    struct stored *s = selection_match(&q, marker);
    struct bytes name = s != NULL ? stored_value(s, BYTES_LIT("x")) : BYTES_LIT("-");

    snprintf(text, sizeof text, "%.*s", (int)name.n, name.p);
    stored_release(s);
    stored_release(marker);
    return text;
}

#define AE "accept-encoding"
#define AL "accept-language"
#define CE "content-encoding"
#define CL "content-language"

/* RFC 9111 section 4.1, RFC 9110 section 12.5.4. */
static void the_one_language_wanted_most_is_taken(void **state)
{
    struct fixture *f = fixture_create(AL);

    (void)state;
    store_one(f, some(AL, "en, de", NULL), some("x", "1", CL, "de", NULL), (struct made){0});
    assert_string_equal(chosen(f, some(AL, "fr;q=0.5, de;q=1.0", NULL), false), "1");
    assert_string_equal(chosen(f, some(AL, "de", NULL), false), "1");
    assert_string_equal(chosen(f, some(AL, "de, fr", NULL), false), "-");
    assert_string_equal(chosen(f, some(AL, "fr, de;q=0.9", NULL), false), "-");
    assert_string_equal(chosen(f, some(AL, "de de", NULL), false), "-");
    assert_string_equal(chosen(f, some(NULL), false), "-");
    fixture_destroy(f);
}

/* RFC 9111 section 4.1, RFC 9110 section 12.5.3. */
static void one_of_the_codings_wanted_most_is_taken(void **state)
{
    struct fixture *f = fixture_create(AE);

    (void)state;
    store_one(f, some(AE, "gzip", NULL), some("x", "1", CE, "gzip", NULL), (struct made){0});
    assert_string_equal(chosen(f, some(AE, "gzip, br", NULL), false), "1");
    assert_string_equal(chosen(f, some(AE, "gzip;q=0.9, br", NULL), false), "-");
    assert_string_equal(chosen(f, some(AE, "br", NULL), false), "-");
    assert_string_equal(chosen(f, some(NULL), false), "-");
    store_one(f, some(AE, "br;q=0.1", NULL), some("x", "2", NULL), (struct made){0});
    assert_string_equal(chosen(f, some(NULL), false), "2");
    assert_string_equal(chosen(f, some(AE, "", NULL), false), "2");
    assert_string_equal(chosen(f, some(AE, "identity", NULL), false), "2");
    assert_string_equal(chosen(f, some(AE, "br", NULL), false), "-");
    fixture_destroy(f);
}

/* RFC 9111 section 4.1. */
static void what_differs_in_anything_else_is_not_taken(void **state)
{
    struct fixture *f = fixture_create("accept-language,origin");

    (void)state;
    store_one(f, some(AL, "en, de", "origin", "a", NULL), some("x", "1", CL, "de", NULL), (struct made){0});
    assert_string_equal(chosen(f, some(AL, "de", "origin", "a", NULL), false), "1");
    assert_string_equal(chosen(f, some(AL, "de", "origin", "b", NULL), false), "-");
    assert_string_equal(chosen(f, some(AL, "de", NULL), false), "-");
    fixture_destroy(f);
}

/* RFC 9111 section 4.1. */
static void both_have_to_be_wanted_where_both_differ(void **state)
{
    struct fixture *f = fixture_create("accept-encoding,accept-language");

    (void)state;
    store_one(f, some(AL, "en, de", AE, "gzip", NULL), some("x", "1", CL, "de", CE, "gzip", NULL), (struct made){0});
    assert_string_equal(chosen(f, some(AL, "de", AE, "br, gzip", NULL), false), "1");
    assert_string_equal(chosen(f, some(AL, "de", AE, "br", NULL), false), "-");
    assert_string_equal(chosen(f, some(AL, "fr", AE, "br, gzip", NULL), false), "-");
    /* which coding it has does not matter where the wishes are the same */
    assert_string_equal(chosen(f, some(AL, "de", AE, "gzip", NULL), false), "1");
    fixture_destroy(f);
}

/* RFC 9111 section 4.1: the most recent by its Date, not by its place in the list. */
static void the_newest_of_several_is_taken(void **state)
{
    struct fixture *f = fixture_create(AE);

    (void)state;
    store_one(f, some(AE, "gzip", NULL), some("x", "1", CE, "gzip", NULL), (struct made){.date_s = 100});
    store_one(f, some(AE, "gzip;q=0.5", NULL), some("x", "2", CE, "gzip", NULL), (struct made){.date_s = 101});
    store_one(f, some(AE, "gzip;q=0.4", NULL), some("x", "3", CE, "gzip", NULL), (struct made){.date_s = 99});
    assert_string_equal(chosen(f, some(AE, "gzip, br", NULL), false), "2");
    store_one(f, some(AE, "gzip;q=0.3", NULL), some("x", "4", CE, "gzip", NULL), (struct made){.date_s = 101});
    assert_string_equal(chosen(f, some(AE, "gzip, br", NULL), false), "4"); /* stored later */
    fixture_destroy(f);
}

/* RFC 9111 section 3.5 for a request with Authorization. */
static void what_may_not_be_used_is_not_taken(void **state)
{
    struct fixture *f = fixture_create(AL);

    (void)state;
    store_one(f, some(AL, "en, de", NULL), some("x", "1", CL, "de", NULL), (struct made){.status = 404});
    assert_string_equal(chosen(f, some(AL, "de", NULL), false), "-");
    store_one(f, some(AL, "en, de", NULL), some("x", "2", CL, "de", NULL), (struct made){0});
    assert_string_equal(chosen(f, some(AL, "de", NULL), false), "2");
    assert_string_equal(chosen(f, some(AL, "de", NULL), true), "-");
    store_one(f, some(AL, "en, de", NULL), some("x", "3", CL, "de", NULL), (struct made){.with_authorization = true});
    assert_string_equal(chosen(f, some(AL, "de", NULL), true), "3");
    store_one(f, some(AL, "en, de", NULL), some("x", "4", CL, "de", CL, "en", NULL), (struct made){0});
    assert_string_equal(chosen(f, some(AL, "de", NULL), false), "-");
    fixture_destroy(f);
}

static struct offers offers_of(struct fixture *f, struct some request, char text[512])
{
    char buf[4096];
    struct stored *marker = marker_of(f);
    struct selection q = selection_of(f, &request, buf);
    struct offers o;

    offers_collect(&q, marker, &o);
    size_t n = offers_write(&o, text);

    assert_int_equal(offers_write(&o, NULL), n);
    text[n] = '\0';
    stored_release(marker);
    return o;
}

static void offered(struct fixture *f, struct some request, const char *expected)
{
    char text[512];
    struct offers o = offers_of(f, request, text);

    assert_string_equal(text, expected);
    offers_fini(&o);
}

/* RFC 9111 section 4.3.1, RFC 9110 section 13.1.2. */
static void all_tags_are_offered_once(void **state)
{
    struct fixture *f = fixture_create("x-a");

    (void)state;
    store_one(f, some("x-a", "1", NULL), some("etag", "\"a\"", NULL), (struct made){0});
    store_one(f, some("x-a", "2", NULL), some("etag", "W/\"b\"", NULL), (struct made){0});
    store_one(f, some("x-a", "3", NULL), some("etag", "\"a\"", NULL), (struct made){0});
    store_one(f, some("x-a", "4", NULL), some("x", "1", NULL), (struct made){0});
    store_one(f, some("x-a", "5", NULL), some("etag", "unquoted", NULL), (struct made){0});
    store_one(f, some("x-a", "6", NULL), some("etag", "\"a\", \"b\"", NULL), (struct made){0});
    store_one(f, some("x-a", "7", NULL), some("etag", "\"c\"", NULL), (struct made){.status = 404});
    store_one(f, some("x-a", "8", NULL), some("etag", "\"\"", NULL), (struct made){0});
    offered(f, some("x-a", "9", NULL), "\"\", \"a\", W/\"b\"");
    offered(f, some(NULL), "\"\", \"a\", W/\"b\"");
    fixture_destroy(f);
}

static void tags_of_a_length_are_offered(void **state)
{
    struct fixture *f = fixture_create("x-a");
    char text[300];

    (void)state;
    memset(text, 't', sizeof text);
    text[0] = text[255] = '"';
    text[256] = '\0';
    store_one(f, some("x-a", "1", NULL), some("etag", text, NULL), (struct made){0});
    offered(f, some("x-a", "9", NULL), text);
    text[255] = 't';
    text[256] = '"';
    text[257] = '\0';
    store_one(f, some("x-a", "1", NULL), some("etag", text, NULL), (struct made){0});
    offered(f, some("x-a", "9", NULL), "");
    fixture_destroy(f);
}

/* Origins that give all forms of a resource one tag must not make us send a form that the client does not take. RFC
 * 9110 section 8.8.3.3. */
static void what_the_client_does_not_want_is_not_offered(void **state)
{
    struct fixture *f = fixture_create("accept,accept-encoding,accept-language");

    (void)state;
    store_one(f, some(AE, "gzip", AL, "de", "accept", "a/b", NULL), some("etag", "\"t\"", CE, "gzip", CL, "de", NULL),
              (struct made){0});
    offered(f, some(AE, "gzip;q=0.1, br", AL, "de", "accept", "a/b", NULL), "\"t\"");
    offered(f, some(AE, "br", AL, "de", "accept", "a/b", NULL), "");
    offered(f, some(AL, "de", "accept", "a/b", NULL), "");
    offered(f, some(AE, "gzip;x=y", AL, "de", "accept", "a/b", NULL), "");
    offered(f, some(AE, "gzip", AL, "en, de;q=0.1", "accept", "a/b", NULL), "\"t\"");
    offered(f, some(AE, "gzip", AL, "en", "accept", "a/b", NULL), "");
    offered(f, some(AE, "gzip", "accept", "a/b", NULL), "\"t\"");
    offered(f, some(AE, "gzip", AL, "de", "accept", "a/b, */*", NULL), "");
    offered(f, some(AE, "gzip", AL, "de", NULL), "");
    fixture_destroy(f);
}

static const char *named(struct offers *o, const char *tag)
{
    static char text[64];
    struct some fields = tag != NULL ? some("etag", tag, NULL) : some(NULL);
    struct stored *s = offers_named(o, (struct fields){fields.v, fields.n});
    struct bytes x = s != NULL ? stored_value(s, BYTES_LIT("x")) : BYTES_LIT("-");

    snprintf(text, sizeof text, "%.*s", (int)x.n, x.p);
    return text;
}

/* RFC 9111 section 4.3.4, but that the one which was offered needs no tag to be named. */
static void a_304_names_one_of_those_offered(void **state)
{
    struct fixture *f = fixture_create("x-a");
    char text[512];

    (void)state;
    store_one(f, some("x-a", "1", NULL), some("etag", "\"a\"", "x", "1", NULL), (struct made){.date_s = 9});
    struct offers o = offers_of(f, some("x-a", "9", NULL), text);

    assert_string_equal(named(&o, NULL), "1"); /* no other can be meant */
    assert_string_equal(named(&o, "\"b\""), "-");
    offers_fini(&o);
    store_one(f, some("x-a", "2", NULL), some("etag", "W/\"a\"", "x", "2", NULL), (struct made){.date_s = 2});
    store_one(f, some("x-a", "3", NULL), some("etag", "\"b\"", "x", "3", NULL), (struct made){.date_s = 3});
    o = offers_of(f, some("x-a", "9", NULL), text);
    assert_int_equal(o.n, 3);
    assert_string_equal(named(&o, NULL), "-");
    assert_string_equal(named(&o, "\"a\""), "1");   /* strongly the same */
    assert_string_equal(named(&o, "W/\"a\""), "1"); /* weakly: the newest by its Date */
    assert_string_equal(named(&o, "W/\"b\""), "3");
    assert_string_equal(named(&o, "\"c\""), "-");
    offers_withdraw(&o);
    offers_fini(&o);
    offered(f, some("x-a", "9", NULL), "");
    store_one(f, some("x-a", "4", NULL), some("etag", "\"d\"", "x", "4", NULL), (struct made){0});
    offered(f, some("x-a", "9", NULL), "\"d\"");
    fixture_destroy(f);
}

/* Nobody can tell for whom they were. */
static void what_was_made_for_a_credential_is_left_alone(void **state)
{
    struct fixture *f = fixture_create("accept-language,cookie");

    (void)state;
    store_one(f, some(AL, "en, de", "cookie", "a=1", NULL), some("x", "1", CL, "de", "etag", "\"t\"", NULL),
              (struct made){0});
    assert_string_equal(chosen(f, some(AL, "de", "cookie", "a=1", NULL), false), "-");
    offered(f, some(AL, "de", "cookie", "a=1", NULL), "");
    offered(f, some(AL, "de", "cookie", "a=2", NULL), "");
    fixture_destroy(f);
}

/* Between a lookup and its fetch the origin may have changed its mind. */
static void a_marker_of_other_names_offers_nothing(void **state)
{
    struct fixture *f = fixture_create(AL);
    struct some request = some(AL, "de", "x-a", "1", NULL);
    char buf[4096];
    struct selection q = selection_of(f, &request, buf);
    struct offers o;

    (void)state;
    f->spec = BYTES_LIT("accept-language,x-a");
    store_one(f, some(AL, "en, de", "x-a", "1", NULL), some("etag", "\"t\"", CL, "de", NULL), (struct made){0});
    struct stored *marker = marker_of(f);

    offers_collect(&q, marker, &o);
    assert_int_equal(o.n, 0);
    assert_null(selection_match(&q, marker));
    stored_release(marker);
    fixture_destroy(f);
}

static void longer_values_are_hashed(void **state)
{
    struct fixture *f = fixture_create("x-a");
    char text[VARIANT_MAX + 1], buf[4096], again[4096];
    struct bytes primary = f->primary.key.whole, values, key;
    const size_t longest = VARIANT_MAX - 1 - sizeof(uint32_t);

    (void)state;
    memset(text, 'v', sizeof text);
    for (size_t n = longest; n <= longest + 1; n++) {
        text[n] = '\0';
        struct some request = some("x-a", text, NULL);

        key = key_of(f, &request, buf);
        struct bytes variant = variant_of(key, primary, f->spec);

        assert_true(variant_key_is_of(key, primary, f->spec));
        assert_int_equal(variant_values(variant, &values), n == longest);
        assert_int_equal(variant.n, n == longest ? VARIANT_MAX : 1 + USER_HASH_BYTES);
        assert_true(bytes_eq(variant_key_again(primary, f->spec, variant, again), key));
        text[n] = 'v';
    }
    assert_true(bytes_eq(variant_names(key, primary.n), f->spec));
    assert_int_equal(variant_names(primary, primary.n).n, 0);
    assert_false(variant_key_is_of(key, primary, BYTES_LIT("x-b")));
    assert_false(variant_key_is_of(key, primary, BYTES_LIT("x")));
    assert_false(variant_key_is_of((struct bytes){key.p, primary.n}, primary, f->spec));
    fixture_destroy(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_one_language_wanted_most_is_taken),
        cmocka_unit_test(one_of_the_codings_wanted_most_is_taken),
        cmocka_unit_test(what_differs_in_anything_else_is_not_taken),
        cmocka_unit_test(both_have_to_be_wanted_where_both_differ),
        cmocka_unit_test(the_newest_of_several_is_taken),
        cmocka_unit_test(what_may_not_be_used_is_not_taken),
        cmocka_unit_test(all_tags_are_offered_once),
        cmocka_unit_test(tags_of_a_length_are_offered),
        cmocka_unit_test(what_the_client_does_not_want_is_not_offered),
        cmocka_unit_test(a_304_names_one_of_those_offered),
        cmocka_unit_test(what_was_made_for_a_credential_is_left_alone),
        cmocka_unit_test(a_marker_of_other_names_offers_nothing),
        cmocka_unit_test(longer_values_are_hashed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
