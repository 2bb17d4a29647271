/* redis.h - the two things the suite asks of Redis: leave a value, and wait for one. Blocks.
 * Protocol: RESP2, https://redis.io/docs/latest/develop/reference/protocol-spec/. */
#ifndef REDIS_H
#define REDIS_H

#include <stdbool.h>
#include <stddef.h>

/* Connects to "host:port"; who starts before the server tries again, until `seconds` are over. The descriptor, or -1
 * with a sentence on standard error. */
int redis_connect(const char *address, unsigned seconds);
/* Makes the list `key` hold this one value. */
bool redis_leave(int redis, const char *key, const char *value);
/* Takes the first value of the list `key`, waiting for it at most `seconds` (0 is for ever). */
bool redis_take(int redis, const char *key, unsigned seconds, char *value, size_t size);

#endif
