#include "proxy/forms.h"

#include <stdlib.h>

#include "cache/store.h"
#include "policies/cache_control.h"
#include "proxy/respond.h"

/* What of a request is about codings; the number of fields where there is none. */
struct asked {
    size_t accept_encoding, cache_control;
    bool several, no_compression, range;
};

/* Most fields fail the one comparison of lengths: this runs on every hit on what may have forms. */
static inline __attribute__((always_inline)) struct asked asked_of(struct fields request)
{
    struct asked a = {request.n, request.n, false, false, false};

    for (size_t i = 0; i < request.n; i++) {
        struct bytes name = request.v[i].name;

        switch (name.n) {
        case 5:
            a.range |= bytes_eq(name, BYTES_LIT("range"));
            break;
        case 13:
            if (bytes_eq(name, BYTES_LIT("cache-control")))
                a.cache_control = i;
            break;
        case 15:
            if (bytes_eq(name, BYTES_LIT("accept-encoding"))) {
                a.several = a.accept_encoding < request.n;
                a.accept_encoding = a.several ? a.accept_encoding : i;
            }
            break;
        case 16:
            a.no_compression |= bytes_eq(name, BYTES_LIT("x-no-compression"));
            break;
        default:
            break;
        }
    }
    return a;
}

static struct wish_memo *memo_of(struct worker *w, struct bytes text)
{
    size_t at = text.n + (unsigned char)text.p[0] + 3 * (unsigned char)text.p[text.n - 1];

    return &w->wish_memos[at % WISH_MEMOS];
}

/* Kept out of the hits' way, as what else they hardly ever need. */
static __attribute__((noinline)) void learn(struct wish_memo *memo, struct fields request, size_t accept_encoding)
{
    struct bytes text = request.v[accept_encoding].value;

    memo->wishes = coding_wishes_of(request, accept_encoding);
    memcpy(memo->text, text.p, text.n);
    memo->n = (uint8_t)text.n;
}

static __attribute__((noinline)) const struct coding_wishes *read_wishes(struct fields request, size_t accept_encoding,
                                                                         struct coding_wishes *room)
{
    *room = coding_wishes_of(request, accept_encoding);
    return room;
}

/* Those of a memo, or in *room. */
static const struct coding_wishes *wishes_of(struct request *r, const struct asked *a, struct coding_wishes *room)
{
    struct fields request = r->in.fields;
    struct bytes text = a->accept_encoding < request.n ? request.v[a->accept_encoding].value : BYTES_NONE;

    if (text.n == 0 || text.n > WISH_MEMO_MAX || a->several)
        return read_wishes(request, a->accept_encoding, room);
    struct wish_memo *memo = memo_of(r->worker, text);

    if (memo->n != text.n || memcmp(memo->text, text.p, text.n) != 0)
        learn(memo, request, a->accept_encoding);
    return &memo->wishes;
}

/* RFC 9111 section 5.2.1.6. */
static bool forbids_transformation(const struct asked *a, struct fields request)
{
    return a->cache_control < request.n && cache_control_parse(request).no_transform;
}

static bool is_too_small(const struct stored *s, uint64_t min_size)
{
    return stored_body_state(s) == BODY_COMPLETE && stored_length(s) < min_size && coder_has_forms(s);
}

/* A range is one of the body as it came: its strong tag and its bytes belong together (RFC 9110 section 14.2 lets a
 * server choose the representation, and section 15.3.7.3 has parts joined by strong tags). So whoever asks for one gets
 * that body, also where the whole is sent after all. */
static enum form_bar bar_of(const struct compress_rules *rules, bool user_scope, const struct asked *a, size_t nfields)
{
    if (!rules->on)
        return FORM_OFF;
    if (a->accept_encoding == nfields)
        return FORM_NO_ACCEPT_ENCODING;
    if (a->no_compression)
        return FORM_NO_COMPRESSION;
    if (a->range)
        return FORM_RANGE;
    return user_scope && !rules->user ? FORM_USER : FORM_NO_BAR;
}

static struct form_choice choose_packed(struct request *r, struct stored *s, const struct asked *a)
{
    const struct compress_rules *rules = &r->route->conf->compress;
    struct form_choice as_it_is = {s, CODING_IDENTITY, false};

    if (bar_of(rules, s->head->user_scope, a, r->in.fields.n) != FORM_NO_BAR)
        return as_it_is;
    struct coding_wishes room;
    const struct coding_wishes *wishes = wishes_of(r, a, &room);
    enum coding coding = coding_choose(wishes, rules->encodings, rules->nencodings);

    if (coding == CODING_IDENTITY || is_too_small(s, rules->min_size) || forbids_transformation(a, r->in.fields))
        return as_it_is;
    struct stored *form = stored_form(s, coding);

    return (struct form_choice){form != NULL ? form : s, coding, !coding_is_acceptable(wishes, CODING_IDENTITY)};
}

enum form_bar forms_bar(const struct compress_rules *rules, bool user_scope, struct fields request, enum coding *wanted)
{
    struct asked a = asked_of(request);
    struct coding_wishes wishes = coding_wishes_of(request, a.accept_encoding);
    enum form_bar bar = bar_of(rules, user_scope, &a, request.n);

    *wanted = coding_choose(&wishes, rules->encodings, rules->nencodings);
    if (bar == FORM_NO_BAR && *wanted == CODING_IDENTITY)
        bar = FORM_IDENTITY;
    if (bar == FORM_NO_BAR && forbids_transformation(&a, request))
        bar = FORM_NO_TRANSFORM;
    if (bar != FORM_NO_BAR)
        *wanted = CODING_IDENTITY;
    return bar;
}

/* It came in a coding, and goes out in it to all who take that. */
static struct form_choice choose_unpacked(struct request *r, struct stored *s, const struct asked *a)
{
    struct coding_wishes room;
    const struct coding_wishes *wishes = wishes_of(r, a, &room);
    struct form_choice as_it_is = {s, coder_came_in(s), false};

    if (!r->route->conf->compress.on || coding_is_acceptable(wishes, as_it_is.coding) ||
        !coding_is_acceptable(wishes, CODING_IDENTITY) || forbids_transformation(a, r->in.fields))
        return as_it_is;
    struct stored *form = stored_form(s, CODING_IDENTITY);

    return (struct form_choice){form != NULL ? form : s, CODING_IDENTITY, true};
}

struct form_choice forms_choose(struct request *r, struct stored *s)
{
    struct asked a = asked_of(r->in.fields);

    return coder_came_in(s) == CODING_IDENTITY ? choose_packed(r, s, &a) : choose_unpacked(r, s, &a);
}

/* Whoever takes it from memory gets a form that is made once. A client of HTTP/1.0 could not tell where it ends. */
bool forms_may_stream(const struct request *r, const struct stored *s)
{
    return r->route->conf->compress.stream && coder_came_in(s) == CODING_IDENTITY && r->waiter.flight != NULL &&
           s == r->waiter.flight->response && r->req->version >= 0x101;
}

bool forms_want(struct request *r, struct stored *s, enum coding coding)
{
    struct worker *w = r->worker;
    const struct conf *conf = r->hold->snapshot->conf;

    if (stored_form_state(s, coding) == FORM_NONE && store_holds(w->store, s))
        coder_want(w->shared->coder, w->store, s, coding, r->route->conf->compress.levels[coding],
                   conf->memory_object_bytes_max, loop_now(w->loop));
    return stored_form_state(s, coding) == FORM_CLAIMED;
}

void forms_prepare(struct request *r)
{
    struct stored *s = r->sending;

    if (s == NULL || r->outcome == OUTCOME_HIT || !coder_has_forms(s) || !r->in.get ||
        stored_body_state(s) != BODY_COMPLETE)
        return;
    struct form_choice choice = forms_choose(r, s);

    if (choice.form == s && choice.coding != coder_came_in(s))
        forms_want(r, s, choice.coding);
}

/* --- waiting --- */

struct form_wait {
    struct coder_waiter waiter;
    struct request *request; /* NULL: it has gone */
    struct stored *s;
    int64_t age_ms;
};

static void on_made(struct message *m)
{
    struct form_wait *wait = H2O_STRUCT_FROM_MEMBER(struct form_wait, waiter.message, m);
    struct request *r = wait->request;

    if (r != NULL) {
        r->form_wait = NULL;
        r->waited_for_form = true;
        respond_again(r, wait->s, wait->age_ms);
    }
    stored_release(wait->s);
    free(wait);
}

bool forms_wait(struct request *r, struct stored *s, enum coding coding, int64_t age_ms)
{
    struct form_wait *wait = r->waited_for_form ? NULL : calloc(1, sizeof *wait);

    if (wait == NULL)
        return false;
    wait->waiter = (struct coder_waiter){.message.run = on_made, .loop = r->worker->loop, .of = s, .coding = coding};
    wait->request = r;
    wait->s = stored_retain(s);
    wait->age_ms = age_ms;
    if (!coder_wait(r->worker->shared->coder, &wait->waiter)) {
        stored_release(s);
        free(wait);
        return false;
    }
    r->form_wait = wait;
    request_park(r);
    return true;
}

void forms_leave(struct request *r)
{
    if (r->form_wait != NULL)
        r->form_wait->request = NULL;
    r->form_wait = NULL;
}

uint8_t forms_of_answer(const struct compress_rules *rules, const struct compress_facts *facts)
{
    return coder_forms_of(compress_judge(rules, facts), coding_of_response(facts->fields));
}
