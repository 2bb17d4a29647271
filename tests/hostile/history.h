/* history.h - a life of a store that can be told again: batch n does the same every time, so what a store
 * must hold after batch n is known without having been there. Each batch writes its own number last. */
#ifndef HOSTILE_HISTORY_H
#define HOSTILE_HISTORY_H

#include "transport/kv.h"

#define HISTORY_KEYS 300

struct history {
    uint32_t batch;                    /* the last one */
    uint32_t version[HISTORY_KEYS];    /* what the value is made of; 0: no record */
};

/* Lives through batch h->batch + 1; kv (NULL: none) does the same. */
void history_go_on(struct history *h, struct wr_kv *kv);
/* Tells the life up to the given batch. */
void history_tell(struct history *h, uint32_t batch);
/* The batch that the store says it has seen last; 0: none. */
uint32_t history_batch_of(struct wr_kv *kv);
/* What differs between the store and h, in words, or NULL. */
const char *history_compare(const struct history *h, struct wr_kv *kv);

#endif
