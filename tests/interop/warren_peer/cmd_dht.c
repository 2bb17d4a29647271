/* Commands about the DHT. */
#include "peer.h"

#include <string.h>

void dht_start(struct host *h, const char *mode, const char *prefix)
{
    (void)h;
    (void)prefix;
    if (strcmp(mode, "off") != 0) {
        fprintf(stderr, "--dht %s: this peer can only do off\n", mode);
        exit(3);
    }
}

void dht_bootstrap(struct host *h, const char *const *addrs, size_t count)
{
    (void)h;
    (void)addrs;
    (void)count;
}

bool command_dht(struct command *c, const char *name)
{
    (void)c;
    (void)name;
    return false;
}
