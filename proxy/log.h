/*
 * The event log (stderr, one line an event, at most 50 a second) and the access log (one line a request), which a
 * thread of its own writes, so that no event loop waits for a disk.
 *
 * Errors   A log that cannot keep up drops whole lines and says how many once it can write again. Where nobody reads
 * what is written (a pipe, a terminal), nobody waits for it long.
 * Threads  Any. log_create and log_destroy while there is one thread: what libraries print to stderr goes through the
 * log, too.
 */
#ifndef WEIR_PROXY_LOG_H
#define WEIR_PROXY_LOG_H

#include <stdint.h>
#include <sys/types.h>

#include "conf/conf.h"
#include "policies/bytes.h"

struct log;

struct log *log_create(void);
/* Writes out what is pending, for so long at most; what is left then is lost, and said to be. No line is written any
 * more, though some may still come. */
void log_end(struct log *log, int64_t max_ms);
void log_destroy(struct log *log); /* after log_end */

/* Opens what conf says (0), or says what is wrong (-1) and changes nothing. A file that is open under that name already
 * stays: it may be one that could not be opened again. */
int log_configure(struct log *log, const struct conf *conf, char *err, size_t err_cap);
int log_reopen(struct log *log, char *err, size_t err_cap);
/* Makes the file the user's, who is to open it again. Not where its name is a link or one of several: then it may be
 * somebody's who can write the directory and nothing else. */
void log_give(struct log *log, uid_t user);

bool log_access_on(const struct log *log);

struct access_line {
    int64_t wall_ms;
    struct bytes client, method, host, target, route, referer, user_agent;
    bool http2;
    int status;
    uint64_t bytes, duration_us;
    const char *cache; /* outcome's word */
    bool complete;     /* false: the client left or the answer broke off */
};
void log_access(struct log *log, const struct access_line *a);

void log_event(struct log *log, enum conf_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#endif
