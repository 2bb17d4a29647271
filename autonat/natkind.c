#include "autonat/natkind.h"

#include <stdlib.h>
#include <string.h>

#define NET_BITS 24 /* of IPv4, twice as many of IPv6: one network is one witness; sheet 1 */

/* ---- samples --------------------------------------------------------------------------------------- */

void wr_natkind_reset(struct wr_natkind *k)
{
    k->count = 0;
}

static void drop(struct wr_natkind *k, size_t i)
{
    k->count--;
    memmove(&k->of[i], &k->of[i + 1], (k->count - i) * sizeof(k->of[0]));
}

void wr_natkind_add(struct wr_natkind *k, const struct wr_natkind_sample *sample)
{
    for (size_t i = k->count; i > 0; i--)
        if (wr_addr_equal(&k->of[i - 1].remote, &sample->remote) &&
            wr_addr_equal(&k->of[i - 1].local, &sample->local))
            drop(k, i - 1);
    if (k->count == WR_NATKIND_SAMPLES)
        drop(k, 0);
    size_t at = k->count++;
    for (; at > 0 && k->of[at - 1].at > sample->at; at--)
        k->of[at] = k->of[at - 1];
    k->of[at] = *sample;
}

/* What is judged: the fresh samples of the socket that has most of them. */
struct view {
    const struct wr_natkind_sample *of[WR_NATKIND_SAMPLES];
    size_t count;
    bool first[WR_NATKIND_SAMPLES]; /* the newest one of its network: that is its vote */
    size_t networks;
};

static size_t fresh_of(const struct wr_natkind *k, const struct wr_addr *local, wr_time now,
                       const struct wr_natkind_sample **out)
{
    size_t n = 0;
    for (size_t i = 0; i < k->count; i++) {
        if (now - k->of[i].at >= WR_NATKIND_AGE || !wr_addr_equal(&k->of[i].local, local))
            continue;
        if (out)
            out[n] = &k->of[i];
        n++;
    }
    return n;
}

static void count_networks(struct view *v, unsigned bits)
{
    v->networks = 0;
    for (size_t i = v->count; i > 0; i--) {
        bool seen = false;
        for (size_t j = i; j < v->count && !seen; j++)
            seen = wr_ip_same_prefix(&v->of[i - 1]->remote.ip, &v->of[j]->remote.ip,
                                     v->of[j]->remote.ip.family == 4 ? bits : 2 * bits);
        v->first[i - 1] = !seen;
        v->networks += !seen;
    }
}

static void look(const struct wr_natkind *k, wr_time now, struct view *v)
{
    const struct wr_natkind_sample *best = NULL;
    size_t most = 0;
    *v = (struct view){.count = 0};
    for (size_t i = 0; i < k->count; i++) {
        size_t n = fresh_of(k, &k->of[i].local, now, NULL);
        if (n > most) {
            most = n;
            best = &k->of[i];
        }
    }
    if (!best)
        return;
    v->count = fresh_of(k, &best->local, now, v->of);
    count_networks(v, NET_BITS);
    if (v->networks < WR_NATKIND_FEW)
        count_networks(v, 32);
}

/* ---- mapping --------------------------------------------------------------------------------------- */

static size_t votes_for(const struct view *v, const struct wr_addr *seen)
{
    size_t n = 0;
    for (size_t i = 0; i < v->count; i++)
        n += v->first[i] && wr_addr_equal(&v->of[i]->seen, seen);
    return n;
}

static bool first_to_say(const struct view *v, size_t i)
{
    for (size_t k = 0; k < i; k++)
        if (v->first[k] && wr_addr_equal(&v->of[k]->seen, &v->of[i]->seen))
            return false;
    return true;
}

static size_t votes_for_ip(const struct view *v, const struct wr_ip *ip)
{
    size_t n = 0;
    for (size_t i = 0; i < v->count; i++)
        n += v->first[i] && wr_ip_equal(&v->of[i]->seen.ip, ip);
    return n;
}

/* Two connections to one address, to other ports: does the outside port differ? Pairs that do against
 * pairs that do not; without any the stricter kind is assumed, which is the commoner one, too. */
static enum wr_nat_mapping hard_kind(const struct view *v)
{
    size_t same = 0, other = 0;
    for (size_t i = 0; i < v->count; i++) {
        for (size_t k = 0; k < i; k++) {
            const struct wr_natkind_sample *a = v->of[i], *b = v->of[k];
            if (!wr_ip_equal(&a->remote.ip, &b->remote.ip) || a->remote.port == b->remote.port)
                continue;
            /* A port that was kept both times says nothing. */
            if (a->seen.port == a->local.port && b->seen.port == b->local.port)
                continue;
            if (wr_addr_equal(&a->seen, &b->seen))
                same++;
            else
                other++;
        }
    }
    return same > other ? WR_NAT_MAP_ADM : WR_NAT_MAP_APDM;
}

/* Those who see our outside address with another port than our own, which most see. */
struct dissent {
    size_t networks, ports;
};

static struct dissent dissent_from(const struct view *v, const struct wr_addr *kept)
{
    struct dissent d = {0, 0};
    for (size_t i = 0; i < v->count; i++) {
        const struct wr_addr *seen = &v->of[i]->seen;
        bool other = wr_ip_equal(&seen->ip, &kept->ip) && seen->port != kept->port;
        d.networks += other && v->first[i];
        d.ports += other && v->first[i] && first_to_say(v, i);
    }
    return d;
}

/* Most see `kept`, with the port that we chose. A NAT that keeps ports looks like that whether it has one mapping
 * for everybody or one for each, until another machine has our port towards somebody: he sees another one. A
 * single one who says so may lie. Several with one and the same port tell of a mapping that was renewed. */
static enum wr_nat_mapping kept_port(const struct view *v, const struct wr_addr *kept)
{
    struct dissent d = dissent_from(v, kept);
    if (WR_NATKIND_DOUBT * d.networks < v->networks)
        return WR_NAT_MAP_EIM;
    return d.ports >= 2 && 5 * d.networks > v->networks ? hard_kind(v) : WR_NAT_MAP_UNKNOWN;
}

static enum wr_nat_mapping mapping(const struct view *v)
{
    size_t best = 0, different = 0;
    const struct wr_addr *most = NULL;
    for (size_t i = 0; i < v->count; i++) {
        size_t n = votes_for(v, &v->of[i]->seen);
        most = n > best ? &v->of[i]->seen : most;
        best = n > best ? n : best;
        different += v->first[i] && first_to_say(v, i);
    }
    if (!most || v->networks < 2)
        return WR_NAT_MAP_UNKNOWN;
    size_t plain = votes_for(v, &v->of[0]->local);
    if (2 * plain > v->networks)
        return WR_NAT_MAP_NONE;
    if (2 * best > v->networks && most->port == v->of[0]->local.port && dissent_from(v, most).networks)
        return kept_port(v, most);
    if (best >= 2 && 3 * best >= 2 * v->networks)
        return WR_NAT_MAP_EIM;
    /* Two halves that each agree are a mapping that was renewed, or many liars: no saying yet. */
    if (v->networks >= WR_NATKIND_FEW && 2 * best <= v->networks && 2 * different > v->networks)
        return hard_kind(v);
    return WR_NAT_MAP_UNKNOWN;
}

static enum wr_nat_answer pooling(const struct view *v)
{
    size_t most = 0;
    for (size_t i = 0; i < v->count; i++) {
        size_t n = votes_for_ip(v, &v->of[i]->seen.ip);
        most = n > most ? n : most;
    }
    /* One in five may lie, so two have to see another address than most, and more than a fifth. */
    size_t others = v->networks - most;
    if (others >= 2 && 5 * others > v->networks)
        return WR_NAT_ANSWER_YES;
    return v->networks >= WR_NATKIND_FEW && others == 0 ? WR_NAT_ANSWER_NO : WR_NAT_ANSWER_UNKNOWN;
}

/* ---- ports in a row -------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(double *of, size_t count)
{
    qsort(of, count, sizeof(of[0]), by_value);
    return count % 2 ? of[count / 2] : (of[count / 2 - 1] + of[count / 2]) / 2;
}

struct row {
    double slope, start; /* port = start + slope * number of the mapping */
    double error;        /* median distance from that */
};

/* Theil and Sen: the median of the slopes of all pairs; up to 29 % of wrong samples do not move it. */
static void fit(const struct view *v, struct row *out)
{
    double slopes[WR_NATKIND_SAMPLES * (WR_NATKIND_SAMPLES - 1) / 2], rest[WR_NATKIND_SAMPLES];
    size_t n = 0;
    for (size_t i = 0; i < v->count; i++)
        for (size_t k = 0; k < i; k++)
            slopes[n++] = ((double)v->of[i]->seen.port - v->of[k]->seen.port) / (double)(i - k);
    out->slope = median(slopes, n);
    for (size_t i = 0; i < v->count; i++)
        rest[i] = v->of[i]->seen.port - out->slope * (double)i;
    out->start = median(rest, v->count);
    for (size_t i = 0; i < v->count; i++) {
        double d = v->of[i]->seen.port - out->start - out->slope * (double)i;
        rest[i] = d < 0 ? -d : d;
    }
    out->error = median(rest, v->count);
}

/* The largest number that four in five distances between neighbours in the row are multiples of:
 * mappings of others make a distance longer by whole steps. */
static int step_of(const struct view *v, const struct row *row)
{
    double ports[WR_NATKIND_SAMPLES];
    size_t n = 0;
    for (size_t i = 0; i < v->count; i++) {
        double d = v->of[i]->seen.port - row->start - row->slope * (double)i;
        if ((d < 0 ? -d : d) <= 4 * row->error + WR_NATKIND_STEP_MAX)
            ports[n++] = v->of[i]->seen.port;
    }
    qsort(ports, n, sizeof(ports[0]), by_value);
    int step = WR_NATKIND_STEP_MAX;
    for (; step > 1; step--) {
        size_t multiples = 0;
        for (size_t i = 1; i < n; i++) {
            int d = (int)(ports[i] - ports[i - 1]);
            multiples += d > 0 && d % step == 0;
        }
        if (n > 1 && 5 * multiples >= 4 * (n - 1))
            break;
    }
    return row->slope < 0 ? -step : step;
}

/* Mappings of others in a thousand seconds: what the ports moved on beyond our own. */
static unsigned rate_of(const struct view *v, const struct row *row, int step)
{
    wr_time took = v->of[v->count - 1]->at - v->of[0]->at;
    double made = row->slope / step, ours = 1;
    if (took < WR_SEC || made <= ours)
        return 0;
    double others = (made - ours) * (double)(v->count - 1);
    double milli = others * 1000 / ((double)took / (double)WR_SEC);
    return milli < 1e9 ? (unsigned)milli : 1000000000u;
}

static void range(const struct view *v, struct wr_nat_kind *out)
{
    out->port_lo = out->port_hi = v->of[0]->seen.port;
    for (size_t i = 1; i < v->count; i++) {
        uint16_t port = v->of[i]->seen.port;
        out->port_lo = port < out->port_lo ? port : out->port_lo;
        out->port_hi = port > out->port_hi ? port : out->port_hi;
    }
}

static enum wr_nat_alloc in_a_row(const struct view *v, struct wr_nat_kind *out)
{
    struct row row;
    if (v->count < WR_NATKIND_FEW)
        return WR_NAT_ALLOC_UNKNOWN;
    fit(v, &row);
    double slope = row.slope < 0 ? -row.slope : row.slope;
    if (slope >= 0.5 && slope <= WR_NATKIND_STEP_MAX && row.error <= 2 * slope) {
        out->step = step_of(v, &row);
        out->rate_milli = rate_of(v, &row, out->step);
        return WR_NAT_ALLOC_SEQUENTIAL;
    }
    if (out->port_hi - out->port_lo >= WR_NATKIND_BLOCK_MAX)
        return WR_NAT_ALLOC_RANDOM;
    return v->count >= WR_NATKIND_BLOCK ? WR_NAT_ALLOC_BLOCK : WR_NAT_ALLOC_UNKNOWN;
}

static enum wr_nat_alloc alloc(const struct view *v, struct wr_nat_kind *out)
{
    size_t kept = 0;
    for (size_t i = 0; i < v->count; i++)
        kept += v->first[i] && v->of[i]->seen.port == v->of[i]->local.port;
    /* By chance hardly anybody sees our own port. */
    if (v->networks >= 2 && 2 * kept > v->networks)
        return WR_NAT_ALLOC_PRESERVING;
    /* Of one mapping for everybody there is but one port to look at. */
    if (out->mapping != WR_NAT_MAP_ADM && out->mapping != WR_NAT_MAP_APDM)
        return WR_NAT_ALLOC_UNKNOWN;
    return in_a_row(v, out);
}

void wr_natkind_ports(const struct wr_natkind_sample *of, size_t count, struct wr_nat_kind *out)
{
    struct view v = {.count = count < WR_NATKIND_SAMPLES ? count : WR_NATKIND_SAMPLES};
    size_t kept = 0;
    if (v.count < WR_NATKIND_FEW)
        return;
    for (size_t i = 0; i < v.count; i++) {
        v.of[i] = &of[i];
        kept += of[i].seen.port == of[i].local.port;
    }
    range(&v, out);
    out->last_port = of[v.count - 1].seen.port;
    out->last_port_at = of[v.count - 1].at;
    out->alloc = 3 * kept >= 2 * v.count ? WR_NAT_ALLOC_PRESERVING : in_a_row(&v, out);
}

/* ---- judging --------------------------------------------------------------------------------------- */

bool wr_natkind_judge(const struct wr_natkind *k, wr_time now, struct wr_nat_kind *out)
{
    struct wr_nat_kind was = *out;
    struct view v;
    look(k, now, &v);
    out->samples = (unsigned)v.networks;
    out->mapping = mapping(&v);
    out->pooling = pooling(&v);
    out->step = 0;
    out->rate_milli = 0;
    out->last_port = out->port_lo = out->port_hi = 0;
    out->last_port_at = 0;
    out->alloc = WR_NAT_ALLOC_UNKNOWN;
    if (v.count) {
        range(&v, out);
        out->last_port = v.of[v.count - 1]->seen.port;
        out->last_port_at = v.of[v.count - 1]->at;
        out->alloc = alloc(&v, out);
    }
    return was.mapping != out->mapping || was.alloc != out->alloc || was.step != out->step ||
           was.pooling != out->pooling;
}

struct wr_ip wr_natkind_external(const struct wr_natkind *k, wr_time now)
{
    struct view v;
    struct wr_ip best = {.family = 0};
    size_t most = 0;
    look(k, now, &v);
    for (size_t i = 0; i < v.count; i++) {
        size_t n = votes_for_ip(&v, &v.of[i]->seen.ip);
        if (n > most) {
            most = n;
            best = v.of[i]->seen.ip;
        }
    }
    return best;
}
