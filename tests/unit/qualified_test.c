#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "policies/qualified.h"

#define FIELD(name, value) ((struct field){BYTES_LIT(name), NULL, BYTES_LIT(value)})

/* The directives of a response with some fields. */
static struct cache_control settled(const char *value)
{
    const struct field v[] = {FIELD("set-cookie", "a=b"),
                              FIELD("vary", "accept"),
                              FIELD("content-encoding", "gzip"),
                              FIELD("etag", "\"a\""),
                              {BYTES_LIT("cache-control"), NULL, bytes_of(value)}};
    struct cache_control cc = cache_control_parse((struct fields){v, 5});

    qualified_settle(&cc, (struct fields){v, 5});
    return cc;
}

/* RFC 9111 section 5.2.2.4. */
static void no_cache_withholds_the_fields_it_names_from_everybody(void **state)
{
    const struct cache_control cc = settled("max-age=60, no-cache=\"Set-Cookie, x-user\"");

    (void)state;
    assert_false(cc.no_cache);
    assert_true(qualified_withholds(&cc, false, BYTES_LIT("set-cookie")));
    assert_true(qualified_withholds(&cc, true, BYTES_LIT("x-user")));
    assert_false(qualified_withholds(&cc, false, BYTES_LIT("etag")));
    assert_false(qualified_withholds(&cc, false, BYTES_LIT("set-cookie2")));
}

/* RFC 9111 section 5.2.2.7. */
static void private_withholds_the_fields_it_names_from_what_is_shared(void **state)
{
    const struct cache_control cc = settled("max-age=60, private=\"set-cookie\"");

    (void)state;
    assert_false(cc.private_);
    assert_true(qualified_withholds(&cc, false, BYTES_LIT("set-cookie")));
    assert_false(qualified_withholds(&cc, true, BYTES_LIT("set-cookie")));
}

/* RFC 9111 sections 5.2.2.4 and 5.2.2.7. */
static void the_bare_forms_withhold_no_field_but_the_whole(void **state)
{
    const struct cache_control cc = settled("no-cache, private");

    (void)state;
    assert_true(cc.no_cache && cc.private_);
    assert_false(qualified_withholds(&cc, false, BYTES_LIT("set-cookie")));
}

/* RFC 9111 sections 5.2.2.4 and 5.2.2.7: their notes let a cache take a list for the bare form. */
static void what_the_response_cannot_be_used_without_is_not_left_out(void **state)
{
    static const char *const names[] = {"vary", "Content-Encoding", "set-cookie, vary", "cache-control"};
    char value[64];

    (void)state;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct cache_control cc;

        snprintf(value, sizeof(value), "no-cache=\"%s\"", names[i]);
        cc = settled(value);
        assert_true(cc.no_cache && !cc.no_cache_qualified);
        snprintf(value, sizeof(value), "private=\"%s\"", names[i]);
        cc = settled(value);
        assert_true(cc.private_ && !cc.private_qualified);
    }
    /* a field that is not there is not missed */
    assert_true(settled("no-cache=\"location, content-type\"").no_cache_qualified);
    assert_true(settled("private=\"location, etag\"").private_qualified);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_cache_withholds_the_fields_it_names_from_everybody),
        cmocka_unit_test(private_withholds_the_fields_it_names_from_what_is_shared),
        cmocka_unit_test(the_bare_forms_withhold_no_field_but_the_whole),
        cmocka_unit_test(what_the_response_cannot_be_used_without_is_not_left_out),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
