#include "tests/env/contract.h"

int main(void)
{
    int failures = contract_turns();
    failures += contract_stream();
    failures += contract_local();
    failures += contract_udp();
    failures += contract_dgram();
    failures += contract_names();
    failures += contract_kv();
    return failures != 0;
}
