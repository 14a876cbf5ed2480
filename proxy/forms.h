/*
 * Which form of a stored response a request is to get: the body as it came, or in another content coding.
 *
 * Threads  The request's worker.
 */
#ifndef WEIR_PROXY_FORMS_H
#define WEIR_PROXY_FORMS_H

#include "policies/compress.h"
#include "proxy/coder.h"
#include "proxy/request.h"

struct form_choice {
    struct stored *form; /* borrowed from s; s itself where it is to go out as it is */
    enum coding coding;  /* the one that is wanted; where form is s and this is not its own, it is still to be made */
    bool must_wait;      /* s is of no use to this client until then */
};

/* Only of what may have forms (coder_has_forms). */
struct form_choice forms_choose(struct request *r, struct stored *s);

/* Has the one that is wanted made, if it can be. True: it is being made now. */
bool forms_want(struct request *r, struct stored *s, enum coding coding);

/* At the end of a request: what it got as it came from the origin, because there was nothing else yet, is made in the
 * coding that it wants, so that the next one has it. */
void forms_prepare(struct request *r);

/* The answer waits until the form is there; then, or when there will be none, respond_stored runs again. False: it is
 * not being made. */
bool forms_wait(struct request *r, struct stored *s, enum coding coding, int64_t age_ms);
/* It waits no longer: its client has gone. Also where it does not wait. */
void forms_leave(struct request *r);

/* What a response that may be stored is to its route: head->forms. */
uint8_t forms_of_answer(const struct compress_rules *rules, const struct compress_facts *facts);

#endif
