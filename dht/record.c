#include "dht/record.h"

#include "dht/dht_msg.h"
#include "dht/ipns.h"
#include "transport/err.h"
#include "transport/peerid.h"

enum rule { RULE_NONE, RULE_PK, RULE_IPNS };

static enum rule rule_of(struct wr_bytes key, struct wr_bytes *name)
{
    static const struct {
        const char *prefix;
        enum rule rule;
    } rules[] = {{"/pk/", RULE_PK}, {"/ipns/", RULE_IPNS}};
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        struct wr_bytes prefix = wr_bytes_cstr(rules[i].prefix);
        if (wr_bytes_starts(key, prefix)) {
            *name = WR_BYTES(key.ptr + prefix.len, key.len - prefix.len);
            return rules[i].rule;
        }
    }
    return RULE_NONE;
}

int wr_record_check(struct wr_bytes key, struct wr_bytes value, int64_t unix_now)
{
    struct wr_peerid id, derived;
    struct wr_ipns record;
    struct wr_bytes name;
    enum rule rule = rule_of(key, &name);
    if (rule == RULE_NONE)
        return WR_EUNSUPPORTED;
    if (value.len > WR_DHT_VALUE_MAX || wr_peerid_decode(name, &id) != 0)
        return WR_EPROTO;
    if (rule == RULE_PK) {
        if (wr_peerid_from_pubkey(value, &derived) != 0)
            return WR_EPROTO;
        return wr_peerid_equal(&derived, &id) ? 0 : WR_EPEERID;
    }
    int rc = wr_ipns_open(value, &id, &record);
    if (rc == 0 && record.expires_at <= unix_now)
        rc = WR_ESTALE;
    return rc;
}

bool wr_record_known(struct wr_bytes key)
{
    struct wr_bytes name;
    return rule_of(key, &name) != RULE_NONE;
}

int wr_record_compare(struct wr_bytes key, struct wr_bytes a, struct wr_bytes b)
{
    struct wr_ipns of_a, of_b;
    struct wr_bytes name;
    if (rule_of(key, &name) != RULE_IPNS)
        return 0;
    bool good_a = wr_ipns_decode(a, &of_a) == 0, good_b = wr_ipns_decode(b, &of_b) == 0;
    if (!good_a || !good_b)
        return good_a - good_b;
    int order = wr_ipns_compare(&of_a, &of_b);
    return order != 0 ? order : wr_bytes_compare(a, b);
}
