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

/* Only where s->head->forms is not 0. */
struct form_choice forms_choose(struct request *r, struct stored *s);

/* Why a request gets the body of what has no coding as it is, whichever forms there are. */
enum form_bar {
    FORM_NO_BAR,
    FORM_OFF,
    FORM_NO_ACCEPT_ENCODING,
    FORM_NO_COMPRESSION,
    FORM_RANGE,
    FORM_USER,
    FORM_IDENTITY,
    FORM_NO_TRANSFORM,
};

/* For who wants to know (explain.h): *wanted is the coding that it would get. */
enum form_bar forms_bar(const struct compress_rules *rules, bool user_scope, struct fields request,
                        enum coding *wanted);

/* Where there is no such form: may it go out in that coding all the same, packed on the way (packer.h)? Of an answer
 * that has just come, or is coming, and only where the route asks for it. */
bool forms_may_stream(const struct request *r, const struct stored *s);

/* Has the one that is wanted made, if it can be: of what is stored. True: it is being made now. */
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
