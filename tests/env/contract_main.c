#include "tests/env/contract.h"

void contract_run(struct contract *c, wr_time time)
{
    contract_deadline(c, time);
    while (contract_step(c))
        ;
}

int main(void)
{
    int failures = contract_turns();
    failures += contract_stream();
    failures += contract_local();
    failures += contract_udp();
    failures += contract_names();
    failures += contract_kv();
    return failures != 0;
}
