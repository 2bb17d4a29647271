/* The words that describe a translator. */
#include "nat.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEC         1000000000LL /* ns */
#define TEXT_MAX    512
#define SECONDS_MAX 86400

static const struct nat_options defaults = {
    .pool = 1,
    .mapping = NAT_INDEPENDENT,
    .filter = NAT_ENDPOINT,
    .ports = NAT_PRESERVE,
    .step = 1,
    .port_min = 1024,
    .port_max = 65535,
    .udp_timeout = 30 * SEC,          /* as Linux */
    .udp_stream_timeout = 120 * SEC,  /* as Linux */
    .tcp_opening_timeout = 120 * SEC, /* as Linux after a SYN */
    .tcp_timeout = 7440 * SEC,        /* RFC 5382, REQ-5 */
    .seed = 1,
};

static bool choose(const char *value, const char *const *names, unsigned *chosen)
{
    for (unsigned i = 0; names[i]; i++)
        if (strcmp(value, names[i]) == 0) {
            *chosen = i;
            return true;
        }
    return false;
}

static bool parse_axis(const char *value, const char *const *names, enum nat_axis *axis)
{
    unsigned chosen;
    bool known = choose(value, names, &chosen);
    if (known)
        *axis = (enum nat_axis)chosen;
    return known;
}

static bool parse_ports(const char *value, enum nat_ports *ports)
{
    unsigned chosen;
    bool known =
        choose(value, (const char *const[]){"preserve", "sequential", "random", NULL}, &chosen);
    if (known)
        *ports = (enum nat_ports)chosen;
    return known;
}

/* One of two words; the second means true. */
static bool parse_flag(const char *value, const char *no, const char *yes, bool *flag)
{
    unsigned chosen;
    bool known = choose(value, (const char *const[]){no, yes, NULL}, &chosen);
    if (known)
        *flag = chosen == 1;
    return known;
}

static bool parse_number(const char *value, unsigned long min, unsigned long max,
                         unsigned long *number)
{
    char *end;
    *number = strtoul(value, &end, 10);
    return *value >= '0' && *value <= '9' && *end == 0 && *number >= min && *number <= max;
}

static bool parse_seconds(const char *value, int64_t *ns)
{
    unsigned long number;
    bool good = parse_number(value, 1, SECONDS_MAX, &number);
    if (good)
        *ns = (int64_t)number * SEC;
    return good;
}

static bool parse_address(const char *value, uint32_t *address)
{
    struct in_addr addr;
    if (inet_pton(AF_INET, value, &addr) != 1)
        return false;
    *address = ntohl(addr.s_addr);
    return true;
}

static bool parse_range(char *value, struct nat_options *o)
{
    unsigned long min, max;
    char *dash = strchr(value, '-');
    if (!dash)
        return false;
    *dash = 0;
    if (!parse_number(value, 1, 65535, &min) || !parse_number(dash + 1, min, 65535, &max))
        return false;
    o->port_min = (uint16_t)min;
    o->port_max = (uint16_t)max;
    return true;
}

static bool parse_busy(char *value, struct nat_options *o)
{
    char *rest;
    for (char *one = strtok_r(value, ",", &rest); one; one = strtok_r(NULL, ",", &rest))
        if (o->busy_count == NAT_BUSY_MAX || !parse_address(one, &o->busy[o->busy_count++]))
            return false;
    return o->busy_count > 0;
}

static bool parse_count(const char *key, const char *value, struct nat_options *o)
{
    unsigned long number;
    if (strcmp(key, "pool") == 0 && parse_number(value, 1, NAT_POOL_MAX, &number))
        o->pool = (uint32_t)number;
    else if (strcmp(key, "step") == 0 && parse_number(value, 1, 1024, &number))
        o->step = (uint16_t)number;
    else if (strcmp(key, "sessions") == 0 && parse_number(value, 1, NAT_SESSIONS_MAX, &number))
        o->sessions_max = (uint32_t)number;
    else if (strcmp(key, "seed") == 0 && parse_number(value, 0, 0xffffffff, &number))
        o->seed = number;
    else
        return false;
    return true;
}

static bool parse_word(const char *key, char *value, struct nat_options *o)
{
    static const char *const mappings[] = {"eim", "adm", "apdm", NULL};
    static const char *const filters[] = {"eif", "adf", "apdf", NULL};
    if (strcmp(key, "address") == 0)
        return parse_address(value, &o->address);
    if (strcmp(key, "mapping") == 0)
        return parse_axis(value, mappings, &o->mapping);
    if (strcmp(key, "filter") == 0)
        return parse_axis(value, filters, &o->filter);
    if (strcmp(key, "ports") == 0)
        return parse_ports(value, &o->ports);
    if (strcmp(key, "range") == 0)
        return parse_range(value, o);
    if (strcmp(key, "pairing") == 0)
        return parse_flag(value, "paired", "arbitrary", &o->arbitrary);
    if (strcmp(key, "unsolicited") == 0)
        return parse_flag(value, "drop", "refuse", &o->refuse);
    if (strcmp(key, "hairpin") == 0)
        return parse_flag(value, "no", "yes", &o->hairpin);
    if (strcmp(key, "rst") == 0)
        return parse_flag(value, "ignored", "closes", &o->rst_closes);
    if (strcmp(key, "simultaneous") == 0)
        return parse_flag(value, "yes", "no", &o->no_simultaneous);
    if (strcmp(key, "udp-timeout") == 0)
        return parse_seconds(value, &o->udp_timeout);
    if (strcmp(key, "udp-stream-timeout") == 0)
        return parse_seconds(value, &o->udp_stream_timeout);
    if (strcmp(key, "tcp-opening-timeout") == 0)
        return parse_seconds(value, &o->tcp_opening_timeout);
    if (strcmp(key, "tcp-timeout") == 0)
        return parse_seconds(value, &o->tcp_timeout);
    if (strcmp(key, "busy") == 0)
        return parse_busy(value, o);
    return parse_count(key, value, o);
}

bool nat_parse(struct nat_options *options, const char *text, char *err, size_t err_size)
{
    char copy[TEXT_MAX], whole[TEXT_MAX], *rest;
    *options = defaults;
    if (strlen(text) >= sizeof(copy)) {
        snprintf(err, err_size, "longer than %d bytes", TEXT_MAX);
        return false;
    }
    memcpy(copy, text, strlen(text) + 1);
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *equals = strchr(word, '=');
        memcpy(whole, word, strlen(word) + 1);
        if (equals)
            *equals = 0;
        if (!equals || !parse_word(word, equals + 1, options)) {
            snprintf(err, err_size, "what does '%s' mean?", whole);
            return false;
        }
    }
    if (!options->address) {
        snprintf(err, err_size, "address=ADDR is missing");
        return false;
    }
    return true;
}
