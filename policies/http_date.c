#include "policies/http_date.h"

#define SECONDS_PER_DAY INT64_C(86400)
/* 0001-01-01T00:00:00Z and 9999-12-31T23:59:59Z: what four digits of a year can say. */
#define FORMAT_MIN INT64_C(-62135596800)
#define FORMAT_MAX INT64_C(253402300799)

static const char short_days[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char *const long_days[7] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct moment {
    int64_t year;
    int month, day, hour, minute, second; /* month and day from 1 */
};

/* The proleptic Gregorian calendar, with years that begin in March so that the leap day comes last. */
static int64_t days_from_civil(int64_t year, int month, int day)
{
    int64_t y = month <= 2 ? year - 1 : year;
    int64_t era = (y >= 0 ? y : y - 399) / 400;
    int64_t year_of_era = y - era * 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;

    return era * 146097 + day_of_era - 719468;
}

static void civil_from_days(int64_t days, struct moment *m)
{
    int64_t z = days + 719468;
    int64_t era = (z >= 0 ? z : z - 146096) / 146097;
    int64_t day_of_era = z - era * 146097;
    int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month = (5 * day_of_year + 2) / 153;

    m->day = (int)(day_of_year - (153 * month + 2) / 5 + 1);
    m->month = (int)(month < 10 ? month + 3 : month - 9);
    m->year = year_of_era + era * 400 + (m->month <= 2);
}

static int64_t moment_seconds(const struct moment *m)
{
    /* A leap second has no place of its own; an expiry is never later than what was said (RFC 9111 section 4.2). */
    int second = m->second == 60 ? 59 : m->second;

    return days_from_civil(m->year, m->month, m->day) * SECONDS_PER_DAY + m->hour * 3600 + m->minute * 60 + second;
}

static bool moment_valid(const struct moment *m)
{
    static const int lengths[12] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (m->year % 4 == 0 && m->year % 100 != 0) || m->year % 400 == 0;

    return m->day >= 1 && m->day <= lengths[m->month - 1] + (leap && m->month == 2) && m->hour <= 23 &&
           m->minute <= 59 && m->second <= 60;
}

/* The take_ functions consume from the front of *s and say whether what was asked for was there. Letters are
 * compared without case (RFC 9111 section 4.2). */
static bool take(struct bytes *s, struct bytes text)
{
    if (s->n < text.n || !bytes_eq_nocase((struct bytes){s->p, text.n}, text))
        return false;
    s->p += text.n;
    s->n -= text.n;
    return true;
}

static bool take_number(struct bytes *s, size_t digits, int *out)
{
    int value = 0;

    if (s->n < digits)
        return false;
    for (size_t i = 0; i < digits; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        value = value * 10 + (s->p[i] - '0');
    }
    s->p += digits;
    s->n -= digits;
    *out = value;
    return true;
}

static bool take_year(struct bytes *s, int64_t *out)
{
    int year;

    if (!take_number(s, 4, &year))
        return false;
    *out = year;
    return true;
}

static bool take_char(struct bytes *s, char c)
{
    if (s->n == 0 || s->p[0] != c)
        return false;
    s->p++;
    s->n--;
    return true;
}

/* Three letters as a number, whatever their case: no other byte becomes a small letter by that bit. */
static uint32_t three_letters(const char *p)
{
    const unsigned char *u = (const unsigned char *)p;

    return (uint32_t)(u[0] | 0x20) << 16 | (uint32_t)(u[1] | 0x20) << 8 | (u[2] | 0x20);
}

/* Which of n words of three letters comes; -1: none. */
static int take_three_letters(struct bytes *s, const char (*words)[4], int n)
{
    uint32_t letters;

    if (s->n < 3)
        return -1;
    letters = three_letters(s->p);
    for (int i = 0; i < n; i++)
        if (letters == three_letters(words[i])) {
            s->p += 3;
            s->n -= 3;
            return i;
        }
    return -1;
}

static bool take_month(struct bytes *s, int *out)
{
    int month = take_three_letters(s, months, 12);

    *out = month + 1;
    return month >= 0;
}

/* Which day it is does not matter: a wrong one is redundant, not ambiguous. */
static bool take_short_day(struct bytes *s)
{
    return take_three_letters(s, short_days, 7) >= 0;
}

static bool take_long_day(struct bytes *s)
{
    for (int i = 0; i < 7; i++)
        if (take(s, bytes_of(long_days[i])))
            return true;
    return false;
}

static bool take_time(struct bytes *s, struct moment *m)
{
    return take_number(s, 2, &m->hour) && take_char(s, ':') && take_number(s, 2, &m->minute) && take_char(s, ':') &&
           take_number(s, 2, &m->second);
}

/* IMF-fixdate (RFC 9110 section 5.6.7): Sun, 06 Nov 1994 08:49:37 GMT */
static bool parse_imf_fixdate(struct bytes s, struct moment *m)
{
    return take_short_day(&s) && take(&s, BYTES_LIT(", ")) && take_number(&s, 2, &m->day) && take_char(&s, ' ') &&
           take_month(&s, &m->month) && take_char(&s, ' ') && take_year(&s, &m->year) && take_char(&s, ' ') &&
           take_time(&s, m) && take(&s, BYTES_LIT(" GMT")) && s.n == 0;
}

/* Grows from moment to moment also where a day is none of its year, which seconds do not: 29 February. */
static int64_t moment_order(const struct moment *m)
{
    return ((((m->year * 13 + m->month) * 32 + m->day) * 24 + m->hour) * 60 + m->minute) * 61 + m->second;
}

/* The latest such year that is not more than 50 years ahead (RFC 9110 section 5.6.7). */
static int64_t year_of_two_digits(const struct moment *m, int two_digits, struct wall_s now)
{
    int64_t second_of_day = now.s % SECONDS_PER_DAY;
    struct moment candidate = *m, limit = {.hour = (int)(second_of_day / 3600),
                                           .minute = (int)(second_of_day / 60 % 60),
                                           .second = (int)(second_of_day % 60)};

    civil_from_days(now.s / SECONDS_PER_DAY, &limit);
    limit.year += 50;
    candidate.year = limit.year - limit.year % 100 + 100 + two_digits;
    while (moment_order(&candidate) > moment_order(&limit))
        candidate.year -= 100;
    return candidate.year;
}

/* rfc850-date (RFC 9110 section 5.6.7): Sunday, 06-Nov-94 08:49:37 GMT */
static bool parse_rfc850(struct bytes s, struct wall_s now, struct moment *m)
{
    int two_digits;

    if (!(take_long_day(&s) && take(&s, BYTES_LIT(", ")) && take_number(&s, 2, &m->day) && take_char(&s, '-') &&
          take_month(&s, &m->month) && take_char(&s, '-') && take_number(&s, 2, &two_digits) && take_char(&s, ' ') &&
          take_time(&s, m) && take(&s, BYTES_LIT(" GMT")) && s.n == 0))
        return false;
    m->year = year_of_two_digits(m, two_digits, now);
    return true;
}

/* asctime-date (RFC 9110 section 5.6.7): Sun Nov  6 08:49:37 1994 */
static bool parse_asctime(struct bytes s, struct moment *m)
{
    if (!(take_short_day(&s) && take_char(&s, ' ') && take_month(&s, &m->month) && take_char(&s, ' ')))
        return false;
    if (take_char(&s, ' ') ? !take_number(&s, 1, &m->day) : !take_number(&s, 2, &m->day))
        return false;
    return take_char(&s, ' ') && take_time(&s, m) && take_char(&s, ' ') && take_year(&s, &m->year) && s.n == 0;
}

bool http_date_parse(struct bytes text, struct wall_s now, struct wall_s *out)
{
    struct moment m = {0};

    if (!parse_imf_fixdate(text, &m) && !parse_rfc850(text, now, &m) && !parse_asctime(text, &m))
        return false;
    if (!moment_valid(&m))
        return false;
    out->s = moment_seconds(&m);
    return true;
}

static char *put_number(char *p, int64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value /= 10)
        p[i] = (char)('0' + value % 10);
    return p + digits;
}

static char *put(char *p, const char *text, size_t n)
{
    memcpy(p, text, n);
    return p + n;
}

void http_date_format(struct wall_s t, char out[HTTP_DATE_LEN + 1])
{
    int64_t s = t.s < FORMAT_MIN ? FORMAT_MIN : t.s > FORMAT_MAX ? FORMAT_MAX : t.s;
    int64_t second_of_day = (s % SECONDS_PER_DAY + SECONDS_PER_DAY) % SECONDS_PER_DAY;
    int64_t days = (s - second_of_day) / SECONDS_PER_DAY;
    struct moment m;
    char *p = out;

    civil_from_days(days, &m);
    p = put(p, short_days[((days + 4) % 7 + 7) % 7], 3); /* day 0 was a Thursday */
    p = put(p, ", ", 2);
    p = put_number(p, m.day, 2);
    *p++ = ' ';
    p = put(p, months[m.month - 1], 3);
    *p++ = ' ';
    p = put_number(p, m.year, 4);
    *p++ = ' ';
    p = put_number(p, second_of_day / 3600, 2);
    *p++ = ':';
    p = put_number(p, second_of_day / 60 % 60, 2);
    *p++ = ':';
    p = put_number(p, second_of_day % 60, 2);
    put(p, " GMT", 5);
}
