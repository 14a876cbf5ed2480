#include "proxy/ask.h"

#include <stdlib.h>

static struct bytes copy(char **to, struct bytes what)
{
    struct bytes copied = {*to, what.n};

    memcpy(*to, what.p, what.n);
    *to += what.n;
    return copied;
}

static void copy_request(struct ask *ask, struct request *r)
{
    struct fields in = r->in.fields;
    size_t n = in.n * sizeof(struct field) + r->in.method.n + r->in.authority.n + r->key.target.n + r->key.whole.n;
    bool reduced = r->own.whole.p != r->key.whole.p;

    n += reduced ? r->own.whole.n : 0;
    for (size_t i = 0; i < in.n; i++)
        n += in.v[i].name.n + in.v[i].value.n;
    ask->memory = malloc(n);
    if (ask->memory == NULL)
        abort();
    struct field *fields = (struct field *)ask->memory;
    char *text = (char *)(fields + in.n);

    for (size_t i = 0; i < in.n; i++) {
        struct bytes name = copy(&text, in.v[i].name);

        fields[i] = (struct field){name, NULL, copy(&text, in.v[i].value)};
    }
    ask->request = (struct fields){fields, in.n};
    ask->method = copy(&text, r->in.method);
    ask->authority = copy(&text, r->in.authority);
    ask->target = copy(&text, r->key.target);
    ask->primary = copy(&text, r->key.whole);
    ask->primary_hash = r->hash;
    ask->url_n = r->key.url.n;
    ask->own.whole = reduced ? copy(&text, r->own.whole) : ask->primary;
    ask->own.url = (struct bytes){ask->own.whole.p, r->own.url.n};
    ask->own.target = ask->target;
}

void ask_init(struct ask *ask, struct request *r, bool cacheable)
{
    *ask = (struct ask){
        .worker = r->worker,
        .hold = hold_use(r->hold),
        .route = r->route,
        .cacheable = cacheable,
        .may_answer_get = r->may_answer_get,
        .asked_range = r->range.n > 0,
        .alone = r->alone && !r->refreshing,
        .https = r->in.https,
        .user_scope = r->user_scope,
        .personal_authorization = r->personal_authorization,
        .personal_cookie = r->personal_cookie,
        .unsafe = !r->in.get && !r->in.head && !bytes_eq(r->in.method, BYTES_LIT("OPTIONS")),
        .head = r->in.head,
    };
    copy_request(ask, r);
    ask_sent(ask);
}

void ask_fini(struct ask *ask)
{
    hold_drop(ask->hold);
    free(ask->memory);
    free(ask->primary_memory);
}

void ask_sent(struct ask *ask)
{
    ask->sent = loop_now(ask->worker->loop);
    ask->sent_wall = loop_wall(ask->worker->loop);
}
