/* list.h - intrusive doubly linked ring. Value.
 * The head is a struct wr_list of its own; a node that is on no list points at itself, so removing
 * twice does no harm. */
#ifndef WR_LIST_H
#define WR_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct wr_list {
    struct wr_list *next, *prev;
};

/* The struct that holds this node: wr_list_entry(node, struct thing, member). */
#define wr_list_entry(node, type, member)                                                          \
    ((type *)(void *)((char *)(node) - offsetof(type, member)))

static inline void wr_list_init(struct wr_list *l)
{
    l->next = l->prev = l;
}

static inline bool wr_list_empty(const struct wr_list *l)
{
    return l->next == l;
}

/* Inserts node before `at`; with `at` the head, that is the end of the list. */
static inline void wr_list_insert(struct wr_list *at, struct wr_list *node)
{
    node->prev = at->prev;
    node->next = at;
    at->prev->next = node;
    at->prev = node;
}

static inline void wr_list_append(struct wr_list *head, struct wr_list *node)
{
    wr_list_insert(head, node);
}

static inline void wr_list_remove(struct wr_list *node)
{
    node->prev->next = node->next;
    node->next->prev = node->prev;
    wr_list_init(node);
}

/* Takes the first node off, or returns NULL when the list is empty. */
static inline struct wr_list *wr_list_pop(struct wr_list *head)
{
    struct wr_list *node = head->next;
    if (node == head)
        return NULL;
    wr_list_remove(node);
    return node;
}

/* Visits every node; the current one may be removed inside, no other. */
#define wr_list_each(it, head)                                                                     \
    for (struct wr_list *it = (head)->next, *it##_next = it->next; it != (head);                   \
         it = it##_next, it##_next = it->next)

#endif
