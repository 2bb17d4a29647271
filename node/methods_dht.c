/* Methods of the DHT, and what status and metrics say of it. */
#include "node/methods_impl.h"

int wr_methods_dht(struct wr_methods *m)
{
    (void)m;
    return 0;
}

void wr_methods_dht_end(struct wr_methods *m)
{
    (void)m;
}

void wr_methods_pack_dht(const struct wr_methods *m, struct wr_pack *p)
{
    (void)m;
    wr_pack_map(p, "dht");
    wr_pack_text(p, "mode", "off");
    wr_pack_end(p);
}

void wr_methods_dht_metrics(const struct wr_methods *m, struct wr_buf *out)
{
    (void)m;
    (void)out;
}

bool wr_methods_dht_ready(const struct wr_methods *m)
{
    return !m->o.dht;
}
