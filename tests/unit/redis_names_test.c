#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "proxy/redis_names.h"

static const struct bytes ns = BYTES_LIT("weir");
static const struct bytes key = BYTES_LIT("http://api.test/a?token=s3cret\nx");
enum { URL_N = 30 };

static void is(const struct redis_name *name, const char *text)
{
    assert_int_equal(name->n, strlen(text));
    assert_memory_equal(name->text, text, name->n);
}

/* All instances, of whatever version of the library, must come to the same: hence the texts. */
static void names_are_the_same_everywhere(void **state)
{
    struct redis_name name;

    (void)state;
    redis_name_all(ns, &name);
    is(&name, "weir:1:all");
    redis_name_url(ns, BYTES_LIT("http://api.test/a"), &name);
    is(&name, "weir:1:{864024d90cdba4a34fac096dbe2398dc}");
}

static void a_record_lies_with_its_url(void **state)
{
    struct redis_name url, record, other;

    (void)state;
    redis_name_url(ns, (struct bytes){key.p, URL_N}, &url);
    redis_name_record(ns, key, URL_N, &record);
    assert_true(record.n > url.n && memcmp(record.text, url.text, url.n) == 0 && record.text[url.n] == ':');
    redis_name_record(ns, (struct bytes){key.p, key.n - 1}, URL_N, &other);
    assert_false(bytes_eq(redis_name(&record), redis_name(&other)));
}

static void names_hold_nothing_of_the_key(void **state)
{
    struct redis_name record;

    (void)state;
    redis_name_record(ns, key, URL_N, &record);
    assert_null(memmem(record.text, record.n, "s3cret", 6));
    assert_null(memmem(record.text, record.n, "api", 3));
}

static void the_longest_namespace_fits(void **state)
{
    char longest[64];
    struct redis_name record;

    (void)state;
    memset(longest, 'n', sizeof longest);
    redis_name_record((struct bytes){longest, sizeof longest}, key, URL_N, &record);
    assert_int_equal(record.n, REDIS_NAME_MAX);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_are_the_same_everywhere),
        cmocka_unit_test(a_record_lies_with_its_url),
        cmocka_unit_test(names_hold_nothing_of_the_key),
        cmocka_unit_test(the_longest_namespace_fits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
