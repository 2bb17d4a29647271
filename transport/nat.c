#include "transport/nat.h"

const char *wr_reachability_name(enum wr_reachability reachability)
{
    static const char *const names[] = {"unknown", "public", "private"};
    return names[reachability];
}
