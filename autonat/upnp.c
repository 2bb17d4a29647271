#include "autonat/upnp.h"

#include "autonat/upnp_http.h"
#include "autonat/upnp_search.h"
#include "transport/err.h"

#include <limits.h>
#include <miniupnpc/miniupnpc.h>
#include <miniupnpc/upnpreplyparse.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES_MAX 4    /* of one mapping: another lifetime, another port, the same port; ours */
#define SOAP_MAX  2048 /* bytes of a request's body: a service name twice and numbers; ours */

enum code { /* of AddPortMapping; WANIPConnection:2 section 2.5.17 */
            CODE_ARGUMENTS = 402,
            CODE_FAILED = 501, /* also for a refusal without a code */
            CODE_DENIED = 606,
            CODE_CONFLICT = 718,
            CODE_SAME_PORT = 724,
            CODE_PERMANENT_ONLY = 725,
            CODE_WILDCARD_CONFLICT = 729,
            CODE_NO_ROOM = 728,
            /* of the pinholes; WANIPv6FirewallControl:1 section 2.4 */
            CODE_NO_ROOM_6 = 701,
            CODE_NO_FIREWALL = 702,
            CODE_NOT_ALLOWED = 703,
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

/* Of what soap() returns. */
static int error_of(int code)
{
    if (code <= 0)
        return code;
    if (code == CODE_DENIED || code == CODE_NOT_ALLOWED)
        return WR_EPERM;
    return code == CODE_NO_ROOM || code == CODE_NO_ROOM_6 ? WR_ELIMIT : WR_EREFUSED;
}

/* What the calls of one task share. */
struct call {
    struct wr_upnp_task *task;
    int64_t until;    /* the end of everybody's patience */
    char memory[WR_UPNP_HTTP_ANSWER + 1];
};

/* Where a call to the gateway comes from; NULL: the system chooses. A pinhole is given to whoever asks for himself. */
static const struct wr_ip *source_of(const struct wr_upnp_task *t)
{
    return t->gateway.family == 6 ? &t->source : NULL;
}

/* "http://IP:port/..." of this very address. */
static bool is_at(const char *url, const struct wr_ip *ip)
{
    char want[WR_ADDR_TEXT + 8] = "http://";
    wr_ip_print(ip, want + strlen(want));
    size_t len = strlen(want);
    return url && strncmp(url, want, len) == 0 && (url[len] == ':' || url[len] == '/');
}

/* ---- asking ----------------------------------------------------------------------------------------- */

/* One action of the service. 0 with the answer's values, to be cleared; above 0 an error code of UPnP; below 0 there
 * was no answer, or none that is one. */
static int soap(struct call *call, const char *name, const char *arguments, struct NameValueParserData *values)
{
    const struct wr_upnp_igd *igd = &call->task->igd;
    char action[WR_UPNP_URL + 32], post[SOAP_MAX];
    struct wr_bytes body;
    (void)snprintf(action, sizeof(action), "%s#%s", igd->service, name);
    int n = snprintf(post, sizeof(post), "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/"
                     "soap/envelope/\" s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:%s "
                     "xmlns:u=\"%s\">%s</u:%s></s:Body></s:Envelope>\r\n", name, igd->service, arguments, name);
    if (n < 0 || (size_t)n >= sizeof(post))
        return WR_EINVAL;
    int status = wr_upnp_http_ask(igd->control, source_of(call->task), action, post, call->until, call->memory, &body);
    if (status < 0)
        return status == WR_EPROTO ? WR_EREFUSED : WR_EUNREACH;
    ParseNameValue((const char *)body.ptr, (int)body.len, values);
    const char *code = GetValueFromNameValueList(values, "errorCode");
    if (status == 200 && !code)
        return 0;
    long number = code ? strtol(code, NULL, 10) : 0;
    ClearNameValueList(values);
    return number > 0 && number < 1000 ? (int)number : CODE_FAILED;
}

static int ask_address(struct call *call)
{
    struct wr_upnp_task *t = call->task;
    struct NameValueParserData values;
    int code = soap(call, "GetExternalIPAddress", "", &values);
    t->external = (struct wr_ip){0};
    if (code != 0)
        return code < 0 ? WR_EUNREACH : 0;
    const char *text = GetValueFromNameValueList(&values, "NewExternalIPAddress");
    if (!text || wr_ip_parse(text, &t->external) != 0 || t->external.family != 4)
        t->external = (struct wr_ip){0};
    ClearNameValueList(&values);
    return 0;
}

static int ask_port(struct call *call, const struct wr_upnp_port *port)
{
    char arguments[SOAP_MAX / 2], source[WR_ADDR_TEXT];
    struct NameValueParserData values;
    int n = snprintf(arguments, sizeof(arguments), "<NewRemoteHost></NewRemoteHost><NewExternalPort>%u"
                     "</NewExternalPort><NewProtocol>%s</NewProtocol>", port->outside, port->udp ? "UDP" : "TCP");
    wr_ip_print(&call->task->source, source);
    if (!port->remove)
        (void)snprintf(arguments + n, sizeof(arguments) - (size_t)n, "<NewInternalPort>%u</NewInternalPort>"
                       "<NewInternalClient>%s</NewInternalClient><NewEnabled>1</NewEnabled><NewPortMappingDescription>"
                       "warren</NewPortMappingDescription><NewLeaseDuration>%u</NewLeaseDuration>", port->internal,
                       source, (unsigned)port->lifetime);
    int code = soap(call, port->remove ? "DeletePortMapping" : "AddPortMapping", arguments, &values);
    if (code == 0)
        ClearNameValueList(&values);
    return code;
}

static void change_port(struct call *call, struct wr_upnp_port *port)
{
    int code = ask_port(call, port);
    for (int i = 1; i < TRIES_MAX && code > 0 && !port->remove && wr_upnp_adapt(port, code); i++)
        code = ask_port(call, port);
    port->err = error_of(code);
}

/* ---- pinholes --------------------------------------------------------------------------------------- */

static int ask_pinhole(struct call *call, struct wr_upnp_port *port)
{
    char arguments[SOAP_MAX / 2], source[WR_ADDR_TEXT];
    struct NameValueParserData values;
    const char *name = port->remove ? "DeletePinhole" : port->held ? "UpdatePinhole" : "AddPinhole";
    wr_ip_print(&call->task->source, source);
    if (port->remove)
        (void)snprintf(arguments, sizeof(arguments), "<UniqueID>%u</UniqueID>", port->pinhole);
    else if (port->held)
        (void)snprintf(arguments, sizeof(arguments), "<UniqueID>%u</UniqueID><NewLeaseTime>%u</NewLeaseTime>",
                       port->pinhole, (unsigned)port->lifetime);
    else
        (void)snprintf(arguments, sizeof(arguments), "<RemoteHost></RemoteHost><RemotePort>0</RemotePort>"
                       "<InternalClient>%s</InternalClient><InternalPort>%u</InternalPort><Protocol>%u</Protocol><LeaseTime>%u"
                       "</LeaseTime>", source, port->internal, port->udp ? IPPROTO_UDP : IPPROTO_TCP,
                       (unsigned)port->lifetime);
    int code = soap(call, name, arguments, &values);
    if (code != 0)
        return code;
    const char *id = GetValueFromNameValueList(&values, "UniqueID");
    if (!port->held && !port->remove) {
        unsigned long number = id && *id >= '0' && *id <= '9' ? strtoul(id, NULL, 10) : ULONG_MAX;
        port->held = number <= UINT16_MAX;
        port->pinhole = (uint16_t)(port->held ? number : 0);
        code = port->held ? 0 : CODE_FAILED;
    }
    ClearNameValueList(&values);
    return code;
}

/* A number that the router does not know any more (it restarted) is no reason to stay shut. Where its firewall is off
 * nothing is in the way. */
static void change_pinhole(struct call *call, struct wr_upnp_port *port)
{
    port->outside = port->internal;
    if (port->remove && !port->held) {
        port->err = 0;
        return;
    }
    int code = ask_pinhole(call, port);
    if (code > 0 && port->held && !port->remove) {
        port->held = false;
        code = ask_pinhole(call, port);
    }
    port->err = code == CODE_NO_FIREWALL && !port->remove ? 0 : error_of(code);
}

/* ---- all of them ------------------------------------------------------------------------------------ */

static int ask_outside(struct call *call)
{
    if (call->task->gateway.family == 4)
        return ask_address(call);
    call->task->external = call->task->source;
    return 0;
}

static int ask_all(struct call *call)
{
    struct wr_upnp_task *t = call->task;
    int err = ask_outside(call);
    for (size_t i = 0; i < t->count && err == 0; i++) {
        if (t->ports[i].outside == 0 || t->ports[i].internal == 0) { /* 0 would mean all of them */
            t->ports[i].err = WR_EINVAL;
            continue;
        }
        if (t->gateway.family == 6)
            change_pinhole(call, &t->ports[i]);
        else
            change_port(call, &t->ports[i]);
        if (t->ports[i].err == WR_EUNREACH)
            err = WR_EUNREACH;
    }
    return err;
}

/* ---- finding ---------------------------------------------------------------------------------------- */

static const struct IGDdatas_service *service_of(const struct IGDdatas *data, int which)
{
    static const char prefix[] = "urn:schemas-upnp-org:service:WAN"; /* an IP or a PPP connection */
    const struct IGDdatas_service *s = which == 0 ? &data->first : &data->second;
    return strncmp(s->servicetype, prefix, strlen(prefix)) == 0 && s->controlurl[0] ? s : NULL;
}

/* The service takes the place of the one that is known, if it is the gateway's own. */
static bool take_service(struct wr_upnp_task *t, const char *url, const struct IGDdatas *data, int which)
{
    const struct IGDdatas_service *s = service_of(data, which);
    struct IGDdatas one = *data;
    struct UPNPUrls urls = {0};
    if (!s)
        return false;
    one.first = *s;
    GetUPNPUrls(&urls, &one, url, 0);
    bool ours = is_at(urls.controlURL, &t->gateway) && strlen(urls.controlURL) < sizeof(t->igd.control);
    if (ours) {
        (void)snprintf(t->igd.control, sizeof(t->igd.control), "%s", urls.controlURL);
        (void)snprintf(t->igd.service, sizeof(t->igd.service), "%s", s->servicetype);
        t->igd.known = true;
    }
    FreeUPNPUrls(&urls);
    return ours;
}

static bool fetch(struct call *call, const char *url, struct IGDdatas *data)
{
    struct wr_bytes body;
    *data = (struct IGDdatas){0};
    if (wr_upnp_http_ask(url, source_of(call->task), NULL, NULL, call->until, call->memory, &body) != 200)
        return false;
    parserootdesc((const char *)body.ptr, (int)body.len, data);
    return true;
}

/* Of an IP and a PPP connection the one that has an outside address, else the first. */
static bool describe(struct call *call, const char *url)
{
    struct wr_upnp_task *t = call->task;
    struct IGDdatas data;
    if (!fetch(call, url, &data))
        return false;
    if (take_service(t, url, &data, 0) && service_of(&data, 1) && ask_address(call) == 0 &&
        (t->external.family == 0 || wr_ip_classify(&t->external) == WR_IP_UNSPECIFIED)) {
        struct wr_upnp_igd first = t->igd;
        if (!take_service(t, url, &data, 1) || ask_address(call) != 0 || t->external.family == 0)
            t->igd = first;
    } else if (!t->igd.known) {
        (void)take_service(t, url, &data, 1);
    }
    return t->igd.known;
}

/* The firewall's control, by the path that the description names, where the description was. */
static bool describe6(struct call *call, const char *url)
{
    static const char prefix[] = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:";
    struct wr_upnp_task *t = call->task;
    struct IGDdatas data;
    if (!fetch(call, url, &data))
        return false;
    const struct IGDdatas_service *s = &data.IPv6FC;
    const char *path = s->controlurl;
    if (strncmp(s->servicetype, prefix, strlen(prefix)) != 0)
        return false;
    if (strncmp(path, "http://", 7) == 0)
        path += 7 + strcspn(path + 7, "/");
    int host = (int)(7 + strcspn(url + 7, "/"));
    const char *slash = *path == '/' ? "" : "/";
    int n = *path ? snprintf(t->igd.control, sizeof(t->igd.control), "%.*s%s%s", host, url, slash, path) : -1;
    if (n < 0 || (size_t)n >= sizeof(t->igd.control))
        return false;
    (void)snprintf(t->igd.service, sizeof(t->igd.service), "%s", s->servicetype);
    t->igd.known = true;
    return true;
}

static void find(struct call *call)
{
    struct wr_upnp_task *t = call->task;
    char urls[WR_UPNP_SEARCH_URLS][WR_UPNP_URL];
    size_t count = wr_upnp_search(&t->gateway, &t->source, t->zone, urls);
    bool (*read)(struct call *call, const char *url) = t->gateway.family == 6 ? describe6 : describe;
    for (size_t i = 0; i < count && !read(call, urls[i]); i++)
        continue;
}

static void run(struct call *call)
{
    struct wr_upnp_task *t = call->task;
    t->err = t->igd.known ? ask_all(call) : WR_EUNREACH;
    if (t->err == 0)
        return;
    t->igd = (struct wr_upnp_igd){0};
    find(call);
    t->err = t->igd.known ? ask_all(call) : WR_ENOTFOUND;
}

void wr_upnp_run(struct wr_upnp_task *t)
{
    struct call *call = wr_alloc(sizeof(*call));
    if (!call) {
        t->err = WR_ELIMIT;
        return;
    }
    call->task = t;
    call->until = wr_upnp_http_clock() + WR_UPNP_TIME;
    run(call);
    wr_free(call);
}
