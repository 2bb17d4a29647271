#include "autonat/upnp.h"

#include "transport/err.h"

#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpcommands.h>
#include <miniupnpc/upnperrors.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEARCH_MS 1000 /* answers are waited for; UPnP Device Architecture: MX, ours */
#define TTL       2    /* of the search; UPnP Device Architecture 1.1 */
#define TRIES_MAX 4    /* of one mapping: another lifetime, another port, the same port; ours */

enum code { /* of AddPortMapping; WANIPConnection:2 section 2.5.17 */
            CODE_ARGUMENTS = 402,
            CODE_DENIED = 606,
            CODE_CONFLICT = 718,
            CODE_SAME_PORT = 724,
            CODE_PERMANENT_ONLY = 725,
            CODE_WILDCARD_CONFLICT = 729,
            CODE_NO_ROOM = 728,
};

bool wr_upnp_adapt(struct wr_upnp_port *port, int code)
{
    switch (code) {
    case CODE_ARGUMENTS: /* some routers say so when they mean 725 */
    case CODE_PERMANENT_ONLY:
        if (port->lifetime == 0)
            return false;
        port->lifetime = 0;
        return true;
    case CODE_CONFLICT:
    case CODE_WILDCARD_CONFLICT:
        if (port->outside == port->spare || port->spare == 0)
            return false;
        port->outside = port->spare;
        return true;
    case CODE_SAME_PORT:
        if (port->outside == port->internal)
            return false;
        port->outside = port->internal;
        return true;
    default:
        return false;
    }
}

static int error_of(int code)
{
    if (code == UPNPCOMMAND_SUCCESS)
        return 0;
    if (code == CODE_DENIED)
        return WR_EPERM;
    if (code == CODE_NO_ROOM)
        return WR_ELIMIT;
    return code > 0 ? WR_EREFUSED : WR_EUNREACH; /* below 0: the library's own, no answer came */
}

/* ---- finding ---------------------------------------------------------------------------------------- */

/* "http://IP:port/..." of this very address. */
static bool is_at(const char *url, const struct wr_ip *ip)
{
    char want[WR_ADDR_TEXT + 8] = "http://";
    wr_ip_print(ip, want + strlen(want));
    size_t len = strlen(want);
    return url && strncmp(url, want, len) == 0 && (url[len] == ':' || url[len] == '/');
}

/* Takes the gateway's devices out of *found. */
static struct UPNPDev *of_gateway(struct UPNPDev **found, const struct wr_ip *gateway)
{
    struct UPNPDev *ours = NULL, **end = &ours;
    for (struct UPNPDev **at = found; *at;) {
        struct UPNPDev *device = *at;
        if (!is_at(device->descURL, gateway)) {
            at = &device->pNext;
            continue;
        }
        *at = device->pNext;
        device->pNext = NULL;
        *end = device;
        end = &device->pNext;
    }
    return ours;
}

static void find(struct wr_upnp_task *t)
{
    char source[WR_ADDR_TEXT], lan[WR_ADDR_TEXT];
    struct UPNPUrls urls = {0};
    struct IGDdatas data = {0};
    int error = 0;
    wr_ip_print(&t->source, source);
    struct UPNPDev *found = upnpDiscover(SEARCH_MS, source, NULL, UPNP_LOCAL_PORT_ANY, 0, TTL, &error);
    struct UPNPDev *ours = of_gateway(&found, &t->gateway);
    freeUPNPDevlist(found);
    if (!ours)
        return;
    /* 1: connected. 2: an IGD that says it is not, or has an outside address that is none. */
    int kind = UPNP_GetValidIGD(ours, &urls, &data, lan, sizeof(lan));
    if ((kind == 1 || kind == 2) && is_at(urls.controlURL, &t->gateway) &&
        strlen(urls.controlURL) < sizeof(t->igd.control)) {
        t->igd.known = true;
        (void)snprintf(t->igd.control, sizeof(t->igd.control), "%s", urls.controlURL);
        (void)snprintf(t->igd.service, sizeof(t->igd.service), "%s", data.first.servicetype);
    }
    if (kind)
        FreeUPNPUrls(&urls);
    freeUPNPDevlist(ours);
}

/* ---- asking ----------------------------------------------------------------------------------------- */

static int ask_address(struct wr_upnp_task *t)
{
    char text[WR_ADDR_TEXT] = "";
    int code = UPNP_GetExternalIPAddress(t->igd.control, t->igd.service, text);
    t->external = (struct wr_ip){0};
    if (code == UPNPCOMMAND_SUCCESS && wr_ip_parse(text, &t->external) != 0)
        t->external = (struct wr_ip){0};
    return code < 0 ? WR_EUNREACH : 0;
}

static int ask_port(const struct wr_upnp_task *t, const struct wr_upnp_port *port)
{
    char inside[8], outside[8], lifetime[12], source[WR_ADDR_TEXT];
    const char *protocol = port->udp ? "UDP" : "TCP";
    (void)snprintf(inside, sizeof(inside), "%u", port->internal);
    (void)snprintf(outside, sizeof(outside), "%u", port->outside);
    (void)snprintf(lifetime, sizeof(lifetime), "%u", (unsigned)port->lifetime);
    wr_ip_print(&t->source, source);
    if (port->remove)
        return UPNP_DeletePortMapping(t->igd.control, t->igd.service, outside, protocol, NULL);
    return UPNP_AddPortMapping(t->igd.control, t->igd.service, outside, inside, source, "warren", protocol,
                               NULL, lifetime);
}

static void change_port(const struct wr_upnp_task *t, struct wr_upnp_port *port)
{
    int code = ask_port(t, port);
    for (int i = 1; i < TRIES_MAX && code > 0 && !port->remove && wr_upnp_adapt(port, code); i++)
        code = ask_port(t, port);
    port->err = error_of(code);
}

static int ask_all(struct wr_upnp_task *t)
{
    int err = ask_address(t);
    for (size_t i = 0; i < t->count && err == 0; i++) {
        if (t->ports[i].outside == 0 || t->ports[i].internal == 0) { /* 0 would mean all of them */
            t->ports[i].err = WR_EINVAL;
            continue;
        }
        change_port(t, &t->ports[i]);
        if (t->ports[i].err == WR_EUNREACH)
            err = WR_EUNREACH;
    }
    return err;
}

void wr_upnp_run(struct wr_upnp_task *t)
{
    t->err = t->igd.known ? ask_all(t) : WR_EUNREACH;
    if (t->err == 0)
        return;
    t->igd = (struct wr_upnp_igd){0};
    find(t);
    t->err = t->igd.known ? ask_all(t) : WR_ENOTFOUND;
}
