#include "policies/personal.h"

bool cookie_next(struct bytes *rest, struct cookie *out)
{
    while (rest->n > 0) {
        const char *semicolon = memchr(rest->p, ';', rest->n);
        size_t n = semicolon == NULL ? rest->n : (size_t)(semicolon - rest->p);
        struct bytes pair = bytes_trim((struct bytes){rest->p, n});
        size_t taken = semicolon == NULL ? n : n + 1;
        rest->p += taken;
        rest->n -= taken;
        if (pair.n == 0)
            continue;
        const char *equals = memchr(pair.p, '=', pair.n);
        if (equals == NULL) {
            *out = (struct cookie){BYTES_NONE, pair};
            return true;
        }
        size_t name_n = (size_t)(equals - pair.p);
        out->name = bytes_trim((struct bytes){pair.p, name_n});
        out->value = bytes_trim((struct bytes){equals + 1, pair.n - name_n - 1});
        return true;
    }
    return false;
}

struct bytes cookie_value(struct fields request, struct bytes name)
{
    const struct bytes line_name = BYTES_LIT("cookie");
    for (size_t i = fields_find(request, line_name, 0); i < request.n; i = fields_find(request, line_name, i + 1)) {
        struct bytes rest = request.v[i].value;
        struct cookie cookie;
        while (cookie_next(&rest, &cookie))
            if (bytes_eq(cookie.name, name))
                return cookie.value;
    }
    return BYTES_NONE;
}

static bool cookie_is_personal(const struct personal_rules *rules, struct bytes name)
{
    for (size_t i = 0; i < rules->nkey_cookies; i++)
        if (bytes_eq(rules->key_cookies[i], name))
            return false;
    return !patterns_match(rules->ignore_cookies, name);
}

static bool cookies_are_personal(const struct personal_rules *rules, struct bytes line)
{
    struct cookie cookie;
    while (cookie_next(&line, &cookie))
        if (cookie_is_personal(rules, cookie.name))
            return true;
    return false;
}

struct personal personal_judge(const struct personal_rules *rules, struct fields request)
{
    struct personal verdict = {false, false};
    for (size_t i = 0; i < request.n; i++) {
        const struct field *f = &request.v[i];
        if (bytes_eq(f->name, BYTES_LIT("authorization")))
            verdict.authorization = true;
        else if (!verdict.cookie && !rules->ignore_all_cookies && bytes_eq(f->name, BYTES_LIT("cookie")))
            verdict.cookie = cookies_are_personal(rules, f->value);
    }
    return verdict;
}
