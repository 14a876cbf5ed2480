#include "conf/yaml_tree.h"

#include <stdlib.h>
#include <yaml.h>

struct frame {
    struct node *holder;
    struct node *key; /* of a map: read, and waiting for its value */
};

struct reading {
    struct loader *l;
    const char *file;
    struct bytes text;
    struct conf_mark end;
    yaml_parser_t parser;
    struct frame frames[YAML_TREE_DEPTH_MAX];
    size_t depth;
    unsigned documents;
    struct node *root;
    bool failed;
};

/* The bytes of a line's end as YAML 1.1 and libyaml have them (CR, LF, CRLF, NEL, LS, PS), or 0. */
static size_t line_end(const char *p, size_t n)
{
    if (p[0] == '\r')
        return n > 1 && p[1] == '\n' ? 2 : 1;
    if (p[0] == '\n')
        return 1;
    if (n > 1 && memcmp(p, "\xc2\x85", 2) == 0)
        return 2;
    return n > 2 && (memcmp(p, "\xe2\x80\xa8", 3) == 0 || memcmp(p, "\xe2\x80\xa9", 3) == 0) ? 3 : 0;
}

/* libyaml's reader knows only the offset of what it dislikes. */
static struct conf_mark mark_of_offset(const struct reading *r, size_t offset)
{
    struct conf_mark mark = {r->file, 1, 1};
    size_t end;

    for (size_t i = 0; i < offset && i<r->text.n; i += end> 0 ? end : 1) {
        end = line_end(r->text.p + i, r->text.n - i);
        if (end > 0) {
            mark.line++;
            mark.column = 1;
        } else if (((unsigned char)r->text.p[i] & 0xc0) != 0x80) {
            mark.column++;
        }
    }
    return mark;
}

/* At the end of a text without a last newline libyaml is a line further than the text. */
static struct conf_mark mark_of(const struct reading *r, yaml_mark_t mark)
{
    if (mark.line + 1 > r->end.line)
        return r->end;
    return (struct conf_mark){r->file, (unsigned)mark.line + 1, (unsigned)mark.column + 1};
}

static void fail(struct reading *r, struct conf_mark mark, const char *what)
{
    conf_problem(r->l, mark, "%s", what);
    r->failed = true;
}

static void report_syntax(struct reading *r)
{
    const yaml_parser_t *p = &r->parser;
    const char *problem = p->problem == NULL ? "cannot be parsed" : p->problem;

    r->failed = true;
    switch (p->error) {
    case YAML_MEMORY_ERROR:
        abort(); /* as everywhere in conf/ */
    case YAML_READER_ERROR:
        conf_problem(r->l, mark_of_offset(r, p->problem_offset), "not readable as YAML: %s", problem);
        return;
    default:
        break;
    }
    if (p->context != NULL)
        conf_problem(r->l, mark_of(r, p->problem_mark), "not readable as YAML: %s, %s that began in line %zu", problem,
                     p->context, p->context_mark.line + 1);
    else
        conf_problem(r->l, mark_of(r, p->problem_mark), "not readable as YAML: %s", problem);
}

/* A word in a map is a key or a value, in turn. */
static bool is_key(const struct reading *r)
{
    const struct frame *top = r->depth == 0 ? NULL : &r->frames[r->depth - 1];

    return top != NULL && top->holder->kind == NODE_MAP && top->key == NULL;
}

static void attach(struct reading *r, struct node *node)
{
    struct frame *top;

    if (r->depth == 0) {
        node->name = "the file";
        r->root = node;
        return;
    }
    top = &r->frames[r->depth - 1];
    if (is_key(r)) {
        top->key = node;
        return;
    }
    node->key = top->key;
    node->name = top->key != NULL ? top->key->text.p : top->holder->name;
    top->key = NULL;
    if (top->holder->last == NULL)
        top->holder->first = node;
    else
        top->holder->last->next = node;
    top->holder->last = node;
    top->holder->n++;
}

static struct node *node_create(struct reading *r, enum node_kind kind, const yaml_event_t *event)
{
    struct node *node = arena_alloc(r->l->scratch, sizeof(*node));

    node->kind = kind;
    node->mark = mark_of(r, event->start_mark);
    if (++r->l->nnodes > YAML_TREE_NODES_MAX)
        fail(r, node->mark, "there is too much in the files: more than 500000 words, lists and maps");
    return node;
}

static void refuse_properties(struct reading *r, const yaml_event_t *event, const yaml_char_t *anchor,
                              const yaml_char_t *tag)
{
    if (anchor != NULL)
        conf_problem(r->l, mark_of(r, event->start_mark), "anchors (&%s) are not supported: write the value out",
                     conf_show(r->l, bytes_of((const char *)anchor)));
    if (tag != NULL)
        conf_problem(r->l, mark_of(r, event->start_mark), "tags (%s) are not supported: leave it out",
                     conf_show(r->l, bytes_of((const char *)tag)));
}

static void take_word(struct reading *r, const yaml_event_t *event)
{
    struct node *node = node_create(r, NODE_WORD, event);

    refuse_properties(r, event, event->data.scalar.anchor, event->data.scalar.tag);
    node->text =
        arena_bytes(r->l->scratch, (struct bytes){(const char *)event->data.scalar.value, event->data.scalar.length});
    node->plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (memchr(node->text.p, '\0', node->text.n) != NULL)
        fail(r, node->mark, "a NUL character has no place here");
    attach(r, node);
}

static void take_alias(struct reading *r, const yaml_event_t *event)
{
    struct node *node = node_create(r, NODE_BAD, event);

    conf_problem(r->l, node->mark, "aliases (*%s) are not supported: write the value out",
                 conf_show(r->l, bytes_of((const char *)event->data.alias.anchor)));
    node->text = BYTES_LIT("");
    attach(r, node);
}

static void open_holder(struct reading *r, enum node_kind kind, const yaml_event_t *event)
{
    struct node *node = node_create(r, kind, event);

    if (is_key(r)) {
        fail(r, node->mark, "a key is a word, not a list or a map");
        return;
    }
    if (r->depth == YAML_TREE_DEPTH_MAX) {
        fail(r, node->mark, "too deep: nothing here has more than 16 levels");
        return;
    }
    attach(r, node);
    r->frames[r->depth++] = (struct frame){node, NULL};
}

static void take(struct reading *r, const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        take_word(r, event);
        break;
    case YAML_ALIAS_EVENT:
        take_alias(r, event);
        break;
    case YAML_SEQUENCE_START_EVENT:
        refuse_properties(r, event, event->data.sequence_start.anchor, event->data.sequence_start.tag);
        open_holder(r, NODE_LIST, event);
        break;
    case YAML_MAPPING_START_EVENT:
        refuse_properties(r, event, event->data.mapping_start.anchor, event->data.mapping_start.tag);
        open_holder(r, NODE_MAP, event);
        break;
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        r->depth--;
        break;
    case YAML_DOCUMENT_START_EVENT:
        if (++r->documents > 1)
            fail(r, mark_of(r, event->start_mark), "a second document (---) in one file: expected one");
        break;
    default:
        break;
    }
}

bool yaml_tree_read(struct loader *l, const char *file, struct bytes text, const struct node **root)
{
    struct reading r = {.l = l, .file = file, .text = text};
    bool ended = false;

    if (bytes_starts(text, BYTES_LIT("\xef\xbb\xbf"))) { /* a byte order mark is no column */
        r.text.p += 3;
        r.text.n -= 3;
    }
    r.end = mark_of_offset(&r, r.text.n);
    if (yaml_parser_initialize(&r.parser) == 0)
        abort();
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)r.text.p, r.text.n);
    yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
    while (!ended && !r.failed) {
        yaml_event_t event;

        if (yaml_parser_parse(&r.parser, &event) == 0) {
            report_syntax(&r);
            break;
        }
        take(&r, &event);
        ended = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&r.parser);
    *root = r.failed ? NULL : r.root;
    return !r.failed;
}
