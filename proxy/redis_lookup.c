#include "proxy/redis_lookup.h"

#include <openssl/rand.h>
#include <stdlib.h>

#include "proxy/redis_purge.h"

/* A url's token goes by itself when nothing was written with it for so long; each record makes it live as long as
 * itself. */
#define TOKEN_MS "3600000"

static void fini(struct redis_lookup *l)
{
    timer_disarm(l->thread->loop, &l->limit);
    redis_call_cancel(&l->get);
    redis_call_cancel(&l->set_all);
    redis_call_cancel(&l->set_url);
    free(l->key);
}

void redis_lookup_cancel(struct redis_lookup *l)
{
    fini(l);
}

static void finish(struct redis_lookup *l, const struct record *record)
{
    struct redis_found found = {
        .epoch = l->has_all && l->has_url ? &l->epoch : NULL,
        .record = record,
    };

    fini(l);
    l->done(l, &found);
}

static void on_limit(struct timer *t)
{
    finish((struct redis_lookup *)((char *)t - offsetof(struct redis_lookup, limit)), NULL);
}

static void unlink_key(struct redis_lookup *l, const struct redis_name *name)
{
    const struct bytes words[] = {BYTES_LIT("UNLINK"), redis_name(name)};

    /* what cannot be removed now is found again */
    if (!redis_call(l->thread->link, NULL, words, 2))
        redis_count(&l->thread->tier->state.error);
}

/* --- tokens --- */

static bool take_token(const redisReply *reply, unsigned char out[RECORD_TOKEN_BYTES])
{
    struct bytes token = redis_string(reply);

    if (token.n != RECORD_TOKEN_BYTES)
        return false;
    memcpy(out, token.p, RECORD_TOKEN_BYTES);
    return true;
}

/* NIL: the one that was offered is the token now. What is no token at all, whoever put it there, is in the way. */
static bool settle_token(struct redis_lookup *l, const redisReply *reply, const struct redis_name *name,
                         unsigned char token[RECORD_TOKEN_BYTES])
{
    if (reply != NULL && reply->type == REDIS_REPLY_NIL)
        return true;
    if (take_token(reply, token))
        return true;
    if (redis_string(reply).p != NULL ||
        (reply != NULL && reply->type == REDIS_REPLY_ERROR && strncmp(reply->str, "WRONGTYPE", 9) == 0))
        unlink_key(l, name);
    return false;
}

static void finish_when_settled(struct redis_lookup *l)
{
    if (l->set_all.pending == NULL && l->set_url.pending == NULL)
        finish(l, NULL);
}

static void on_all_set(struct redis_call *call, const redisReply *reply)
{
    struct redis_lookup *l = (struct redis_lookup *)((char *)call - offsetof(struct redis_lookup, set_all));

    l->has_all = settle_token(l, reply, &l->all, l->epoch.all);
    finish_when_settled(l);
}

static void on_url_set(struct redis_call *call, const redisReply *reply)
{
    struct redis_lookup *l = (struct redis_lookup *)((char *)call - offsetof(struct redis_lookup, set_url));

    l->has_url = settle_token(l, reply, &l->url, l->epoch.url);
    finish_when_settled(l);
}

/* The token of everything stays: what evicts keys that have a time would take it otherwise. */
static bool offer_token(struct redis_lookup *l, struct redis_call *call, const struct redis_name *name,
                        unsigned char token[RECORD_TOKEN_BYTES], bool stays)
{
    const struct bytes words[] = {
        BYTES_LIT("SET"),    redis_name(name), {(const char *)token, RECORD_TOKEN_BYTES},
        BYTES_LIT("NX"),     BYTES_LIT("GET"), BYTES_LIT("PX"),
        BYTES_LIT(TOKEN_MS),
    };

    return RAND_bytes(token, RECORD_TOKEN_BYTES) == 1 && redis_call(l->thread->link, call, words, stays ? 5 : 7);
}

static void offer_tokens(struct redis_lookup *l)
{
    bool sent = (l->has_all || offer_token(l, &l->set_all, &l->all, l->epoch.all, true)) &&
                (l->has_url || offer_token(l, &l->set_url, &l->url, l->epoch.url, false));

    if (!sent)
        finish(l, NULL);
}

/* --- the record --- */

static bool is_current(const struct redis_lookup *l, const struct record *record)
{
    return memcmp(&record->epoch, &l->epoch, sizeof l->epoch) == 0;
}

static bool is_of_key(const struct redis_lookup *l, const struct record *record)
{
    return bytes_eq(record->key, (struct bytes){l->key, l->key_n}) && record->key_url_n == l->key_url_n;
}

/* What does not verify is removed: it would be looked at again and again. One of another key has the same hash; the
 * next write of either takes the other's place. */
static void judge(struct redis_lookup *l, const redisReply *reply)
{
    struct bytes text = redis_string(reply);
    struct field room[RECORD_FIELDS_MAX];
    struct record record;

    if (text.p == NULL) {
        finish(l, NULL);
        return;
    }
    if (!record_decode(text, &record, room)) {
        redis_count(&l->thread->tier->state.error);
        unlink_key(l, &l->name);
        finish(l, NULL);
        return;
    }
    finish(l, is_of_key(l, &record) && is_current(l, &record) ? &record : NULL);
}

static void on_got(struct redis_call *call, const redisReply *reply)
{
    struct redis_lookup *l = (struct redis_lookup *)((char *)call - offsetof(struct redis_lookup, get));

    if (reply == NULL || reply->type != REDIS_REPLY_ARRAY || reply->elements != 3) {
        finish(l, NULL);
        return;
    }
    l->has_all = take_token(reply->element[0], l->epoch.all);
    l->has_url = take_token(reply->element[1], l->epoch.url);
    if (l->has_all && l->has_url)
        judge(l, reply->element[2]);
    else
        offer_tokens(l);
}

bool redis_lookup_start(struct redis_lookup *l, struct redis_thread *t, struct bytes key, size_t key_url_n)
{
    const struct conf_redis *conf = redis_conf(t->tier);
    struct bytes namespace = conf->namespace;

    if (!redis_link_is_up(t->link) || redis_purge_is_owed(t->tier, (struct bytes){key.p, key_url_n}) ||
        (l->key = malloc(key.n)) == NULL)
        return false;
    memcpy(l->key, key.p, key.n);
    l->key_n = key.n;
    l->key_url_n = key_url_n;
    l->thread = t;
    l->has_all = l->has_url = false;
    l->get = (struct redis_call){.done = on_got};
    l->set_all = (struct redis_call){.done = on_all_set};
    l->set_url = (struct redis_call){.done = on_url_set};
    l->limit = (struct timer){.fire = on_limit};
    redis_name_all(namespace, &l->all);
    redis_name_url(namespace, (struct bytes){key.p, key_url_n}, &l->url);
    redis_name_record(namespace, key, key_url_n, &l->name);
    const struct bytes words[] = {BYTES_LIT("MGET"), redis_name(&l->all), redis_name(&l->url), redis_name(&l->name)};

    if (!redis_call(t->link, &l->get, words, 4)) {
        free(l->key);
        return false;
    }
    timer_arm(t->loop, &l->limit, conf->timeout_ms);
    return true;
}
