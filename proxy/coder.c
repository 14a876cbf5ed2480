#include "proxy/coder.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "cache/store.h"
#include "proxy/codec.h"
#include "proxy/respond.h"

enum {
    JOBS_MAX = 1024,
    NICE = 10,
    POLL_MS = 500, /* evicting for a form leaves work for the epoch */
    BUFFER_KEPT = 1024 * 1024,
    ETAG_MAX = 8 * 1024,
};

struct job {
    struct job *next;
    struct stored *s;
    enum coding coding;
    unsigned level;
    uint64_t object_max;
};

struct coder {
    struct store *store;
    unsigned nthreads;
    pthread_t *threads;

    pthread_mutex_t lock;
    pthread_cond_t wanted;
    /* under the lock */
    struct job *first, **end;
    size_t njobs;
    struct coder_waiter *waiters;
    _Atomic bool stopping; /* any may look */

    /* any thread */
    struct {
        _Atomic uint64_t made, bytes_before, bytes_after, refused;
    } figures[CODINGS];
    _Atomic uint64_t streamed;
};

_Static_assert((int)CODINGS == (int)FORMS_MAX, "a form for each coding");

static struct mono_ms mono_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (struct mono_ms){(int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000};
}

/* --- forms --- */

/* A head like the parent's, for a body in that coding. NULL: no room. `old`: whose body it takes over; else its body is
 * to come. */
static struct stored *form_create(struct store_thread *t, const struct stored *s, enum coding coding, size_t length,
                                  struct stored *old, struct mono_ms now)
{
    struct field fields[STORED_FIELDS_MAX + 2];
    char etag[ETAG_MAX + 2];
    struct stored_view view;
    struct stored_options options = {
        .kind = STORED_RESPONSE,
        .key = BYTES_LIT(""),
        .user_scope = s->head->user_scope,
        .status = s->head->status,
        .date = stored_date(s),
        .prepared = &prepared_heads,
        .lifetimes = stored_lifetimes(s),
        .response_time = s->response_time,
        .useful_ms = stored_useful_ms(s),
        .born = s->born,
        .content_length = (int64_t)length,
    };

    if (stored_value(s, BYTES_LIT("etag")).n > ETAG_MAX)
        return NULL;
    options.fields.v = fields;
    options.fields.n = compress_fields(stored_fields(s, &view), coding, fields, etag);
    return old != NULL ? stored_create_freshened(t, &options, old, now) : stored_create(t, &options, now);
}

void coder_carry_over(struct store_thread *t, struct stored *old, struct stored *s, struct mono_ms now)
{
    if (old->head->forms == 0 || old->head->forms != s->head->forms)
        return;
    for (enum coding c = 0; c < CODINGS; c++) {
        struct stored *theirs = stored_form(old, c);
        struct stored *form = theirs != NULL ? form_create(t, s, c, 0, theirs, now) : NULL;

        if (form != NULL || stored_form_state(old, c) == FORM_REFUSED)
            form_adopt(t, s, c, form, now);
    }
}

/* --- jobs --- */

static enum codec_end code(const struct coder *coder, const struct job *j, struct codec_buffer *out)
{
    uint64_t length = stored_length(j->s);

    if (j->coding == CODING_IDENTITY)
        return codec_decode(coder_came_in(j->s), j->s, unpack_bytes_max(length, j->object_max), &coder->stopping, out);
    return codec_encode(j->coding, j->level, j->s, compress_bytes_max(length), &coder->stopping, out);
}

static struct stored *form_of(struct store_thread *t, const struct job *j, const struct codec_buffer *out)
{
    struct mono_ms now = mono_now();
    struct stored *form = form_create(t, j->s, j->coding, out->n, NULL, now);

    if (form == NULL || !stored_append(t, form, (struct bytes){out->p, out->n}, now)) {
        stored_release(form);
        return NULL;
    }
    stored_finish_body(form, BODY_COMPLETE);
    return form;
}

static void add(_Atomic uint64_t *figure, uint64_t n)
{
    atomic_fetch_add_explicit(figure, n, memory_order_release);
}

/* The claim ends here. What the figures tell has happened by then. */
static void work(struct coder *coder, struct store_thread *t, struct job *j, struct codec_buffer *out)
{
    struct stored *form = NULL;

    if (!store_holds(t, j->s)) {
        form_give_up(j->s, j->coding, false);
        return;
    }
    if (code(coder, j, out) == CODEC_OK)
        form = form_of(t, j, out);
    if (form == NULL) {
        form_give_up(j->s, j->coding, true);
        add(&coder->figures[j->coding].refused, 1);
        return;
    }
    store_put_form(t, j->s, j->coding, form);
    add(&coder->figures[j->coding].bytes_before, stored_length(j->s));
    add(&coder->figures[j->coding].bytes_after, out->n);
    add(&coder->figures[j->coding].made, 1);
}

/* Out of the list, those who wait for that. */
static struct coder_waiter *take_waiters(struct coder *coder, const struct job *j)
{
    struct coder_waiter *taken = NULL, **p = &coder->waiters;

    pthread_mutex_lock(&coder->lock);
    while (*p != NULL) {
        struct coder_waiter *w = *p;

        if (w->of != j->s || w->coding != j->coding) {
            p = &w->next;
            continue;
        }
        *p = w->next;
        w->next = taken;
        taken = w;
    }
    pthread_mutex_unlock(&coder->lock);
    return taken;
}

static void end_job(struct coder *coder, struct job *j)
{
    struct coder_waiter *w = take_waiters(coder, j);

    while (w != NULL) {
        struct coder_waiter *next = w->next;

        loop_post(w->loop, &w->message); /* it may be gone from here on */
        w = next;
    }
    stored_release(j->s);
    free(j);
}

/* NULL: it is over. */
static struct job *take_job(struct coder *coder, struct store_thread *t)
{
    struct job *j;

    pthread_mutex_lock(&coder->lock);
    while (coder->first == NULL && !coder->stopping) {
        struct timespec until;

        clock_gettime(CLOCK_MONOTONIC, &until);
        until.tv_nsec += POLL_MS * 1000000;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        pthread_cond_timedwait(&coder->wanted, &coder->lock, &until);
        pthread_mutex_unlock(&coder->lock);
        store_thread_poll(t);
        pthread_mutex_lock(&coder->lock);
    }
    j = coder->stopping ? NULL : coder->first;
    if (j != NULL) {
        coder->first = j->next;
        if (coder->first == NULL)
            coder->end = &coder->first;
        coder->njobs--;
    }
    pthread_mutex_unlock(&coder->lock);
    return j;
}

static void *run(void *data)
{
    struct coder *coder = data;
    struct store_thread *t = store_thread_create(coder->store);
    struct codec_buffer out = {NULL, 0, 0};
    struct job *j;

    if (t == NULL)
        abort();
    /* Linux takes a thread's id here */
    setpriority(PRIO_PROCESS, (id_t)syscall(SYS_gettid), NICE);
    while ((j = take_job(coder, t)) != NULL) {
        work(coder, t, j, &out);
        end_job(coder, j);
        store_thread_poll(t);
        if (out.capacity > BUFFER_KEPT)
            codec_buffer_free(&out);
    }
    codec_buffer_free(&out);
    store_thread_destroy(t);
    return NULL;
}

static struct job *job_create(struct stored *s, enum coding coding, unsigned level, uint64_t object_max)
{
    struct job *j = malloc(sizeof *j);

    if (j != NULL)
        *j = (struct job){NULL, stored_retain(s), coding, level, object_max};
    return j;
}

static bool add_job(struct coder *coder, struct job *j)
{
    pthread_mutex_lock(&coder->lock);
    bool room = coder->njobs < JOBS_MAX && !coder->stopping;

    if (room) {
        *coder->end = j;
        coder->end = &j->next;
        coder->njobs++;
        pthread_cond_signal(&coder->wanted);
    }
    pthread_mutex_unlock(&coder->lock);
    return room;
}

void coder_want(struct coder *coder, struct store_thread *t, struct stored *s, enum coding coding, unsigned level,
                uint64_t object_max, struct mono_ms now)
{
    if (!form_claim(t, s, coding, now))
        return;
    struct job *j = job_create(s, coding, level, object_max);

    if (j != NULL && add_job(coder, j))
        return;
    form_give_up(s, coding, false);
    if (j != NULL)
        end_job(coder, j);
}

/* Who made the form has said so before he looks for waiters. */
bool coder_wait(struct coder *coder, struct coder_waiter *waiter)
{
    pthread_mutex_lock(&coder->lock);
    bool waits = !coder->stopping && stored_form_state(waiter->of, waiter->coding) == FORM_CLAIMED;

    if (waits) {
        waiter->next = coder->waiters;
        coder->waiters = waiter;
    }
    pthread_mutex_unlock(&coder->lock);
    return waits;
}

/* --- life --- */

struct coder *coder_create(struct store *store, unsigned threads)
{
    struct coder *coder = calloc(1, sizeof *coder);
    pthread_condattr_t monotonic;

    if (coder == NULL || (coder->threads = calloc(threads, sizeof coder->threads[0])) == NULL)
        abort();
    coder->store = store;
    coder->end = &coder->first;
    pthread_mutex_init(&coder->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&coder->wanted, &monotonic);
    pthread_condattr_destroy(&monotonic);
    for (; coder->nthreads < threads; coder->nthreads++)
        if (pthread_create(&coder->threads[coder->nthreads], NULL, run, coder) != 0)
            abort();
    return coder;
}

void coder_stop(struct coder *coder)
{
    struct job *j;

    pthread_mutex_lock(&coder->lock);
    coder->stopping = true;
    pthread_cond_broadcast(&coder->wanted);
    pthread_mutex_unlock(&coder->lock);
    for (unsigned i = 0; i < coder->nthreads; i++)
        pthread_join(coder->threads[i], NULL);
    coder->nthreads = 0;
    while ((j = coder->first) != NULL) {
        coder->first = j->next;
        form_give_up(j->s, j->coding, true);
        end_job(coder, j);
    }
}

void coder_destroy(struct coder *coder)
{
    if (coder == NULL)
        return;
    pthread_cond_destroy(&coder->wanted);
    pthread_mutex_destroy(&coder->lock);
    free(coder->threads);
    free(coder);
}

void coder_count_stream(struct coder *coder)
{
    add(&coder->streamed, 1);
}

void coder_figures(const struct coder *coder, struct coder_figures *out)
{
    for (enum coding c = 0; c < CODINGS; c++) {
        out->codings[c].made = atomic_load_explicit(&((struct coder *)coder)->figures[c].made, memory_order_acquire);
        out->codings[c].bytes_before =
            atomic_load_explicit(&((struct coder *)coder)->figures[c].bytes_before, memory_order_relaxed);
        out->codings[c].bytes_after =
            atomic_load_explicit(&((struct coder *)coder)->figures[c].bytes_after, memory_order_relaxed);
        out->codings[c].refused =
            atomic_load_explicit(&((struct coder *)coder)->figures[c].refused, memory_order_acquire);
    }
    out->streamed = atomic_load_explicit(&((struct coder *)coder)->streamed, memory_order_acquire);
}
