#include "proxy/explain_coding.h"

#include "policies/cache_control.h"
#include "policies/targeted.h"
#include "proxy/forms.h"

static const char *bar_word(enum form_bar bar)
{
    switch (bar) {
    case FORM_NO_BAR:
        return "Accept-Encoding wants it most of those that the route makes";
    case FORM_OFF:
        return "compress: off";
    case FORM_NO_ACCEPT_ENCODING:
        return "the request has no Accept-Encoding";
    case FORM_NO_COMPRESSION:
        return "the request has X-No-Compression";
    case FORM_RANGE:
        return "the request has Range";
    case FORM_USER:
        return "it is one user's own, and the route says nothing of compress";
    case FORM_IDENTITY:
        return "Accept-Encoding names nothing that the route makes, or wants identity more";
    case FORM_NO_TRANSFORM:
        return "the request has Cache-Control: no-transform";
    }
    return "";
}

static const char *never_word(enum compress_bar bar)
{
    switch (bar) {
    case COMPRESS_NO_BAR:
        return "it was stored when the configuration said something else";
    case COMPRESS_OFF:
        return "compress: off";
    case COMPRESS_NO_TRANSFORM:
        return "it has Cache-Control: no-transform";
    case COMPRESS_STATUS:
        return "its status is that of a part, or of no content";
    case COMPRESS_DIGEST:
        return "it has a digest";
    case COMPRESS_EMPTY:
        return "its body is empty";
    case COMPRESS_CODING:
        return "its Content-Encoding is not one that can be undone";
    case COMPRESS_USER:
        return "it is one user's own, and the route says nothing of compress";
    case COMPRESS_TYPE:
        return "its Content-Type is not one of compress.types";
    case COMPRESS_SIZE:
        return "it is smaller than compress.min_size";
    }
    return "";
}

static const char *state_word(enum form_state state)
{
    switch (state) {
    case FORM_NONE:
        return "not made yet";
    case FORM_CLAIMED:
        return "being made";
    case FORM_MADE:
        return "made";
    case FORM_REFUSED:
        return "refused: it saves too little, or cannot be made";
    }
    return "";
}

static enum compress_bar never_because(const struct conf_route *route, const struct stored *s)
{
    struct stored_view view;
    struct fields fields = stored_fields(s, &view);
    struct cache_control cc;

    if (!targeted_cache_control(fields, route->targeted, route->ntargeted, &cc))
        cc = cache_control_parse(fields);
    return compress_bar(&route->compress,
                        &(struct compress_facts){
                            .status = s->head->status,
                            .fields = fields,
                            .content_length = (int64_t)stored_length(s),
                            .no_transform = cc.no_transform || cache_control_parse(fields).no_transform,
                            .user_scope = s->head->user_scope,
                        });
}

static void say(json_t *out, const char *name, const char *text)
{
    json_object_set_new(out, name, json_string(text));
}

/* In the coding in which it came, or unpacked. */
static void explain_unpacking(json_t *out, const struct conf_route *route, struct fields request,
                              const struct stored *s)
{
    enum coding came_in = coder_came_in(s);
    struct coding_wishes wishes = coding_wishes_of(request, fields_find(request, BYTES_LIT("accept-encoding"), 0));
    bool as_it_came = !route->compress.on || coding_is_acceptable(&wishes, came_in) ||
                      !coding_is_acceptable(&wishes, CODING_IDENTITY);
    enum form_state state = stored_form_state(s, CODING_IDENTITY);

    say(out, "came_in", coding_name(came_in).p);
    say(out, "unpacked", state_word(state));
    say(out, "sends", coding_name(as_it_came || state == FORM_REFUSED ? came_in : CODING_IDENTITY).p);
}

static void explain_packing(json_t *out, const struct conf_route *route, enum coding wanted, const struct stored *s)
{
    const struct compress_rules *rules = &route->compress;
    json_t *forms = json_object();
    bool too_small = stored_length(s) < rules->min_size;

    for (size_t i = 0; i < rules->nencodings; i++)
        json_object_set_new(forms, coding_name(rules->encodings[i]).p,
                            json_string(state_word(stored_form_state(s, rules->encodings[i]))));
    json_object_set_new(out, "forms", forms);
    if (too_small)
        say(out, "never", never_word(COMPRESS_SIZE));
    say(out, "sends", coding_name(!too_small && stored_form(s, wanted) != NULL ? wanted : CODING_IDENTITY).p);
}

json_t *explain_coding(const struct conf_route *route, struct fields request, bool user_scope, bool cached,
                       const struct stored *s)
{
    const struct compress_rules *rules = &route->compress;
    json_t *out = json_object();
    enum coding wanted;
    enum form_bar bar = forms_bar(rules, user_scope, request, &wanted);

    say(out, "wanted", coding_name(wanted).p);
    say(out, "why", bar_word(bar));
    if (s != NULL && coder_has_forms(s) && coder_came_in(s) == CODING_IDENTITY)
        explain_packing(out, route, wanted, s);
    else if (s != NULL && coder_has_forms(s))
        explain_unpacking(out, route, request, s);
    else if (s != NULL) {
        say(out, "never", never_word(never_because(route, s)));
        say(out, "sends", "as it came");
    } else
        say(out, "first_answer",
            rules->stream && (cached || rules->user) ? "compressed on its way"
            : cached                                 ? "as it comes"
                                                     : "as it comes: it is not stored");
    return out;
}
