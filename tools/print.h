/* print.h - results for people and for programs. */
#ifndef WARREN_PRINT_H
#define WARREN_PRINT_H

#include "node/rpc.h"

#include <stdio.h>

#define PRINT_TEXT 1024 /* bytes of one field for people */

/* One JSON value; bytes become base64 text. */
void print_json(FILE *out, const msgpack_object *o);
void print_json_line(const msgpack_object *o); /* to standard output, flushed */
void print_json_text(FILE *out, const char *text, size_t len);

/* ---- fields of a map for people. What is missing or of another type reads as "", 0, false. */
/* Control characters become '?': a peer's text must not drive the terminal. Returns out. */
const char *print_text(const msgpack_object *map, const char *key, char out[static PRINT_TEXT]);
uint64_t print_u64(const msgpack_object *map, const char *key);
double print_number(const msgpack_object *map, const char *key);
bool print_bool(const msgpack_object *map, const char *key);
/* Elements of an array field; NULL and 0 when it is none. */
const msgpack_object *print_array(const msgpack_object *map, const char *key, uint32_t *count);
/* A text element. */
const char *print_element(const msgpack_object *o, char out[static PRINT_TEXT]);

/* "1 guest", "4 guests"; one: the word for one, up to 20 letters, whose plural has an s more. Returns out. */
const char *print_count(uint64_t count, const char *one, char out[static 48]);
/* "850 ms", "12 s", "3 min 5 s", "2 h 10 min", "4 d 3 h"; "12 B", "3.4 MiB". Return out. */
const char *print_duration(uint64_t ms, char out[static 32]);
const char *print_size(uint64_t bytes, char out[static 32]);

/* The node's own addresses, as `status` and `check` list them: what was found out about each, and by how many. */
void print_addresses(const msgpack_object *map);

#endif
