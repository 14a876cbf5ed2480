#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "policies/forward.h"

#define FIELD(n, v)                                                                                                    \
    {                                                                                                                  \
        BYTES_LIT(n), NULL, BYTES_LIT(v)                                                                               \
    }
#define FIELDS(array) ((struct fields){(array), sizeof(array) / sizeof *(array)})

static const struct fields nothing = {NULL, 0};

/* RFC 9110 sections 7.6.1 and 11.7, RFC 7540 section 3.2.1. */
static void hop_by_hop_by_definition(void **state)
{
    (void)state;
    static const char *const hop[] = {"connection",
                                      "keep-alive",
                                      "proxy-connection",
                                      "te",
                                      "trailer",
                                      "transfer-encoding",
                                      "upgrade",
                                      "proxy-authenticate",
                                      "proxy-authorization",
                                      "proxy-authentication-info",
                                      "http2-settings"};
    for (size_t i = 0; i < sizeof hop / sizeof *hop; i++)
        assert_true(forward_is_hop_by_hop(bytes_of(hop[i]), nothing));
    static const char *const end[] = {
        "content-length",   "host",         "etag", "via", "trailers", "t", "", "authorization",
        "content-encoding", "cache-control"};
    for (size_t i = 0; i < sizeof end / sizeof *end; i++)
        assert_false(forward_is_hop_by_hop(bytes_of(end[i]), nothing));
}

/* RFC 9110 section 7.6.1. */
static void hop_by_hop_by_connection(void **state)
{
    (void)state;
    const struct field f[] = {FIELD("connection", "close, X-One ,,"), FIELD("x-one", "1"),
                              FIELD("connection", "x-two")};
    assert_true(forward_is_hop_by_hop(BYTES_LIT("x-one"), FIELDS(f)));
    assert_true(forward_is_hop_by_hop(BYTES_LIT("x-two"), FIELDS(f)));
    assert_false(forward_is_hop_by_hop(BYTES_LIT("x-three"), FIELDS(f)));
    assert_false(forward_is_hop_by_hop(BYTES_LIT("x-on"), FIELDS(f)));
    assert_false(forward_is_hop_by_hop(BYTES_LIT(""), FIELDS(f)));
    assert_false(forward_is_hop_by_hop(BYTES_LIT("x-two"), (struct fields){f, 2}));
}

static bool names_fields(const char *connection)
{
    const struct field f[] = {FIELD("accept", "x"), {BYTES_LIT("connection"), NULL, bytes_of(connection)}};
    return forward_connection_names_fields(FIELDS(f));
}

/* RFC 9110 section 7.6.1. */
static void connection_that_names_fields(void **state)
{
    (void)state;
    assert_false(forward_connection_names_fields(nothing));
    assert_false(names_fields("close"));
    assert_false(names_fields("Keep-Alive, Upgrade, HTTP2-Settings, TE"));
    assert_false(names_fields(" , "));
    assert_true(names_fields("accept-language"));
    assert_true(names_fields("close, cookie"));
}

static void hops_are(const char *first, const char *second, int64_t expected)
{
    const struct field f[] = {{.name = BYTES_LIT("max-forwards"), .value = bytes_of(first)},
                              {.name = BYTES_LIT("max-forwards"), .value = bytes_of(second)}};

    assert_int_equal(forward_hops_left((struct fields){f, second == NULL ? 1 : 2}), expected);
}

/* RFC 9110 section 7.6.2. */
static void hops_that_are_left(void **state)
{
    (void)state;
    assert_int_equal(forward_hops_left((struct fields){NULL, 0}), -1);
    hops_are("0", NULL, 0);
    hops_are("1", NULL, 1);
    hops_are("0010", NULL, 10);
    hops_are("2147483646", NULL, 2147483646);
    hops_are("2147483647", NULL, 2147483647);
    hops_are("2147483648", NULL, 2147483647);
    hops_are("99999999999999999999999999", NULL, 2147483647);
    hops_are("", NULL, -1);
    hops_are("-1", NULL, -1);
    hops_are("1 ", NULL, -1);
    hops_are("1, 1", NULL, -1);
    hops_are("1", "1", -1);
}

static void node_is(const char *address, const char *expected)
{
    char out[64];
    size_t n = forward_node(bytes_of(address), out);
    assert_true(n <= sizeof out);
    assert_true(bytes_eq((struct bytes){out, n}, bytes_of(expected)));
}

/* RFC 7239 section 6. */
static void nodes(void **state)
{
    (void)state;
    node_is("192.0.2.43", "192.0.2.43");
    node_is("2001:db8:cafe::17", "\"[2001:db8:cafe::17]\"");
    node_is("::ffff:192.0.2.1", "\"[::ffff:192.0.2.1]\"");
    node_is("fe80::1%eth0", "\"[fe80::1]\"");
    node_is("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "\"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]\"");
    node_is("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2550", "unknown");
    node_is("", "unknown");
    node_is(NULL, "unknown");
    node_is("%eth0", "unknown");
    node_is("/run/weir.sock", "unknown");
    node_is("abc", "unknown");
    node_is("1.2.3.4\", for=\"x", "unknown");
}

static void addresses(const char *value, const char *left)
{
    char out[256];
    size_t n = forward_addresses(bytes_of(value), out);

    out[n] = '\0';
    assert_string_equal(out, left);
}

/* RFC 7239 sections 4 and 5. */
static void claims_of_host_and_scheme_go(void **state)
{
    (void)state;
    addresses("", "");
    addresses("for=192.0.2.7", "for=192.0.2.7");
    addresses("for=192.0.2.7;host=evil.test;proto=https", "for=192.0.2.7");
    addresses("host=evil.test, For=\"[2001:db8::1]:80\" ; proto=http;by=_b , proto=https",
              "For=\"[2001:db8::1]:80\";by=_b");
    addresses("for=\"a,host=x;\\\"b\";host=y", "for=\"a,host=x;\\\"b\"");
    addresses("for=\"unended;host=x", "");
    addresses("garbage, ;;,=,for", "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hop_by_hop_by_definition),
        cmocka_unit_test(hop_by_hop_by_connection),
        cmocka_unit_test(connection_that_names_fields),
        cmocka_unit_test(hops_that_are_left),
        cmocka_unit_test(nodes),
        cmocka_unit_test(claims_of_host_and_scheme_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
