/* Addresses and blocks from text: what was read prints and reads the same; prefixes agree. */
#include "fuzz/text.h"
#include "transport/addr.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void look(const struct wr_cidr *cidr)
{
    char text[WR_ADDR_TEXT], with_port[WR_ADDR_TEXT];
    struct wr_ip again;
    struct wr_addr addr = {.ip = cidr->ip, .port = 65535, .scope = UINT32_MAX};
    wr_ip_print(&cidr->ip, text);
    assert(wr_ip_parse(text, &again) == 0 && wr_ip_equal(&again, &cidr->ip));
    wr_addr_print(&addr, with_port);
    assert(strlen(with_port) < WR_ADDR_TEXT && strstr(with_port, text));
    assert(wr_ip_classify(&cidr->ip) <= WR_IP_RESERVED);
    struct wr_ip masked = wr_ip_mask(&cidr->ip, cidr->prefix);
    assert(wr_cidr_contains(cidr, &cidr->ip) && wr_cidr_contains(cidr, &masked));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wr_cidr cidr;
    struct wr_ip ip;
    char *text = fuzz_text(data, size);
    if (!text)
        return 0;
    if (wr_cidr_parse(text, &cidr) == 0)
        look(&cidr);
    if (wr_ip_parse(text, &ip) == 0)
        assert(wr_cidr_parse(text, &cidr) == 0 && wr_ip_equal(&ip, &cidr.ip));
    free(text);
    return 0;
}
