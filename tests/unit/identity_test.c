/* Who is asking: the keyed hash of a credential. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "proxy/identity.h"

static const unsigned char secret[32] = "a secret of thirty-two bytes....",
                           other_secret[32] = "another secret of 32 bytes......";

static struct identity judge(struct conf_route route, const char *authorization, const char *cookie,
                             const unsigned char *key)
{
    struct field f[2];
    struct fields fields = {f, 0};
    struct identity who;

    if (authorization != NULL)
        f[fields.n++] = (struct field){BYTES_LIT("authorization"), NULL, bytes_of(authorization)};
    if (cookie != NULL)
        f[fields.n++] = (struct field){BYTES_LIT("cookie"), NULL, bytes_of(cookie)};
    struct hasher *hasher = hasher_create(key);

    identity_judge(&route, fields, hasher, &who);
    hasher_destroy(hasher);
    return who;
}

static bool same(struct identity a, struct identity b)
{
    return a.known == b.known && a.user_scope == b.user_scope &&
           (!a.known || memcmp(a.hash, b.hash, sizeof a.hash) == 0);
}

static const struct conf_route by_header = {
    .scope = CONF_USER, .identity = CONF_IDENTITY_HEADER, .identity_name = BYTES_LIT("authorization")};
static const struct conf_route by_cookie = {
    .scope = CONF_USER, .identity = CONF_IDENTITY_COOKIE, .identity_name = BYTES_LIT("sid")};
static const struct conf_route automatic = {
    .scope = CONF_AUTO, .identity = CONF_IDENTITY_HEADER, .identity_name = BYTES_LIT("authorization")};

static void two_credentials_are_two_users(void **state)
{
    (void)state;
    assert_true(same(judge(by_header, "Bearer a", NULL, secret), judge(by_header, "Bearer a", NULL, secret)));
    assert_false(same(judge(by_header, "Bearer a", NULL, secret), judge(by_header, "Bearer b", NULL, secret)));
    assert_true(same(judge(by_cookie, NULL, "x=1; sid=7", secret), judge(by_cookie, NULL, "sid=7", secret)));
    assert_false(same(judge(by_cookie, NULL, "sid=7", secret), judge(by_cookie, NULL, "sid=8", secret)));
}

/* A session cookie with somebody else's Authorization is nobody's double. */
static void authorization_counts_beside_a_cookie(void **state)
{
    (void)state;
    assert_false(same(judge(by_cookie, "Bearer a", "sid=7", secret), judge(by_cookie, NULL, "sid=7", secret)));
    assert_false(same(judge(by_cookie, "Bearer a", "sid=7", secret), judge(by_cookie, "Bearer b", "sid=7", secret)));
    assert_true(judge(by_cookie, "Bearer a", NULL, secret).known);
}

static void no_credential_is_the_anonymous_user(void **state)
{
    (void)state;
    assert_true(judge(by_header, NULL, "theme=dark", secret).user_scope);
    assert_false(judge(by_header, NULL, "theme=dark", secret).known);
    assert_false(judge(by_cookie, NULL, "sid=", secret).known);
}

static void auto_is_user_with_a_credential_and_shared_without(void **state)
{
    (void)state;
    assert_true(judge(automatic, "Bearer a", NULL, secret).user_scope);
    assert_false(judge(automatic, NULL, NULL, secret).user_scope);
    assert_false(judge((struct conf_route){.scope = CONF_SHARED}, "Bearer a", NULL, secret).user_scope);
}

/* What is in a key cannot be guessed without the secret, and is not the credential. */
static void the_hash_depends_on_the_secret(void **state)
{
    struct identity ours = judge(by_header, "Bearer a", NULL, secret);

    (void)state;
    assert_false(same(ours, judge(by_header, "Bearer a", NULL, other_secret)));
    assert_null(memmem(ours.hash, sizeof ours.hash, "Bearer", 6));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(two_credentials_are_two_users),
        cmocka_unit_test(authorization_counts_beside_a_cookie),
        cmocka_unit_test(no_credential_is_the_anonymous_user),
        cmocka_unit_test(auto_is_user_with_a_credential_and_shared_without),
        cmocka_unit_test(the_hash_depends_on_the_secret),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
