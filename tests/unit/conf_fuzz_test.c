/*
 * A good configuration, cut off at every byte and with bytes changed: the loader never crashes, and what it reports is
 * at a place that is in the file. Best run with the sanitizers.
 */
#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include "conf_support.h"

static const char good[] = "threads: 2\n"
                           "listen:\n"
                           "  - address: 0.0.0.0:8080\n"
                           "  - address: \"[::]:8443\" # TLS\n"
                           "    tls: [{ certificate: weir.conf, key: weir.conf, min_version: \"1.2\" }]\n"
                           "admin: { address: 127.0.0.1:9090 }\n"
                           "log: { access: \"-\", format: json, level: info }\n"
                           "memory: { size: 256mb, max_object: 8mb, shards: auto, eviction: sieve }\n"
                           "ttl:\n"
                           "  list: { fresh: 10m, jitter: 10%, status: { 404: 30s, 5xx: 1s } }\n"
                           "  détail: 1h\n"
                           "backends:\n"
                           "  api:\n"
                           "    servers:\n"
                           "      - http://127.0.0.1:9000\n"
                           "      - { url: \"https://10.0.0.7\", weight: 2, tls: { verify: on, server_name: a.b } }\n"
                           "    balance: least_requests\n"
                           "    queue: { size: 1024, timeout: 2s }\n"
                           "    timeouts:\n"
                           "      connect: 1s\n"
                           "routes:\n"
                           "  - path: /api/clips/*\n"
                           "    host: api.example.com\n"
                           "    methods: [GET, HEAD]\n"
                           "    backend: api\n"
                           "    strip_prefix: /api\n"
                           "    ttl: list\n"
                           "    scope: user\n"
                           "    user: { header: Authorization }\n"
                           "    key: { query: { except: [utm_*] }, headers: [Accept], cookies: ['currency'] }\n"
                           "    ignore_cookies: [_ga*]\n"
                           "  - { path: /**, backend: api }\n"
                           "limits: { request_body: 10mb, h2_resets: 200/10s }\n";

/* The bytes of a line's end as YAML 1.1 has them (CR, LF, CRLF, NEL, LS, PS), or 0. */
static size_t line_end(const char *p, size_t n)
{
    if (p[0] == '\r')
        return n > 1 && p[1] == '\n' ? 2 : 1;
    if (p[0] == '\n')
        return 1;
    if (n > 1 && memcmp(p, "\xc2\x85", 2) == 0)
        return 2;
    return n > 2 && (memcmp(p, "\xe2\x80\xa8", 3) == 0 || memcmp(p, "\xe2\x80\xa9", 3) == 0) ? 3 : 0;
}

/* A place is a character of the text or the end of a line or of all. */
static bool is_inside(const char *text, size_t n, unsigned line, unsigned column)
{
    unsigned at_line = 1, at_column = 1;

    for (size_t i = 0; i <= n; i++) {
        size_t end = i < n ? line_end(text + i, n - i) : 0;

        if (at_line == line && at_column == column)
            return true;
        if (end > 0) {
            i += end - 1;
            at_line++;
            at_column = 1;
        } else if (i + 1 > n || ((unsigned char)text[i + 1] & 0xc0) != 0x80) {
            at_column++;
        }
    }
    return false;
}

static size_t load_bytes(const char *text, size_t n)
{
    struct conf_errors errors;
    struct conf *conf;
    size_t found;

    support_write_bytes("weir.conf", text, n);
    if (conf_load(support_path("weir.conf"), &conf, &errors) == 0)
        assert_int_equal(errors.n, 0);
    else
        assert_true(errors.n > 0);
    for (size_t i = 0; i < errors.n; i++) {
        const struct conf_mark *mark = &errors.v[i].mark;

        assert_string_equal(mark->file, support_path("weir.conf"));
        assert_true(errors.v[i].text[0] != '\0');
        if (!is_inside(text, n, mark->line, mark->column))
            fail_msg("%s:%u:%u is not in the file:\n%.*s", errors.v[i].text, mark->line, mark->column, (int)n, text);
    }
    found = errors.n;
    conf_errors_free(&errors);
    conf_release(conf);
    return found;
}

/* The é is no letter of a name: one error, and nothing else is wrong with the text. */
static void the_text_itself_is_good_but_for_one_name(void **state)
{
    (void)state;
    assert_int_equal(load_bytes(good, sizeof(good) - 1), 1);
}

static void cut_off_anywhere(void **state)
{
    (void)state;
    for (size_t n = 0; n < sizeof(good) - 1; n++)
        load_bytes(good, n);
}

static void with_a_byte_left_out(void **state)
{
    char text[sizeof(good)];

    (void)state;
    for (size_t i = 0; i < sizeof(good) - 1; i++) {
        memcpy(text, good, i);
        memcpy(text + i, good + i + 1, sizeof(good) - 1 - i);
        load_bytes(text, sizeof(good) - 2);
    }
}

static void with_every_byte_replaced_by_what_means_something(void **state)
{
    static const char meaning[] = "\n\r\t :-[]{},&*!|>'\"%@`#?~<0\x7f\x80\xc2\xff";
    char text[sizeof(good)];

    (void)state;
    memcpy(text, good, sizeof(good));
    for (size_t i = 0; i < sizeof(good) - 1; i++) {
        text[i] = meaning[(i * 7) % (sizeof(meaning))]; /* the NUL too */
        load_bytes(text, sizeof(good) - 1);
        text[i] = good[i];
    }
}

static uint32_t random_state = 2463534242;

static uint32_t random_next(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    return random_state ^= random_state << 5;
}

static void with_a_few_bits_flipped(void **state)
{
    char text[sizeof(good)];

    (void)state;
    for (unsigned round = 0; round < 1500; round++) {
        memcpy(text, good, sizeof(good));
        for (unsigned flips = 1 + random_next() % 4; flips > 0; flips--)
            text[random_next() % (sizeof(good) - 1)] ^= (char)(1 << random_next() % 8);
        load_bytes(text, sizeof(good) - 1);
    }
}

/* A line moved elsewhere is still YAML more often than not, and then means nonsense. */
static void with_a_piece_moved(void **state)
{
    char text[sizeof(good)];
    size_t n = sizeof(good) - 1;

    (void)state;
    for (unsigned round = 0; round < 1000; round++) {
        size_t from = random_next() % n, length = random_next() % (n - from), to = random_next() % (n - length);

        memcpy(text, good, sizeof(good));
        memmove(text + to, good + from, length);
        load_bytes(text, n);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_text_itself_is_good_but_for_one_name),
        cmocka_unit_test(cut_off_anywhere),
        cmocka_unit_test(with_a_byte_left_out),
        cmocka_unit_test(with_every_byte_replaced_by_what_means_something),
        cmocka_unit_test(with_a_few_bits_flipped),
        cmocka_unit_test(with_a_piece_moved),
    };

    return cmocka_run_group_tests(tests, support_begin, support_end);
}
