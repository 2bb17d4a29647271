/* dnsmsg.h - DNS messages for multicast DNS: a bounded reader and a plain writer. Value.
 * Spec: RFC 1035 section 4, RFC 6762 section 18. The reader follows compression pointers only backwards, so
 * no packet can lead it in a circle; the writer does not compress. */
#ifndef WR_DNSMSG_H
#define WR_DNSMSG_H

#include "transport/bytes.h"

#define WR_DNS_NAME_MAX  255    /* bytes of a name on the wire; RFC 1035 */
#define WR_DNS_LABEL_MAX 63     /* bytes of a label; RFC 1035 */
#define WR_DNS_ITEMS_MAX 256    /* questions and records looked at in a packet; ours */

enum wr_dns_type {
    WR_DNS_A = 1,
    WR_DNS_PTR = 12,
    WR_DNS_TXT = 16,
    WR_DNS_AAAA = 28,
    WR_DNS_SRV = 33,
    WR_DNS_ANY = 255,
};

#define WR_DNS_IN  1u
#define WR_DNS_TOP 0x8000u    /* of a class: flush the cache, or answer by unicast; RFC 6762 */

/* A name in wire form without compression: labels behind their lengths, then a zero. */
struct wr_dns_name {
    uint8_t len;
    uint8_t bytes[WR_DNS_NAME_MAX];
};

/* ---- names. "a.b.local", without dots inside labels. 0, WR_EINVAL. */
int wr_dns_name_parse(const char *text, struct wr_dns_name *out);
bool wr_dns_name_equal(const struct wr_dns_name *a, const struct wr_dns_name *b);    /* any case */

/* ---- reading */
enum wr_dns_section { WR_DNS_QUESTION, WR_DNS_ANSWER, WR_DNS_AUTHORITY, WR_DNS_ADDITIONAL };

struct wr_dns_reader {
    struct wr_bytes packet;    /* borrowed */
    size_t at;
    uint16_t id;
    bool response;
    unsigned section;
    uint16_t left[4];          /* items of each section not yet read */
    unsigned items;
};

struct wr_dns_item {
    enum wr_dns_section section;
    struct wr_dns_name name;
    uint16_t type, class;
    uint32_t ttl;              /* seconds; 0 of a question */
    struct wr_bytes data;      /* of a record */
};

/* 0; WR_EPROTO: no message, or none of the kind that mDNS knows (opcode, rcode). */
int wr_dns_open(struct wr_dns_reader *r, struct wr_bytes packet);
/* The next question or record. 1; 0: no more; WR_EPROTO. */
int wr_dns_next(struct wr_dns_reader *r, struct wr_dns_item *item);
/* The name in a record's data, `skip` bytes in (0 of PTR, 6 of SRV). 0, WR_EPROTO. */
int wr_dns_data_name(const struct wr_dns_reader *r, const struct wr_dns_item *item, size_t skip,
                     struct wr_dns_name *out);
/* The next string of a TXT record's data; false at the end or where it is malformed. */
bool wr_dns_txt_next(struct wr_bytes *data, struct wr_bytes *text);

/* ---- writing. Counts in the header are filled in by the caller who knows them beforehand. */
void wr_dns_put_header(struct wr_buf *b, uint16_t id, bool response, const uint16_t counts[4]);
void wr_dns_put_name(struct wr_buf *b, const struct wr_dns_name *name);
void wr_dns_put_question(struct wr_buf *b, const struct wr_dns_name *name, uint16_t type);
/* Begins a record and returns a mark; write its data, then end it with the mark. */
size_t wr_dns_begin_record(struct wr_buf *b, const struct wr_dns_name *name, uint16_t type,
                           uint16_t class, uint32_t ttl);
void wr_dns_end_record(struct wr_buf *b, size_t mark);

#endif
