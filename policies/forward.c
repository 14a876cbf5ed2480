#include "policies/forward.h"

/* RFC 9110 section 7.6.1, and: Trailer, because trailers are not passed on (RFC 9110 section 6.5.1); the Proxy- fields,
 * which are between a client and its next proxy (RFC 9110 section 11.7); HTTP2-Settings (RFC 7540 section 3.2.1). */
static const struct bytes hop_by_hop[] = {
    BYTES_LIT("connection"),
    BYTES_LIT("keep-alive"),
    BYTES_LIT("proxy-connection"),
    BYTES_LIT("te"),
    BYTES_LIT("trailer"),
    BYTES_LIT("transfer-encoding"),
    BYTES_LIT("upgrade"),
    BYTES_LIT("proxy-authenticate"),
    BYTES_LIT("proxy-authorization"),
    BYTES_LIT("proxy-authentication-info"),
    BYTES_LIT("http2-settings"),
};

static bool is_defined_hop_by_hop(struct bytes name)
{
    for (size_t i = 0; i < sizeof hop_by_hop / sizeof *hop_by_hop; i++)
        if (bytes_eq_nocase(name, hop_by_hop[i]))
            return true;
    return false;
}

/* Takes the next non-empty member of a comma-separated list (RFC 9110 section 5.6.1.2). */
static bool option_next(struct bytes *rest, struct bytes *option)
{
    while (rest->n > 0) {
        const char *comma = memchr(rest->p, ',', rest->n);
        size_t n = comma == NULL ? rest->n : (size_t)(comma - rest->p);
        size_t taken = comma == NULL ? n : n + 1;
        *option = bytes_trim((struct bytes){rest->p, n});
        rest->p += taken;
        rest->n -= taken;
        if (option->n > 0)
            return true;
    }
    return false;
}

/* Connection options know no case (RFC 9110 section 7.6.1). */
static bool connection_names(struct bytes line, struct bytes name)
{
    struct bytes option;
    while (option_next(&line, &option))
        if (bytes_eq_nocase(option, name))
            return true;
    return false;
}

bool forward_is_hop_by_hop(struct bytes name, struct fields message)
{
    if (is_defined_hop_by_hop(name))
        return true;
    const struct bytes connection = BYTES_LIT("connection");
    for (size_t i = fields_find(message, connection, 0); i < message.n; i = fields_find(message, connection, i + 1))
        if (connection_names(message.v[i].value, name))
            return true;
    return false;
}

size_t forward_connection_options(struct fields message)
{
    const struct bytes connection = BYTES_LIT("connection");
    size_t n = 0;

    for (size_t i = fields_find(message, connection, 0); i < message.n; i = fields_find(message, connection, i + 1)) {
        struct bytes line = message.v[i].value, option;

        while (option_next(&line, &option))
            n++;
    }
    return n;
}

static bool connection_names_end_to_end(struct bytes line)
{
    struct bytes option;
    while (option_next(&line, &option))
        if (!bytes_eq_nocase(option, BYTES_LIT("close")) && !is_defined_hop_by_hop(option))
            return true;
    return false;
}

bool forward_connection_names_fields(struct fields message)
{
    const struct bytes connection = BYTES_LIT("connection");
    for (size_t i = fields_find(message, connection, 0); i < message.n; i = fields_find(message, connection, i + 1))
        if (connection_names_end_to_end(message.v[i].value))
            return true;
    return false;
}

enum node { NODE_UNKNOWN, NODE_IPV4, NODE_IPV6 };

#define ADDRESS_TEXT_MAX 45 /* of an IPv6 address with an IPv4 tail */

static enum node node_of(struct bytes address)
{
    enum node node = NODE_IPV4;
    if (address.n == 0 || address.n > ADDRESS_TEXT_MAX)
        return NODE_UNKNOWN;
    for (size_t i = 0; i < address.n; i++) {
        char c = ascii_lower(address.p[i]);
        if (c == ':' || (c >= 'a' && c <= 'f'))
            node = NODE_IPV6;
        else if (c != '.' && (c < '0' || c > '9'))
            return NODE_UNKNOWN;
    }
    return node == NODE_IPV6 && memchr(address.p, ':', address.n) == NULL ? NODE_UNKNOWN : node;
}

static size_t put(char *out, struct bytes text)
{
    memcpy(out, text.p, text.n);
    return text.n;
}

int64_t forward_hops_left(struct fields request)
{
    const struct bytes name = BYTES_LIT("max-forwards");
    size_t i = fields_find(request, name, 0);
    int64_t hops = 0;

    if (i == request.n || request.v[i].value.n == 0 || fields_find(request, name, i + 1) < request.n)
        return -1;
    for (size_t at = 0; at < request.v[i].value.n; at++) {
        char c = request.v[i].value.p[at];

        if (c < '0' || c > '9')
            return -1;
        if (hops <= INT32_MAX)
            hops = hops * 10 + (c - '0');
    }
    return hops < INT32_MAX ? hops : INT32_MAX;
}

size_t forward_node(struct bytes address, char out[64])
{
    /* The zone of a link-local address means nothing to others. */
    const char *zone = address.n == 0 ? NULL : memchr(address.p, '%', address.n);
    if (zone != NULL)
        address.n = (size_t)(zone - address.p);
    size_t n = 0;
    switch (node_of(address)) {
    case NODE_UNKNOWN:
        return put(out, BYTES_LIT("unknown"));
    case NODE_IPV4:
        return put(out, address);
    case NODE_IPV6:
        n += put(out, BYTES_LIT("\"["));
        n += put(out + n, address);
        return n + put(out + n, BYTES_LIT("]\""));
    }
    return n;
}

/* Up to `end` or the value's end, past quoted strings (RFC 9110 section 5.6.4). Nothing, where one has no end. */
static struct bytes take_until(struct bytes *rest, char end)
{
    bool quoted = false;
    size_t n = 0;

    for (; n < rest->n && (quoted || rest->p[n] != end); n++) {
        if (quoted && rest->p[n] == '\\' && n + 1 < rest->n)
            n++;
        else if (rest->p[n] == '"')
            quoted = !quoted;
    }
    struct bytes taken = {rest->p, quoted ? 0 : n};

    n += n < rest->n;
    rest->p += n;
    rest->n -= n;
    return bytes_trim(taken);
}

/* RFC 7239 sections 5.1 and 5.2; parameter names know no case (section 4). */
static bool is_address(struct bytes pair)
{
    const char *equals = pair.n == 0 ? NULL : memchr(pair.p, '=', pair.n);
    struct bytes name = {pair.p, equals == NULL ? 0 : (size_t)(equals - pair.p)};

    return bytes_eq_nocase(name, BYTES_LIT("for")) || bytes_eq_nocase(name, BYTES_LIT("by"));
}

size_t forward_addresses(struct bytes value, char *out)
{
    size_t n = 0;

    while (value.n > 0) {
        struct bytes member = take_until(&value, ',');
        bool first = true;

        while (member.n > 0) {
            struct bytes pair = take_until(&member, ';');

            if (!is_address(pair))
                continue;
            if (n > 0)
                out[n++] = first ? ',' : ';';
            n += put(out + n, pair);
            first = false;
        }
    }
    return n;
}
