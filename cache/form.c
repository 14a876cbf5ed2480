#include "cache/form.h"

#include <assert.h>
#include <string.h>

#include "cache/budget.h"
#include "cache/store_private.h"

static struct forms *forms_of(const struct stored *s)
{
    return s->head->forms != 0 ? atomic_load_explicit(stored_forms(s), memory_order_acquire) : NULL;
}

/* Those of s, made now if there are none: whoever comes first, the other's go. */
static struct forms *forms_take(struct store_thread *t, struct stored *s, struct mono_ms now)
{
    struct forms *forms = forms_of(s), *first = NULL;

    if (forms != NULL || s->head->forms == 0)
        return forms;
    forms = budget_alloc(t, SLAB_FIXED, sizeof *forms, now);
    if (forms == NULL)
        return NULL;
    for (unsigned i = 0; i < FORMS_MAX; i++) {
        atomic_init(&forms->made[i], NULL);
        atomic_init(&forms->states[i], FORM_NONE);
    }
    if (atomic_compare_exchange_strong_explicit(stored_forms(s), &first, forms, memory_order_acq_rel,
                                                memory_order_acquire))
        return forms;
    budget_free(s->head->store, forms, sizeof *forms);
    return first;
}

enum form_state stored_form_state(const struct stored *s, unsigned i)
{
    struct forms *forms = forms_of(s);

    return forms == NULL ? FORM_NONE : (enum form_state)atomic_load_explicit(&forms->states[i], memory_order_acquire);
}

bool form_claim(struct store_thread *t, struct stored *s, unsigned i, struct mono_ms now)
{
    struct forms *forms = stored_form_state(s, i) == FORM_NONE ? forms_take(t, s, now) : NULL;
    uint8_t none = FORM_NONE;

    return forms != NULL && atomic_compare_exchange_strong(&forms->states[i], &none, FORM_CLAIMED);
}

static void set(struct stored *s, struct forms *forms, unsigned i, struct stored *form)
{
    assert(atomic_load_explicit(&forms->made[i], memory_order_relaxed) == NULL);
    form->hash = s->hash;
    form->form_of = s;
    atomic_store_explicit(&forms->made[i], form, memory_order_release);
    atomic_store_explicit(&forms->states[i], FORM_MADE, memory_order_release);
}

/* Under the lock, since the parent's weight changes: what entered the pool with it leaves the pool with it. */
bool store_put_form(struct store_thread *t, struct stored *s, unsigned i, struct stored *form)
{
    struct shard *shard = shard_of(t->store, s->hash);

    assert(stored_body_state(form) == BODY_COMPLETE && form->head->forms == 0);
    pthread_mutex_lock(&shard->lock);
    bool held = s->place == PLACE_TABLE;

    if (held) {
        set(s, forms_of(s), i, form);
        atomic_fetch_add_explicit(&t->store->pools[s->head->user_scope], stored_weight(form), memory_order_relaxed);
    }
    pthread_mutex_unlock(&shard->lock);
    if (!held) {
        form_give_up(s, i, false);
        stored_release(form);
    }
    return held;
}

void form_give_up(struct stored *s, unsigned i, bool for_good)
{
    atomic_store_explicit(&forms_of(s)->states[i], for_good ? FORM_REFUSED : FORM_NONE, memory_order_release);
}

bool form_adopt(struct store_thread *t, struct stored *s, unsigned i, struct stored *form, struct mono_ms now)
{
    struct forms *forms = forms_take(t, s, now);

    assert(s->place == PLACE_NONE);
    if (forms == NULL) {
        stored_release(form);
        return false;
    }
    if (form != NULL)
        set(s, forms, i, form);
    else
        form_give_up(s, i, true);
    return true;
}

size_t forms_sum(const struct stored *s, size_t (*weigh)(const struct stored *form))
{
    struct forms *forms = forms_of(s);
    size_t sum = 0;

    for (unsigned i = 0; forms != NULL && i < FORMS_MAX; i++) {
        struct stored *form = atomic_load_explicit(&forms->made[i], memory_order_acquire);

        sum += form == NULL ? 0 : weigh(form);
    }
    return sum;
}

void forms_move(struct stored *s)
{
    struct forms *forms = forms_of(s);

    for (unsigned i = 0; forms != NULL && i < FORMS_MAX; i++) {
        struct stored *form = atomic_load_explicit(&forms->made[i], memory_order_relaxed);

        if (form != NULL)
            form->form_of = s;
    }
}

/* Who has taken a reference to it may have given up that of its parent. */
size_t form_move(struct stored *s, struct stored *from, struct stored *to)
{
    struct forms *forms = forms_of(s);

    for (unsigned i = 0; forms != NULL && i < FORMS_MAX; i++) {
        if (atomic_load_explicit(&forms->made[i], memory_order_relaxed) != from)
            continue;
        if (!stored_freeze(from))
            return 0;
        stored_move(from, to);
        atomic_store_explicit(&forms->made[i], to, memory_order_relaxed);
        return stored_bytes(from);
    }
    return 0;
}

void forms_destroy(struct stored *s)
{
    struct forms *forms = forms_of(s);

    if (forms == NULL)
        return;
    for (unsigned i = 0; i < FORMS_MAX; i++)
        stored_release(atomic_load_explicit(&forms->made[i], memory_order_relaxed));
    budget_free(s->head->store, forms, sizeof *forms);
}
