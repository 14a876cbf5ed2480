#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include "conf_support.h"

#define LISTEN "listen: [{ address: '127.0.0.1:8080' }]\n"
#define BACKEND "backends: { api: { servers: [http://127.0.0.1:9000] } }\n"
#define ROUTE(path) "routes: [{ path: " path ", backend: api }]\n"

static int begin(void **state)
{
    int rc = support_begin(state);

    support_mkdir("conf.d");
    return rc;
}

static void errors_are(const char *conf, const char *expected)
{
    support_write("weir.conf", conf);
    assert_string_equal(support_load_errors(), expected);
}

static void included_files_add_in_order_of_their_names(void **state)
{
    struct conf *c;

    (void)state;
    support_write("conf.d/b.conf", "routes: [{ path: /b, backend: api, ttl: t }]\nttl: { t: 1s }\n");
    support_write("conf.d/a.conf", BACKEND ROUTE("/a"));
    support_write("conf.d/c.conf", "# nothing yet\n");
    support_write("conf.d/.hidden.conf", "nonsense: 1\n");
    support_write("conf.d/d.txt", "nonsense: 1\n");
    c = support_load("include: conf.d/*.conf\n" LISTEN ROUTE("/main"));
    assert_int_equal(c->nroutes, 3);
    assert_memory_equal(c->routes[0].pattern.path.p, "/main", 5);
    assert_memory_equal(c->routes[1].pattern.path.p, "/a", 2);
    assert_memory_equal(c->routes[2].pattern.path.p, "/b", 2);
    assert_ptr_equal(c->routes[2].ttl, &c->tiers[0]);
    assert_string_equal(c->routes[1].mark.file, support_path("conf.d/a.conf"));
    assert_string_equal(c->backends[0].mark.file, support_path("conf.d/a.conf"));
    conf_release(c);
    c = support_load("include: [conf.d/a.conf, conf.d/*.conf]\n" LISTEN);
    assert_int_equal(c->nroutes, 2);
    conf_release(c);
    unlink(support_path("conf.d/.hidden.conf"));
    unlink(support_path("conf.d/a.conf"));
    unlink(support_path("conf.d/b.conf"));
    unlink(support_path("conf.d/c.conf"));
    unlink(support_path("conf.d/d.txt"));
}

static void a_pattern_may_match_nothing_but_a_name_must_be_there(void **state)
{
    (void)state;
    errors_are("include: [conf.d/*.conf, nowhere/*.conf]\n" LISTEN BACKEND ROUTE("/"), "");
    support_write("weir.conf", "include: conf.d/a.conf\n" LISTEN BACKEND ROUTE("/"));
    assert_ptr_equal(strstr(support_load_errors(), "weir.conf:1:10: 'include': cannot read '"), support_load_errors());
    assert_non_null(strstr(support_load_errors(), "conf.d/a.conf': No such file or directory\n"));
}

static void names_are_relative_to_the_file_that_names_them(void **state)
{
    struct conf *c;

    (void)state;
    support_write("conf.d/ca.pem", "x");
    support_write("conf.d/x.conf",
                  "backends: { api: { servers: [{ url: 'https://a', tls: { ca_file: ca.pem } }] } }\n");
    c = support_load("include: conf.d/x.conf\n" LISTEN ROUTE("/"));
    assert_string_equal(c->backends[0].servers[0].tls_ca_file, support_path("conf.d/ca.pem"));
    conf_release(c);
    unlink(support_path("conf.d/ca.pem"));
    unlink(support_path("conf.d/x.conf"));
}

static void included_files_hold_routes_backends_and_tiers_only(void **state)
{
    (void)state;
    support_write("conf.d/x.conf", "listen: []\ninclude: y.conf\nmemory: 3\nroute: []\nredis: {}\n");
    errors_are(
        "include: conf.d/*\n" LISTEN BACKEND ROUTE("/"),
        "conf.d/x.conf:1:1: 'listen' is allowed in the main file only; an included file has routes, backends and ttl\n"
        "conf.d/x.conf:2:1: 'include' is allowed in the main file only; an included file has routes, backends and ttl\n"
        "conf.d/x.conf:3:1: 'memory' is allowed in the main file only; an included file has routes, backends and ttl\n"
        "conf.d/x.conf:4:1: unknown key 'route' (did you mean 'routes'?)\n"
        "conf.d/x.conf:5:1: 'redis' is allowed in the main file only; an included file has routes, backends and ttl\n");
    unlink(support_path("conf.d/x.conf"));
}

static void the_main_file_cannot_include_itself(void **state)
{
    (void)state;
    support_write("weir.conf", "include: '*.conf'\n" LISTEN BACKEND ROUTE("/"));
    assert_non_null(strstr(support_load_errors(), "is the main file itself\n"));
    support_write("weir.conf", "include: conf.d/../weir.conf\n" LISTEN BACKEND ROUTE("/"));
    assert_non_null(strstr(support_load_errors(), "is the main file itself\n"));
}

/* Errors come in the order in which the files are read, and the first of two is named with its place. */
static void duplicates_across_files_say_where_the_first_is(void **state)
{
    const char *text;

    (void)state;
    support_write("conf.d/a.conf", BACKEND ROUTE("/a") "ttl: { t: 1s }\n");
    support_write("conf.d/b.conf", "ttl: { t: 2s }\n" BACKEND ROUTE("/a"));
    support_write("weir.conf", "include: conf.d/*.conf\n" LISTEN "threads: 0\n");
    text = support_load_errors();
    assert_ptr_equal(strstr(text, "weir.conf:3:10: 'threads'"), text);
    text = strchr(text, '\n') + 1;
    assert_ptr_equal(strstr(text, "conf.d/b.conf:1:8: duplicate tier 't' (the first is at "), text);
    assert_non_null(strstr(text, "/conf.d/a.conf:3:8)\n"));
    text = strchr(text, '\n') + 1;
    assert_ptr_equal(strstr(text, "conf.d/b.conf:2:13: duplicate backend 'api' (the first is at "), text);
    assert_non_null(strstr(text, "/conf.d/a.conf:1:13)\n"));
    text = strchr(text, '\n') + 1;
    assert_ptr_equal(strstr(text, "conf.d/b.conf:3:10: '/a' matches the same requests as the route at "), text);
    assert_non_null(strstr(text, "/conf.d/a.conf:2:10\n"));
    unlink(support_path("conf.d/a.conf"));
    unlink(support_path("conf.d/b.conf"));
}

/* What a file that cannot be read might have held is not reported as missing. */
static void a_broken_file_costs_one_error(void **state)
{
    const char *text;

    (void)state;
    support_write("conf.d/a.conf", "backends: {\n");
    support_write("weir.conf", "include: conf.d/*.conf\n" LISTEN ROUTE("/"));
    text = support_load_errors();
    assert_ptr_equal(strstr(text, "conf.d/a.conf:2:1: not readable as YAML"), text);
    assert_string_equal(strchr(text, '\n'), "\n");
    unlink(support_path("conf.d/a.conf"));
}

static void what_is_no_regular_file_is_not_included(void **state)
{
    (void)state;
    assert_int_equal(mkfifo(support_path("conf.d/p.conf"), 0600), 0);
    support_mkdir("conf.d/q.conf");
    support_write("weir.conf", "include: conf.d/*.conf\n" LISTEN BACKEND ROUTE("/"));
    assert_non_null(strstr(support_load_errors(), "/conf.d/p.conf': it is not a regular file\n"));
    assert_non_null(strstr(support_load_errors(), "/conf.d/q.conf': it is a directory\n"));
    unlink(support_path("conf.d/p.conf"));
    rmdir(support_path("conf.d/q.conf"));
}

/* The directory's own name is no pattern, whatever it looks like. */
static void a_directory_may_be_called_like_a_pattern(void **state)
{
    struct conf_errors errors;
    struct conf *conf;

    (void)state;
    support_mkdir("[ab]*");
    support_write("[ab]*/weir.conf", "include: '*.inc'\n" LISTEN BACKEND);
    support_write("[ab]*/r.inc", ROUTE("/"));
    assert_int_equal(conf_load(support_path("[ab]*/weir.conf"), &conf, &errors), 0);
    assert_int_equal(conf->nroutes, 1);
    conf_errors_free(&errors);
    conf_release(conf);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(included_files_add_in_order_of_their_names),
        cmocka_unit_test(a_pattern_may_match_nothing_but_a_name_must_be_there),
        cmocka_unit_test(names_are_relative_to_the_file_that_names_them),
        cmocka_unit_test(included_files_hold_routes_backends_and_tiers_only),
        cmocka_unit_test(the_main_file_cannot_include_itself),
        cmocka_unit_test(duplicates_across_files_say_where_the_first_is),
        cmocka_unit_test(a_broken_file_costs_one_error),
        cmocka_unit_test(what_is_no_regular_file_is_not_included),
        cmocka_unit_test(a_directory_may_be_called_like_a_pattern),
    };

    return cmocka_run_group_tests(tests, begin, support_end);
}
