#include "transport/protocols.h"

#include "transport/err.h"

#include <string.h>

void wr_protocols_init(struct wr_protocols *p)
{
    memset(p, 0, sizeof(*p));
}

void wr_protocols_clear(struct wr_protocols *p)
{
    for (size_t i = 0; i < p->count; i++)
        wr_free(p->of[i]);
    wr_protocols_init(p);
}

static size_t find(const struct wr_protocols *p, struct wr_bytes name)
{
    size_t i = 0;
    while (i < p->count && !wr_bytes_equal(wr_bytes_cstr(p->of[i]->name), name))
        i++;
    return i;
}

int wr_protocols_add(struct wr_protocols *p, const struct wr_protocol *protocol)
{
    size_t len = strnlen(protocol->name, sizeof(protocol->name));
    if (len == 0 || len > WR_PROTOCOL_NAME_MAX || protocol->name[0] != '/')
        return WR_EINVAL;
    if (find(p, wr_bytes_cstr(protocol->name)) < p->count)
        return WR_EEXIST;
    if (p->count == WR_PROTOCOLS_MAX)
        return WR_ELIMIT;
    struct wr_protocol *copy = wr_memdup(protocol, sizeof(*protocol));
    if (!copy)
        return WR_ELIMIT;
    p->of[p->count++] = copy;
    p->generation++;
    return 0;
}

bool wr_protocols_hide(struct wr_protocols *p, const char *name, bool hidden)
{
    size_t i = find(p, wr_bytes_cstr(name));
    if (i == p->count || p->of[i]->hidden == hidden)
        return false;
    p->of[i]->hidden = hidden;
    p->generation++;
    return true;
}

bool wr_protocols_remove(struct wr_protocols *p, const char *name)
{
    size_t i = find(p, wr_bytes_cstr(name));
    if (i == p->count)
        return false;
    wr_free(p->of[i]);
    p->count--;
    /* The order is the order of announcing: keep it. */
    memmove(&p->of[i], &p->of[i + 1], (p->count - i) * sizeof(p->of[0]));
    p->generation++;
    return true;
}

const struct wr_protocol *wr_protocols_find(const struct wr_protocols *p, struct wr_bytes name)
{
    size_t i = find(p, name);
    return i < p->count ? p->of[i] : NULL;
}
