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

bool wr_upnp_search_read(const char *answer, const struct wr_ip *gateway, char url[static WR_UPNP_URL])
{
    char want[WR_ADDR_TEXT + 8] = "http://";
    wr_ip_print(gateway, want + strlen(want));
    size_t len = strlen(want);
    if (strncmp(answer, "HTTP/1.", 7) != 0)
        return false;
    for (const char *at = strstr(answer, "\r\n"); at; at = strstr(at, "\r\n")) {
        at += 2;
        if (strncasecmp(at, "LOCATION:", 9) != 0)
            continue;
        at += 9 + strspn(at + 9, " \t");
        size_t n = strcspn(at, " \t\r\n");
        if (n >= WR_UPNP_URL || strncmp(at, want, len) != 0 || (at[len] != ':' && at[len] != '/'))
            return false;
        memcpy(url, at, n);
        url[n] = 0;
        return true;
    }
    return false;
}

/* A socket on the gateway's link; negative: none. */
static int open_socket(const struct wr_ip *source)
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

static void ask(int fd)
{
    static const char *const targets[] = {"urn:schemas-upnp-org:device:InternetGatewayDevice:2",
                                          "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
                                          "urn:schemas-upnp-org:service:WANIPConnection:1",
                                          "urn:schemas-upnp-org:service:WANPPPConnection:1"};
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(1900)};
    (void)inet_pton(AF_INET, "239.255.255.250", &to.sin_addr);
    for (size_t i = 0; i < sizeof(targets) / sizeof(*targets); i++) {
        char text[256];
        int n = snprintf(text, sizeof(text), "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nST: %s\r\n"
                         "MAN: \"ssdp:discover\"\r\nMX: 1\r\n\r\n", targets[i]);
        (void)sendto(fd, text, (size_t)n, 0, (const struct sockaddr *)&to, sizeof(to));
    }
}

static bool is_known(const char urls[static WR_UPNP_SEARCH_URLS][WR_UPNP_URL], size_t count, const char *url)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(urls[i], url) == 0)
            return true;
    return false;
}

size_t wr_upnp_search(const struct wr_ip *gateway, const struct wr_ip *source,
                      char urls[static WR_UPNP_SEARCH_URLS][WR_UPNP_URL])
{
    int64_t left, until = wr_upnp_http_clock() + WR_UPNP_SEARCH_TIME;
    size_t count = 0;
    int fd = open_socket(source);
    if (fd < 0)
        return 0;
    ask(fd);
    while (count < WR_UPNP_SEARCH_URLS && (left = until - wr_upnp_http_clock()) > 0) {
        char answer[ANSWER_MAX + 1];
        struct pollfd p = {.fd = fd, .events = POLLIN};
        ssize_t n = poll(&p, 1, (int)left) > 0 ? recv(fd, answer, ANSWER_MAX, 0) : 0;
        if (n <= 0)
            continue;
        answer[n] = 0;
        if (wr_upnp_search_read(answer, gateway, urls[count]) && !is_known(urls, count, urls[count]))
            count++;
    }
    close(fd);
    return count;
}
