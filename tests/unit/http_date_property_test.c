/*
 * HTTP dates of all three forms against a reference: the forms as regular expressions, the calendar as a count of days
 * year by year and month by month, the year of two digits by trying all years.
 */
#include <inttypes.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "mutate.h"
#include "policies/http_date.h"

#define RUNS 10000
#define DAY "(sun|mon|tue|wed|thu|fri|sat)"
#define LONG_DAY "(sunday|monday|tuesday|wednesday|thursday|friday|saturday)"
#define MONTH "(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
#define TIME "([0-9]{2}):([0-9]{2}):([0-9]{2})"

enum part { PART_DAY, PART_MONTH, PART_YEAR, PART_HOUR, PART_MINUTE, PART_SECOND, PARTS };

/* RFC 9110 section 5.6.7, letters of any case (RFC 9111 section 4.2); the place of each part in the expression. */
static struct form {
    const char *pattern;
    size_t place[PARTS];
    regex_t compiled;
} forms[] = {
    {.pattern = "^" DAY ", ([0-9]{2}) " MONTH " ([0-9]{4}) " TIME " GMT$", .place = {2, 3, 4, 5, 6, 7}},
    {.pattern = "^" LONG_DAY ", ([0-9]{2})-" MONTH "-([0-9]{2}) " TIME " GMT$", .place = {2, 3, 4, 5, 6, 7}},
    {.pattern = "^" DAY " " MONTH " ([0-9]{2}| [0-9]) " TIME " ([0-9]{4})$", .place = {3, 2, 7, 4, 5, 6}},
};

#define FORMS (sizeof(forms) / sizeof(forms[0]))
#define YEARS 10000

static int64_t days_before_year[YEARS + 1]; /* from 1970 on */

static bool leap(int year)
{
    return year % 400 == 0 || (year % 4 == 0 && year % 100 != 0);
}

static int month_days(int year, int month)
{
    static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

    return days[month - 1] + (month == 2 && leap(year));
}

static int set_up(void **state)
{
    int64_t days = 0;

    (void)state;
    for (int year = 1970; year <= YEARS; year++) {
        days_before_year[year] = days;
        days += 365 + leap(year);
    }
    days = 0;
    for (int year = 1969; year >= 0; year--) {
        days -= 365 + leap(year);
        days_before_year[year] = days;
    }
    for (size_t i = 0; i < FORMS; i++)
        if (regcomp(&forms[i].compiled, forms[i].pattern, REG_EXTENDED | REG_ICASE) != 0)
            return 1;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (size_t i = 0; i < FORMS; i++)
        regfree(&forms[i].compiled);
    return 0;
}

static int64_t seconds(const int *part)
{
    int64_t days = days_before_year[part[PART_YEAR]];

    for (int month = 1; month < part[PART_MONTH]; month++)
        days += month_days(part[PART_YEAR], month);
    days += part[PART_DAY] - 1;
    return ((days * 24 + part[PART_HOUR]) * 60 + part[PART_MINUTE]) * 60 + part[PART_SECOND];
}

static bool parts_valid(const int *part)
{
    return part[PART_DAY] >= 1 && part[PART_DAY] <= month_days(part[PART_YEAR], part[PART_MONTH]) &&
           part[PART_HOUR] <= 23 && part[PART_MINUTE] <= 59 && part[PART_SECOND] <= 60;
}

/* The parts of a moment, by trying; for times from 1970 on. */
static void parts_of(int64_t s, int *part)
{
    int64_t days = s / 86400;

    part[PART_YEAR] = 1970;
    part[PART_MONTH] = 1;
    while (days_before_year[part[PART_YEAR] + 1] <= days)
        part[PART_YEAR]++;
    days -= days_before_year[part[PART_YEAR]];
    for (; days >= month_days(part[PART_YEAR], part[PART_MONTH]); part[PART_MONTH]++)
        days -= month_days(part[PART_YEAR], part[PART_MONTH]);
    part[PART_DAY] = (int)days + 1;
    part[PART_HOUR] = (int)(s % 86400 / 3600);
    part[PART_MINUTE] = (int)(s % 3600 / 60);
    part[PART_SECOND] = (int)(s % 60);
}

/* Does a come after b, in the calendar? */
static bool parts_after(const int *a, const int *b)
{
    static const enum part order[] = {PART_YEAR, PART_MONTH, PART_DAY, PART_HOUR, PART_MINUTE, PART_SECOND};

    for (size_t i = 0; i < PARTS; i++)
        if (a[order[i]] != b[order[i]])
            return a[order[i]] > b[order[i]];
    return false;
}

/* The latest year with these last two digits in which the moment is not more than 50 years after now. */
static int full_year(const int *part, int two_digits, int64_t now)
{
    int candidate[PARTS], limit[PARTS];

    parts_of(now, limit);
    limit[PART_YEAR] += 50;
    memcpy(candidate, part, sizeof(candidate));
    for (int year = limit[PART_YEAR]; year >= 0; year--) {
        candidate[PART_YEAR] = year;
        if (year % 100 == two_digits && !parts_after(candidate, limit))
            return year;
    }
    return 0;
}

static int month_number(const char *name)
{
    static const char names[] = "janfebmaraprmayjunjulaugsepoctnovdec";
    char lower[4] = "";

    for (int i = 0; i < 3; i++)
        lower[i] = (char)(name[i] | 0x20);
    return (int)(strstr(names, lower) - names) / 3 + 1;
}

static bool reference(struct bytes value, int64_t now, int64_t *out)
{
    char text[MUTATE_MAX + 1];
    regmatch_t m[8];
    int part[PARTS];
    size_t i = 0;

    memcpy(text, value.p, value.n);
    text[value.n] = '\0';
    if (memchr(text, '\0', value.n) != NULL)
        return false;
    while (i < FORMS && regexec(&forms[i].compiled, text, 8, m, 0) != 0)
        i++;
    if (i == FORMS)
        return false;
    for (enum part p = 0; p < PARTS; p++) {
        const char *at = text + m[forms[i].place[p]].rm_so;

        part[p] = p == PART_MONTH ? month_number(at) : (int)strtol(at, NULL, 10);
    }
    if (i == 1)
        part[PART_YEAR] = full_year(part, part[PART_YEAR], now);
    if (!parts_valid(part))
        return false;
    if (part[PART_SECOND] == 60) /* a leap second has no number of its own */
        part[PART_SECOND] = 59;
    *out = seconds(part);
    return true;
}

static void assert_same(struct bytes text, int64_t now, size_t *dates)
{
    struct wall_s got = {INT64_MIN};
    int64_t expected = INT64_MIN;
    bool is = http_date_parse(text, (struct wall_s){now}, &got);

    if (is != reference(text, now, &expected) || got.s != expected)
        fail_msg("%s at %" PRId64 ": %d %" PRId64 ", not %" PRId64, mutate_show(text), now, is, got.s, expected);
    *dates += is;
}

/* Moments around today, around the ends of centuries, and any other. */
static int64_t some_now(struct mutate *m)
{
    static const int64_t edges[] = {1767225600, 1646006400, 0,          946684800, 951782400,
                                    4102444800, 4107542400, 1456704000, 1330473600};
    int64_t edge = edges[mutate_below(m, sizeof(edges) / sizeof(edges[0]))];

    if (mutate_below(m, 2) == 0)
        return (int64_t)mutate_below(m, INT64_C(86400) * 365 * 7000);
    return edge + (int64_t)mutate_below(m, 3 * 86400);
}

/* RFC 9110 section 5.6.7. */
static void any_text(void **state)
{
    static const char *const samples[] = {"Sun, 06 Nov 1994 08:49:37 GMT",    "Sunday, 06-Nov-94 08:49:37 GMT",
                                          "Sun Nov  6 08:49:37 1994",         "Thu, 29 Feb 2024 23:59:60 GMT",
                                          "Thursday, 29-Feb-00 00:00:00 GMT", "Wednesday, 31-Dec-75 23:59:59 GMT",
                                          "Fri Dec 31 23:59:59 9999",         NULL};
    static const char *const pieces[] = {"Sun",    "Mon,", "day",  "Tuesday, ", "wed, ", " Jan ", "-Feb-", "JUN",
                                         " Dec  ", "00",   "29",   "30",        "31",    "32",    "1900",  "2000",
                                         "24",     "60",   "61",   ":",         ":59",   " ",     "  ",    "-",
                                         ",",      " GMT", " gmt", " UTC",      "0",     "9",     NULL};
    struct mutate m = {.samples = samples, .pieces = pieces, .seed = 5};
    size_t dates = 0;

    (void)state;
    for (size_t run = mutate_runs(RUNS); run > 0; run--)
        assert_same(mutate_next(&m), some_now(&m), &dates);
    assert_true(dates > 0);
    mutate_end(&m);
}

/* Texts that have the form of a date, with each part in or a little out of its bounds. RFC 9110 section 5.6.7. */
static void near_dates(void **state)
{
    static const char *const none[] = {"", NULL};
    static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "sUN", NULL};
    static const char *const long_days[] = {"Sunday",   "Monday", "Tuesday",  "Wednesday",
                                            "Thursday", "FRIDAY", "Saturday", NULL};
    static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul",
                                         "Aug", "Sep", "Oct", "Nov", "Dec", "jan", NULL};
    struct mutate m = {.samples = none, .pieces = none, .seed = 6};
    size_t dates = 0;

    (void)state;
    for (size_t run = mutate_runs(RUNS); run > 0; run--) {
        int day = (int)mutate_below(&m, 33), hour = (int)mutate_below(&m, 25), minute = (int)mutate_below(&m, 61),
            second = (int)mutate_below(&m, 62), year = (int)mutate_below(&m, 10000);
        const char *month = mutate_one_of(&m, months);
        int64_t now = some_now(&m);
        char text[64];
        int n = 0, today[PARTS];

        parts_of(now, today);
        if (mutate_below(&m, 2) == 0) { /* about where the year of two digits turns */
            year = today[PART_YEAR] + 50;
            month = months[((size_t)today[PART_MONTH] + 10 + mutate_below(&m, 3)) % 12];
            day = mutate_below(&m, 2) == 0 ? today[PART_DAY] : day;
        }
        switch (mutate_below(&m, 3)) {
        case 0:
            n = snprintf(text, sizeof(text), "%s, %02d %s %04d %02d:%02d:%02d GMT", mutate_one_of(&m, days), day, month,
                         year, hour, minute, second);
            break;
        case 1:
            n = snprintf(text, sizeof(text), "%s, %02d-%s-%02d %02d:%02d:%02d GMT", mutate_one_of(&m, long_days), day,
                         month, year % 100, hour, minute, second);
            break;
        default:
            n = snprintf(text, sizeof(text), "%s %s %2d %02d:%02d:%02d %04d", mutate_one_of(&m, days), month, day, hour,
                         minute, second, year);
            break;
        }
        assert_same((struct bytes){text, (size_t)n}, now, &dates);
    }
    assert_true(dates > 0);
}

/* RFC 9110 section 5.6.7. */
static void what_is_written_is_read(void **state)
{
    static const char *const none[] = {"", NULL};
    struct mutate m = {.samples = none, .pieces = none, .seed = 7};

    (void)state;
    for (size_t run = mutate_runs(RUNS); run > 0; run--) {
        int64_t t = (int64_t)mutate_below(&m, INT64_C(315537897600)) - INT64_C(62135596800), expected = 0;
        struct wall_s got = {0};
        char out[HTTP_DATE_LEN + 1];

        http_date_format((struct wall_s){t}, out);
        assert_int_equal(strlen(out), HTTP_DATE_LEN);
        assert_true(reference(bytes_of(out), 0, &expected));
        assert_true(http_date_parse(bytes_of(out), (struct wall_s){0}, &got));
        if (got.s != t || expected != t)
            fail_msg("%" PRId64 " as %s: %" PRId64 ", %" PRId64, t, out, got.s, expected);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_text),
        cmocka_unit_test(near_dates),
        cmocka_unit_test(what_is_written_is_read),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
