/*
 * The forms of a stored response: its body in other content codings, each made once and kept with it.
 *
 * A form is a stored response of its own kind of life: it has a head and a body like any other, but no key and no place
 * in the store. Its parent owns it, so whatever takes the parent out of the store (eviction, purge, expiry, a newer
 * response) takes its forms along, and their bytes count like the parent's. Which number stands for which coding is the
 * caller's business.
 *
 * Making one takes long: whoever wants a form claims it, and exactly one caller gets the claim and makes it, in a
 * thread of his choice. What turned out not worth keeping is refused for good, so that nobody tries again.
 *
 * Ownership  The parent holds one reference to each form until its own end. stored_form borrows: the caller holds the
 * parent. Errors     A claim or a form may be declined at any time, for want of memory or because the parent has left
 * the store: the parent is as good without. Threads    Any thread. Looking takes no lock.
 */
#ifndef WEIR_CACHE_FORM_H
#define WEIR_CACHE_FORM_H

#include "cache/stored.h"

enum { FORMS_MAX = 4 };

enum form_state {
    FORM_NONE,
    FORM_CLAIMED, /* somebody makes it */
    FORM_MADE,
    FORM_REFUSED, /* there will never be one */
};

struct forms {
    struct stored *_Atomic made[FORMS_MAX]; /* from NULL once; moved while nobody looks */
    _Atomic uint8_t states[FORMS_MAX];      /* enum form_state */
};

/* NULL: there is none (yet), or cannot be (head->forms). */
static inline struct stored *stored_form(const struct stored *s, unsigned i)
{
    struct forms *forms = s->head->forms != 0 ? atomic_load_explicit(stored_forms(s), memory_order_acquire) : NULL;

    return forms == NULL ? NULL : atomic_load_explicit(&forms->made[i], memory_order_acquire);
}

enum form_state stored_form_state(const struct stored *s, unsigned i);

/* True once until it is given up: the caller makes the form, and ends the claim by one of the next two. */
bool form_claim(struct store_thread *t, struct stored *s, unsigned i, struct mono_ms now) MUST_USE;
/* `form` is complete; the reference is the parent's from here on, or dropped. False: the parent is not in the store. */
bool store_put_form(struct store_thread *t, struct stored *s, unsigned i, struct stored *form);
/* for_good: FORM_REFUSED, else it may be claimed again. */
void form_give_up(struct stored *s, unsigned i, bool for_good);

/* For a parent that nobody else knows yet: a form (the reference is taken over), or NULL: refused. False, and the
 * reference is dropped: no memory. */
bool form_adopt(struct store_thread *t, struct stored *s, unsigned i, struct stored *form, struct mono_ms now);

/* cache/ itself: over all forms (under the shard's lock where the parent is in the table), and the parent's end. */
size_t forms_sum(const struct stored *s, size_t (*weigh)(const struct stored *form));
void forms_destroy(struct stored *s);
/* For who moves them or their parent s, which is frozen (stored_freeze). forms_move: s is where it is now. form_move:
 * into room as large; returns the bytes; 0: somebody holds it, or it is none of its forms. */
void forms_move(struct stored *s);
size_t form_move(struct stored *s, struct stored *from, struct stored *to) MUST_USE;

#endif
