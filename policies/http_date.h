/*
 * HTTP dates (RFC 9110 section 5.6.7): IMF-fixdate, rfc850-date and asctime-date, read strictly but for two things:
 * letters match in any case (RFC 9111 section 4.2), and the day of the week need not be that of the date.
 *
 * Threads  Pure, any thread.
 */
#ifndef WEIR_POLICIES_HTTP_DATE_H
#define WEIR_POLICIES_HTTP_DATE_H

#include "policies/bytes.h"
#include "policies/clock.h"

#define HTTP_DATE_LEN 29

/* False when the text is no valid HTTP date; *out is then untouched. `now` resolves two-digit years. */
bool http_date_parse(struct bytes text, struct wall_s now, struct wall_s *out);

/* Writes IMF-fixdate, the one form to be sent (RFC 9110 section 5.6.7), HTTP_DATE_LEN characters and a NUL. Times
 * outside the years 1 to 9999 become the nearest inside. */
void http_date_format(struct wall_s t, char out[HTTP_DATE_LEN + 1]);

#endif
