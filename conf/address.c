#include "conf/address.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "conf/units.h"

#define UNIX_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) - 1)
#define HOST_MAX_BYTES 253

static bool take_prefix(struct bytes *text, struct bytes prefix)
{
    if (!bytes_starts(*text, prefix))
        return false;
    text->p += prefix.n;
    text->n -= prefix.n;
    return true;
}

static const char *unix_parse(struct arena *arena, struct bytes path, const char **out)
{
    if (path.n < 2 || path.p[0] != '/')
        return "a unix socket's path begins with '/', such as unix:/run/weir.sock";
    if (path.n > UNIX_PATH_MAX)
        return "a unix socket's path has at most 107 bytes";
    *out = arena_dup(arena, path);
    return NULL;
}

static const char *port_parse(struct bytes text, uint16_t *port)
{
    uint64_t number;

    if (!units_number_parse(text, &number) || number < 1 || number > 65535)
        return "a port is a number from 1 to 65535";
    *port = (uint16_t)number;
    return NULL;
}

/* host[:port]; the port is empty where there is none. IPv6 addresses stand in brackets, which are taken off. */
static bool split(struct bytes text, struct bytes *host, struct bytes *port, bool *v6)
{
    const char *colon;

    *v6 = text.n > 0 && text.p[0] == '[';
    if (*v6) {
        const char *end = memchr(text.p, ']', text.n);

        if (end == NULL)
            return false;
        *host = (struct bytes){text.p + 1, (size_t)(end - text.p) - 1};
        text.n -= (size_t)(end + 1 - text.p);
        text.p = end + 1;
        *port = (struct bytes){text.p, text.n};
        return text.n == 0 || take_prefix(port, BYTES_LIT(":"));
    }
    colon = memchr(text.p, ':', text.n);
    *host = (struct bytes){text.p, colon == NULL ? text.n : (size_t)(colon - text.p)};
    *port = colon == NULL ? BYTES_NONE : (struct bytes){colon + 1, text.n - host->n - 1};
    return colon == NULL || port->n > 0;
}

/* In the one form that inet_ntop writes, so that equal addresses are equal texts. */
static const char *numeric(struct arena *arena, struct bytes host, int family)
{
    unsigned char address[sizeof(struct in6_addr)];
    char text[INET6_ADDRSTRLEN];

    if (inet_pton(family, arena_dup(arena, host), address) != 1)
        return NULL;
    return arena_dup(arena, bytes_of(inet_ntop(family, address, text, sizeof(text))));
}

const char *address_parse(struct arena *arena, struct bytes text, struct conf_listen *out)
{
    struct bytes host, port;
    bool v6;

    out->address = arena_dup(arena, text);
    if (take_prefix(&text, BYTES_LIT("unix:")))
        return unix_parse(arena, text, &out->unix_path);
    if (!split(text, &host, &port, &v6) || port.n == 0)
        return "it has no port";
    out->host = numeric(arena, host, v6 ? AF_INET6 : AF_INET);
    if (out->host == NULL)
        return "names are not looked up here, and IPv6 addresses stand in brackets";
    return port_parse(port, &out->port);
}

static bool same_text(const char *a, const char *b)
{
    return a != NULL && b != NULL && strcmp(a, b) == 0;
}

bool address_same(const struct conf_listen *a, const struct conf_listen *b)
{
    return same_text(a->unix_path, b->unix_path) || (same_text(a->host, b->host) && a->port == b->port);
}

static bool is_all(const char *host)
{
    return strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
}

static bool is_v6(const char *host)
{
    return strchr(host, ':') != NULL;
}

bool address_overlaps(const struct conf_listen *a, const struct conf_listen *b)
{
    return a->host != NULL && b->host != NULL && a->port == b->port && is_v6(a->host) == is_v6(b->host) &&
           is_all(a->host) != is_all(b->host);
}

bool address_local(const struct conf_listen *a)
{
    struct in_addr v4;

    if (a->unix_path != NULL || strcmp(a->host, "::1") == 0)
        return true;
    return inet_pton(AF_INET, a->host, &v4) == 1 && ntohl(v4.s_addr) >> 24 == 127;
}

bool host_name_check(struct bytes host)
{
    if (host.n == 0 || host.n > HOST_MAX_BYTES || host.p[0] == '.')
        return false;
    for (size_t i = 0; i < host.n; i++) {
        char c = ascii_lower(host.p[i]);

        if (c == '.' && i > 0 && host.p[i - 1] == '.')
            return false;
        if (!(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_' && c != '.')
            return false;
    }
    return true;
}

const char *url_parse(struct arena *arena, struct bytes text, struct conf_server *out)
{
    struct bytes host, port;
    bool v6;

    out->url = arena_dup(arena, text);
    out->host = "localhost";
    out->port = 80;
    if (take_prefix(&text, BYTES_LIT("unix:")))
        return unix_parse(arena, text, &out->unix_path);
    out->https = take_prefix(&text, BYTES_LIT("https://"));
    out->port = out->https ? 443 : 80;
    if (!out->https && !take_prefix(&text, BYTES_LIT("http://")))
        return "it begins with neither http://, https:// nor unix:/";
    if (text.n > 0 && text.p[text.n - 1] == '/')
        text.n--;
    if (memchr(text.p, '/', text.n) != NULL || memchr(text.p, '?', text.n) != NULL)
        return "a server has no path: routes and strip_prefix say what is asked for";
    if (memchr(text.p, '@', text.n) != NULL)
        return "a server has no user and password";
    if (!split(text, &host, &port, &v6))
        return "the port is missing after ':'";
    out->host = v6 ? numeric(arena, host, AF_INET6) : host_name_check(host) ? arena_dup(arena, host) : NULL;
    if (out->host == NULL)
        return "that is no host's name or address (IPv6 addresses stand in brackets)";
    return port.n == 0 ? NULL : port_parse(port, &out->port);
}

const char *target_parse(struct arena *arena, struct bytes text, const char **host, uint16_t *port,
                         const char **unix_path)
{
    struct bytes name, number;
    bool v6;

    if (take_prefix(&text, BYTES_LIT("unix:")))
        return unix_parse(arena, text, unix_path);
    if (!split(text, &name, &number, &v6))
        return "the port is missing after ':'";
    *host = v6 ? numeric(arena, name, AF_INET6) : host_name_check(name) ? arena_dup(arena, name) : NULL;
    if (*host == NULL)
        return "that is no host's name or address (IPv6 addresses stand in brackets)";
    return number.n == 0 ? NULL : port_parse(number, port);
}
