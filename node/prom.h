/* prom.h - Prometheus text: families of samples, one behind the other. Value.
 * Spec: Prometheus, "Exposition formats", text format 0.0.4. Names are given without the "warren_" that all begin with;
 * labels and their values are words of ours, so nothing needs escaping. */
#ifndef WR_PROM_H
#define WR_PROM_H

#include "transport/bytes.h"

/* Samples of one family, told apart by the value of one label; a list ends with NULL. */
struct wr_prom_series {
    const char *text;
    uint64_t v;
};

/* Begins a family. type: "gauge" or "counter". */
void wr_prom_head(struct wr_buf *out, const char *name, const char *type, const char *help);
/* A sample of the family just begun. */
void wr_prom_sample(struct wr_buf *out, const char *name, const char *label, const char *text, uint64_t v);
/* A whole family: of one sample without a label, or of the series. */
void wr_prom_one(struct wr_buf *out, const char *name, const char *type, const char *help, uint64_t v);
void wr_prom_family(struct wr_buf *out, const char *name, const char *type, const char *help, const char *label,
                    const struct wr_prom_series *series);

#endif
