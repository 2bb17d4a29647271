#include "node/prom.h"

#include <inttypes.h>

void wr_prom_head(struct wr_buf *out, const char *name, const char *type, const char *help)
{
    wr_buf_printf(out, "# HELP warren_%s %s\n# TYPE warren_%s %s\n", name, help, name, type);
}

void wr_prom_sample(struct wr_buf *out, const char *name, const char *label, const char *text, uint64_t v)
{
    wr_buf_printf(out, "warren_%s{%s=\"%s\"} %" PRIu64 "\n", name, label, text, v);
}

void wr_prom_one(struct wr_buf *out, const char *name, const char *type, const char *help, uint64_t v)
{
    wr_prom_head(out, name, type, help);
    wr_buf_printf(out, "warren_%s %" PRIu64 "\n", name, v);
}

void wr_prom_family(struct wr_buf *out, const char *name, const char *type, const char *help, const char *label,
                    const struct wr_prom_series *series)
{
    wr_prom_head(out, name, type, help);
    for (; series->text; series++)
        wr_prom_sample(out, name, label, series->text, series->v);
}
