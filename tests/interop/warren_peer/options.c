#include "options.h"

#include "transport/secure.h"

#include <getopt.h>
#include <stdlib.h>
#include <string.h>

static struct options given = {.hosts = 1,
                               .dht = "off",
                               .dht_prefix = "/ipfs",
                               .limits = "lifted",
                               .transport = "tcp",
                               .nat = {.relay_limits = "", .autonat = "", .reach = ""}};

static void unsupported(const char *name, const char *value, const char *only)
{
    if (strcmp(value, only) == 0)
        return;
    fprintf(stderr, "--%s %s: this peer can only do %s\n", name, value, only);
    exit(3);
}

/* ---- flags whose word is read, not kept */

static void read_hosts(const char *word)
{
    given.hosts = (size_t)atoi(word);
}

static void read_key(const char *word)
{
    unsupported("key", word, "ed25519");
}

static void read_seed(const char *word)
{
    given.seed = atol(word);
    given.has_seed = true;
}

static void read_psk(const char *path)
{
    static char text[1024];
    FILE *f = fopen(path, "rb");
    size_t n = f ? fread(text, 1, sizeof(text), f) : 0;
    if (f)
        fclose(f);
    given.has_psk = wr_pnet_key_parse(WR_BYTES(text, n), given.psk) == 0;
    if (given.has_psk)
        return;
    fprintf(stderr, "%s is no private network key\n", path);
    exit(1);
}

static void read_transport(const char *word)
{
    given.transport = word;
    if (strcmp(word, "quic") != 0 && strcmp(word, "both") != 0)
        unsupported("transport", word, "tcp");
}

static void read_security(const char *word)
{
    given.security = wr_secure_by_word(WR_BYTES(word, strlen(word)));
    if (!given.security)
        unsupported("security", word, "noise or tls");
}

static void read_cc(const char *word)
{
    static const char *const names[] = {
        [WR_QUIC_CUBIC] = "cubic", [WR_QUIC_RENO] = "reno", [WR_QUIC_BBR] = "bbr", [WR_QUIC_BBR2] = "bbr2"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(word, names[i]) != 0)
            continue;
        given.cc = (enum wr_quic_cc)i;
        return;
    }
    fprintf(stderr, "--cc is cubic, reno, bbr or bbr2\n");
    exit(2);
}

/* ---- all of them */

/* One of the four is set: it switches on, or its word is kept, kept beside others, or read. */
static const struct flag {
    const char *name;
    bool *on;
    const char **word;
    struct words *words;
    void (*read)(const char *word);
} flags[] = {
    {.name = "listen", .words = &given.listen},
    {.name = "bootstrap", .words = &given.bootstrap},
    {.name = "announce", .words = &given.nat.announce},
    {.name = "hosts", .read = read_hosts},
    {.name = "key", .read = read_key},
    {.name = "seed", .read = read_seed},
    {.name = "psk", .read = read_psk},
    {.name = "transport", .read = read_transport},
    {.name = "security", .read = read_security},
    {.name = "cc", .read = read_cc},
    {.name = "dht", .word = &given.dht},
    {.name = "dht-prefix", .word = &given.dht_prefix},
    {.name = "limits", .word = &given.limits},
    {.name = "agent", .word = &given.agent},
    {.name = "relay-limits", .word = &given.nat.relay_limits},
    {.name = "autonat", .word = &given.nat.autonat},
    {.name = "reach", .word = &given.nat.reach},
    {.name = "mdns", .on = &given.mdns},
    {.name = "retry", .on = &given.retry},
    {.name = "relay", .on = &given.nat.relay},
    {.name = "circuit", .on = &given.nat.circuit},
    {.name = "dcutr", .on = &given.nat.dcutr},
};

#define FLAG_COUNT (sizeof(flags) / sizeof(flags[0]))
#define FLAG_FIRST 256    /* what getopt_long answers for flags[0]: no character */

static void add(struct words *words, const char *word)
{
    if (words->count < WORDS_MAX)
        words->of[words->count++] = word;
}

static void take(const struct flag *flag, const char *word)
{
    if (flag->on)
        *flag->on = true;
    else if (flag->word)
        *flag->word = word;
    else if (flag->words)
        add(flag->words, word);
    else
        flag->read(word);
}

const struct options *options_parse(int argc, char **argv)
{
    struct option names[FLAG_COUNT + 1] = {0};
    for (size_t i = 0; i < FLAG_COUNT; i++)
        names[i] = (struct option){flags[i].name, flags[i].on ? no_argument : required_argument, NULL,
                                   FLAG_FIRST + (int)i};
    for (int o; (o = getopt_long(argc, argv, "", names, NULL)) != -1;) {
        if (o < FLAG_FIRST)
            exit(2);    /* getopt_long has said why */
        take(&flags[o - FLAG_FIRST], optarg);
    }
    if (given.listen.count > 0)
        return &given;
    if (strcmp(given.transport, "quic") != 0)
        add(&given.listen, "/ip4/127.0.0.1/tcp/0");
    if (strcmp(given.transport, "tcp") != 0)
        add(&given.listen, "/ip4/127.0.0.1/udp/0/quic-v1");
    return &given;
}
