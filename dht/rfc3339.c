#include "dht/rfc3339.h"

#include "transport/err.h"

#include <stdio.h>

#define NS_PER_SEC  1000000000
#define SEC_PER_DAY 86400

/* Days since 1970-01-01 in the proleptic Gregorian calendar, counting years from March so that the
 * leap day comes last; an era is 400 years. */
static int64_t days_from_date(int64_t year, int64_t month, int64_t day)
{
    if (month <= 2)
        year--;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

static void date_from_days(int64_t days, int64_t *year, int64_t *month, int64_t *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    int64_t day_of_era = days - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t shifted = (5 * day_of_year + 2) / 153;
    *day = day_of_year - (153 * shifted + 2) / 5 + 1;
    *month = shifted < 10 ? shifted + 3 : shifted - 9;
    *year = year_of_era + era * 400 + (*month <= 2);
}

/* `count` decimal digits; sets r->bad for anything else. */
static int64_t read_digits(struct wr_reader *r, unsigned count)
{
    int64_t v = 0;
    for (unsigned i = 0; i < count; i++) {
        uint8_t c = wr_read_u8(r);
        r->bad = r->bad || c < '0' || c > '9';
        v = v * 10 + (c - '0');
    }
    return r->bad ? 0 : v;
}

static void read_mark(struct wr_reader *r, char mark)
{
    uint8_t c = wr_read_u8(r);
    /* Letters in either case: RFC 3339, 5.6. */
    r->bad = r->bad || (c != (uint8_t)mark && !(mark == 'T' && c == 't'));
}

static int64_t read_fraction(struct wr_reader *r)
{
    int64_t ns = 0, unit = NS_PER_SEC / 10;
    if (r->rest.len == 0 || r->rest.ptr[0] != '.')
        return 0;
    wr_read_u8(r);
    ns = read_digits(r, 1) * unit;
    while (!r->bad && r->rest.len > 0 && r->rest.ptr[0] >= '0' && r->rest.ptr[0] <= '9') {
        unit /= 10;
        ns += read_digits(r, 1) * unit;
    }
    return ns;
}

/* Seconds east of UTC. */
static int64_t read_offset(struct wr_reader *r)
{
    uint8_t sign = wr_read_u8(r);
    if (sign == 'Z' || sign == 'z')
        return 0;
    r->bad = r->bad || (sign != '+' && sign != '-');
    int64_t hours = read_digits(r, 2);
    read_mark(r, ':');
    int64_t minutes = read_digits(r, 2);
    r->bad = r->bad || hours > 23 || minutes > 59;
    return (sign == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
}

static bool date_exists(int64_t year, int64_t month, int64_t day)
{
    static const uint8_t days[12] = {31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (month < 1 || month > 12 || day < 1 || day > days[month - 1])
        return false;
    bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return leap || month != 2 || day <= 28;
}

int wr_rfc3339_parse(struct wr_bytes text, int64_t *unix_ns)
{
    struct wr_reader r;
    wr_reader_init(&r, text);
    int64_t year = read_digits(&r, 4);
    read_mark(&r, '-');
    int64_t month = read_digits(&r, 2);
    read_mark(&r, '-');
    int64_t day = read_digits(&r, 2);
    read_mark(&r, 'T');
    int64_t hour = read_digits(&r, 2);
    read_mark(&r, ':');
    int64_t minute = read_digits(&r, 2);
    read_mark(&r, ':');
    int64_t second = read_digits(&r, 2);
    int64_t fraction = read_fraction(&r);
    int64_t offset = read_offset(&r);
    if (!wr_reader_done(&r) || !date_exists(year, month, day) || hour > 23 || minute > 59 ||
        second > 60)
        return WR_EPROTO;
    int64_t seconds = days_from_date(year, month, day) * SEC_PER_DAY + hour * 3600 + minute * 60 +
                      second - offset;
    if (seconds >= INT64_MAX / NS_PER_SEC)
        *unix_ns = INT64_MAX;
    else if (seconds <= INT64_MIN / NS_PER_SEC)
        *unix_ns = INT64_MIN;
    else
        *unix_ns = seconds * NS_PER_SEC + fraction;
    return 0;
}

size_t wr_rfc3339_print(int64_t unix_ns, char out[static WR_RFC3339_TEXT])
{
    int64_t seconds = unix_ns / NS_PER_SEC, ns = unix_ns % NS_PER_SEC;
    if (ns < 0) {
        ns += NS_PER_SEC;
        seconds--;
    }
    int64_t days = seconds / SEC_PER_DAY, rest = seconds % SEC_PER_DAY, year, month, day;
    if (rest < 0) {
        rest += SEC_PER_DAY;
        days--;
    }
    date_from_days(days, &year, &month, &day);
    int len = snprintf(out, WR_RFC3339_TEXT, "%04d-%02d-%02dT%02d:%02d:%02d.%09d",
                       (int)(year % 10000), (int)month, (int)day, (int)(rest / 3600),
                       (int)(rest / 60 % 60), (int)(rest % 60), (int)ns);
    while (len > 0 && out[len - 1] == '0')
        len--;
    if (len > 0 && out[len - 1] == '.')
        len--;
    out[len++] = 'Z';
    out[len] = 0;
    return (size_t)len;
}
