/* nearest.h - how far two words are apart, to name the one that a mistyped word meant. Value. */
#ifndef WR_NEAREST_H
#define WR_NEAREST_H

#include <stdbool.h>
#include <stddef.h>

#define WR_NEAREST_MAX 32 /* characters looked at; longer than any flag, key or command; ours */

/* Edits (insert, delete, replace, swap neighbours) that make one of the other. */
size_t wr_nearest_distance(const char *a, const char *b);
/* Could a word so far away be what was meant? Of anything else nobody is helped by the name. */
bool wr_nearest_is_near(const char *typed, size_t distance);

#endif
