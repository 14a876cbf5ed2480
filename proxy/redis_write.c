#include "proxy/redis_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "proxy/answer.h"
#include "proxy/redis_names.h"
#include "proxy/wall_clock.h"

enum {
    QUEUE_MAX = 1024,
    QUEUE_BYTES_MAX = 16 * 1024 * 1024,
    WINDOW_BYTES = 256 * 1024,
    SLACK_MS = 10 * 1000, /* clocks of machines are not quite the same */
    MARKER_MS = 24 * 3600 * 1000,
    NUMBER_MAX = 24,
};
#define KEPT_MS_MAX (INT64_C(30) * 24 * 3600 * 1000)

struct write {
    struct write *next;
    struct redis_call call; /* once it has been sent */
    struct redis_writer *writer;
    size_t bytes;
    struct redis_name name, url;
    struct record_epoch epoch;
    struct stored *s; /* NULL: `text` */
    char *text;
    int64_t ms;
};

struct redis_writer {
    struct redis_thread *thread;
    struct write *first, **end; /* waiting */
    size_t n, bytes;
    struct write *sent;
    size_t sent_bytes;
};

static void write_free(struct write *w)
{
    stored_release(w->s);
    free(w->text);
    free(w);
}

/* --- records --- */

/* The copy that is made here is what hiredis copies once more; a megabyte of each costs less than the origin's answer
 * did. */
static char *encode(const struct record *r, struct stored *s, size_t *n)
{
    size_t body_n = s != NULL ? stored_length(s) : 0, run_n;
    struct stored_reader reader;
    struct bytes run;
    char *text, *to;

    *n = record_bytes(r, body_n);
    text = malloc(*n);
    if (text == NULL)
        return NULL;
    to = record_begin(r, body_n, text);
    if (body_n > 0 && !stored_reader_start(&reader, s)) {
        free(text);
        return NULL;
    }
    for (size_t done = 0; done < body_n; done += run_n) {
        stored_reader_peek(&reader, &run, 1, body_n - done);
        run_n = run.n;
        memcpy(to + done, run.p, run_n);
        stored_reader_advance(&reader, run_n);
    }
    if (body_n > 0)
        stored_reader_stop(&reader);
    record_seal(text, *n);
    return text;
}

static char *encode_response(const struct write *w, size_t *n)
{
    struct stored *s = w->s;
    struct stored_view view;
    struct record r = {
        .kind = RECORD_RESPONSE,
        .with_authorization = s->head->with_authorization,
        .with_cookie = s->head->with_cookie,
        .status = s->head->status,
        .early_ms = s->early_ms,
        .epoch = w->epoch,
        .response_ms = wall_clock_ms() - mono_since_ms(s->response_time, loop_now(w->writer->thread->loop)),
        .date = stored_date(s),
        .lifetimes = stored_lifetimes(s),
        .key = stored_key(s),
        .key_url_n = s->key_url_n,
        .fields = stored_fields(s, &view),
    };

    return encode(&r, s, n);
}

/* --- sending --- */

static void send_waiting(struct redis_writer *writer);

static void on_written(struct redis_call *call, const redisReply *reply)
{
    struct write *w = (struct write *)((char *)call - offsetof(struct write, call)), **at;
    struct redis_writer *writer = w->writer;

    for (at = &writer->sent; *at != w; at = &(*at)->next)
        ;
    *at = w->next;
    writer->sent_bytes -= w->bytes;
    redis_count(redis_is_error(reply) ? &writer->thread->tier->state.dropped : &writer->thread->tier->state.written);
    write_free(w);
    send_waiting(writer);
}

/* The url's token has to live as long as the records that carry it. */
static void keep_token(const struct write *w, struct bytes ms)
{
    const struct bytes words[] = {BYTES_LIT("PEXPIRE"), redis_name(&w->url), ms, BYTES_LIT("GT")};

    if (!redis_call(w->writer->thread->link, NULL, words, 4))
        redis_count(&w->writer->thread->tier->state.error);
}

static bool send_one(struct write *w)
{
    char number[NUMBER_MAX];
    struct bytes ms = {number, (size_t)snprintf(number, sizeof number, "%" PRId64, w->ms)};
    size_t n = w->bytes;
    char *text = w->s != NULL ? encode_response(w, &n) : w->text;
    const struct bytes words[] = {BYTES_LIT("SET"), redis_name(&w->name), {text, n}, BYTES_LIT("PX"), ms};
    bool sent = text != NULL && redis_call(w->writer->thread->link, &w->call, words, 5);

    if (w->s != NULL)
        free(text);
    if (sent)
        keep_token(w, ms);
    return sent;
}

static struct write *take_first(struct redis_writer *writer)
{
    struct write *w = writer->first;

    writer->first = w->next;
    if (w->next == NULL)
        writer->end = &writer->first;
    writer->n--;
    writer->bytes -= w->bytes;
    return w;
}

/* One at least is on its way, however large it is. */
static void send_waiting(struct redis_writer *writer)
{
    while (writer->first != NULL &&
           (writer->sent == NULL || writer->sent_bytes + writer->first->bytes <= WINDOW_BYTES)) {
        struct write *w = take_first(writer);

        if (!send_one(w)) {
            redis_count(&writer->thread->tier->state.dropped);
            write_free(w);
            continue;
        }
        stored_release(w->s);
        w->s = NULL;
        w->next = writer->sent;
        writer->sent = w;
        writer->sent_bytes += w->bytes;
    }
}

/* --- the queue --- */

static void enqueue(struct redis_thread *t, struct write *w, struct bytes key, size_t key_url_n)
{
    struct redis_writer *writer = t->writer;
    struct bytes namespace = redis_conf(t->tier)->namespace;

    if (!redis_link_is_up(t->link) || writer->n >= QUEUE_MAX || writer->bytes + w->bytes > QUEUE_BYTES_MAX) {
        redis_count(&t->tier->state.dropped);
        write_free(w);
        return;
    }
    redis_name_record(namespace, key, key_url_n, &w->name);
    redis_name_url(namespace, (struct bytes){key.p, key_url_n}, &w->url);
    w->writer = writer;
    w->call.done = on_written;
    *writer->end = w;
    writer->end = &w->next;
    writer->n++;
    writer->bytes += w->bytes;
    send_waiting(writer);
}

static struct write *write_create(const struct record_epoch *epoch)
{
    struct write *w = calloc(1, sizeof *w);

    if (w == NULL)
        abort();
    w->epoch = *epoch;
    return w;
}

/* How long it can be of use to anybody, stale windows and validation included. */
static int64_t useful_for_ms(struct redis_thread *t, const struct stored *s)
{
    struct lifetimes lifetimes = stored_lifetimes(s);
    struct stored_view view;
    int64_t useful = answer_useful_ms(&lifetimes, stored_fields(s, &view));
    int64_t age = freshness_age_ms(&lifetimes, s->response_time, loop_now(t->loop));

    return useful - age > KEPT_MS_MAX ? KEPT_MS_MAX : useful - age;
}

void redis_write_response(struct redis_thread *t, const struct record_epoch *epoch, struct stored *s)
{
    int64_t ms = useful_for_ms(t, s);
    struct write *w;

    if (ms <= 0 || s->head->status == 206 || stored_length(s) > REDIS_BODY_MAX)
        return;
    w = write_create(epoch);
    w->s = stored_retain(s);
    w->bytes = stored_bytes(s) + stored_length(s);
    w->ms = ms + SLACK_MS;
    enqueue(t, w, stored_key(s), s->key_url_n);
}

static void write_record(struct redis_thread *t, const struct record *r, int64_t ms)
{
    struct write *w = write_create(&r->epoch);

    w->text = encode(r, NULL, &w->bytes);
    w->ms = ms;
    if (w->text == NULL)
        write_free(w);
    else
        enqueue(t, w, r->key, r->key_url_n);
}

void redis_write_vary(struct redis_thread *t, const struct record_epoch *epoch, struct bytes key, size_t key_url_n,
                      struct bytes spec)
{
    const struct record r = {.kind = RECORD_VARY,
                             .epoch = *epoch,
                             .response_ms = wall_clock_ms(),
                             .key = key,
                             .key_url_n = key_url_n,
                             .spec = spec};

    write_record(t, &r, MARKER_MS);
}

void redis_write_pass(struct redis_thread *t, const struct record_epoch *epoch, struct bytes key, size_t key_url_n,
                      int why, int64_t ms)
{
    const struct record r = {.kind = RECORD_PASS,
                             .status = why,
                             .epoch = *epoch,
                             .response_ms = wall_clock_ms(),
                             .key = key,
                             .key_url_n = key_url_n};

    write_record(t, &r, ms);
}

/* --- life --- */

struct redis_writer *redis_writer_create(struct redis_thread *t)
{
    struct redis_writer *writer = calloc(1, sizeof *writer);

    if (writer == NULL)
        abort();
    writer->thread = t;
    writer->end = &writer->first;
    return writer;
}

static void free_all(struct write *w)
{
    while (w != NULL) {
        struct write *next = w->next;

        write_free(w);
        w = next;
    }
}

void redis_writer_destroy(struct redis_writer *writer)
{
    free_all(writer->first);
    free_all(writer->sent);
    free(writer);
}
