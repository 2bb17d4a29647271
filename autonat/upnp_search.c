#include "autonat/upnp_search.h"

#include "autonat/upnp_http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#define ANSWER_MAX 1500    /* bytes; a datagram of an Ethernet */
#define HOPS       2       /* UPnP Device Architecture 1.1 */

/* Where the description is, by an answer; len 0: it does not say. */
static struct wr_bytes location(const char *answer)
{
    if (strncmp(answer, "HTTP/1.", 7) != 0)
        return WR_BYTES_NONE;
    for (const char *at = strstr(answer, "\r\n"); at; at = strstr(at, "\r\n")) {
        at += 2;
        if (strncasecmp(at, "LOCATION:", 9) != 0)
            continue;
        at += 9 + strspn(at + 9, " \t");
        return WR_BYTES(at, strcspn(at, " \t\r\n"));
    }
    return WR_BYTES_NONE;
}

/* "http://" and the host of a URL of IPv6; what is behind it, or NULL. */
static const char *behind_host(const char *url, size_t len)
{
    const char *end = len > 7 && strncmp(url, "http://[", 8) == 0 ? memchr(url, ']', len) : NULL;
    return end && end + 1 < url + len && (end[1] == ':' || end[1] == '/') ? end + 1 : NULL;
}

bool wr_upnp_search_read(const char *answer, const struct wr_ip *gateway, uint32_t zone, char url[static WR_UPNP_URL])
{
    struct wr_bytes at = location(answer);
    const char *said = (const char *)at.ptr, *rest = NULL;
    char want[WR_ADDR_TEXT], host[WR_UPNP_URL];
    wr_ip_print(gateway, want);
    (void)snprintf(host, sizeof(host), "http://%s", want);
    if (gateway->family == 4 && at.len > strlen(host) && strncmp(said, host, strlen(host)) == 0)
        rest = said + strlen(host);
    if (gateway->family == 6) {
        rest = at.len ? behind_host(said, at.len) : NULL;
        if (wr_ip_classify(gateway) == WR_IP_LINK_LOCAL)
            (void)snprintf(host, sizeof(host), "http://[%s%%%u]", want, (unsigned)zone);
        else
            (void)snprintf(host, sizeof(host), "http://[%s]", want);
    }
    if (!rest || (*rest != ':' && *rest != '/'))
        return false;
    size_t left = at.len - (size_t)(rest - said);
    if (strlen(host) + left >= WR_UPNP_URL)
        return false;
    (void)snprintf(url, WR_UPNP_URL, "%s%.*s", host, (int)left, rest);
    return true;
}

static int open_socket4(const struct wr_ip *source)
{
    struct sockaddr_in at = {.sin_family = AF_INET};
    const unsigned char hops = HOPS;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    memcpy(&at.sin_addr, source->bytes, sizeof(at.sin_addr));
    if (fd >= 0 && setsockopt(fd, IPPROTO_IP, IP_MULTICAST_IF, &at.sin_addr, sizeof(at.sin_addr)) == 0 &&
        setsockopt(fd, IPPROTO_IP, IP_MULTICAST_TTL, &hops, sizeof(hops)) == 0 &&
        bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Who is asked by an address of the link answers from one; our gateway's may be of either kind. */
static int open_socket6(const struct wr_ip *gateway, const struct wr_ip *source, uint32_t zone)
{
    struct sockaddr_in6 at = {.sin6_family = AF_INET6};
    const int hops = HOPS, index = (int)zone;
    int fd = socket(AF_INET6, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (wr_ip_classify(gateway) != WR_IP_LINK_LOCAL)
        memcpy(&at.sin6_addr, source->bytes, sizeof(at.sin6_addr));
    if (fd >= 0 && setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_IF, &index, sizeof(index)) == 0 &&
        setsockopt(fd, IPPROTO_IPV6, IPV6_MULTICAST_HOPS, &hops, sizeof(hops)) == 0 &&
        bind(fd, (const struct sockaddr *)&at, sizeof(at)) == 0)
        return fd;
    if (fd >= 0)
        close(fd);
    return -1;
}

/* Whom to ask for what, by family. */
struct group {
    struct wr_ip ip;
    const char *host;
    const char *targets[5]; /* the last one NULL */
};

static const struct group group4 = {.ip = {4, {239, 255, 255, 250}},
                                    .host = "239.255.255.250",
                                    .targets = {"urn:schemas-upnp-org:device:InternetGatewayDevice:2",
                                                "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
                                                "urn:schemas-upnp-org:service:WANIPConnection:1",
                                                "urn:schemas-upnp-org:service:WANPPPConnection:1"}};
static const struct group group6 = {.ip = {6, {0xff, 0x02, [15] = 0x0c}},
                                    .host = "[FF02::C]",
                                    .targets = {"urn:schemas-upnp-org:device:InternetGatewayDevice:2",
                                                "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1"}};

static void ask(int fd, const struct group *g, uint32_t zone)
{
    struct sockaddr_storage to;
    socklen_t len = wr_addr_to_sockaddr(&(struct wr_addr){.ip = g->ip, .port = 1900, .scope = zone}, &to);
    for (const char *const *target = g->targets; *target; target++) {
        char text[256];
        int n = snprintf(text, sizeof(text), "M-SEARCH * HTTP/1.1\r\nHOST: %s:1900\r\nST: %s\r\n"
                         "MAN: \"ssdp:discover\"\r\nMX: 1\r\n\r\n", g->host, *target);
        (void)sendto(fd, text, (size_t)n, 0, (const struct sockaddr *)&to, len);
    }
}

/* An answer, ended by a zero; false: nothing came, or over IPv6 from somebody else. */
static bool receive(int fd, const struct wr_ip *gateway, char answer[static ANSWER_MAX + 1])
{
    struct sockaddr_in6 from;
    socklen_t len = sizeof(from);
    ssize_t n = recvfrom(fd, answer, ANSWER_MAX, 0, (struct sockaddr *)&from, &len);
    answer[n > 0 ? n : 0] = 0;
    return n > 0 && (gateway->family == 4 || (len == sizeof(from) && memcmp(&from.sin6_addr, gateway->bytes, 16) == 0));
}

static bool is_known(const char urls[static WR_UPNP_SEARCH_URLS][WR_UPNP_URL], size_t count, const char *url)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(urls[i], url) == 0)
            return true;
    return false;
}

size_t wr_upnp_search(const struct wr_ip *gateway, const struct wr_ip *source, uint32_t zone,
                      char urls[static WR_UPNP_SEARCH_URLS][WR_UPNP_URL])
{
    int64_t left, from = wr_upnp_http_clock();
    size_t count = 0;
    bool six = gateway->family == 6;
    int fd = six ? open_socket6(gateway, source, zone) : open_socket4(source);
    if (fd < 0)
        return 0;
    ask(fd, six ? &group6 : &group4, zone);
    while (count < WR_UPNP_SEARCH_URLS &&
           (left = from + (count ? WR_UPNP_SEARCH_TIME : WR_UPNP_SEARCH_LATE) - wr_upnp_http_clock()) > 0) {
        char answer[ANSWER_MAX + 1];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        if (poll(&p, 1, (int)left) <= 0 || !receive(fd, gateway, answer))
            continue;
        if (wr_upnp_search_read(answer, gateway, zone, urls[count]) && !is_known(urls, count, urls[count]))
            count++;
    }
    close(fd);
    return count;
}
