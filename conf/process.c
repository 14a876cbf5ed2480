/* The top level, and the small sections: what holds for the whole process. */
#include <pwd.h>
#include <sched.h>
#include <unistd.h>

#include "conf/include.h"
#include "conf/sections.h"
#include "conf/source.h"
#include "conf/value.h"

#define THREADS_MAX 1024
#define SHARDS_MAX 65536
#define RESETS_EXAMPLE "a number in a time, such as 200/10s"

#define FIELD(field) offsetof(struct conf, field)

/* The mask is as large as the kernel's, which may be larger than cpu_set_t. */
static unsigned usable_cpus(void)
{
    unsigned n = 0;

    for (unsigned cpus = CPU_SETSIZE; n == 0 && cpus <= 65536; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC(cpus);

        if (set == NULL)
            break;
        if (sched_getaffinity(0, CPU_ALLOC_SIZE(cpus), set) == 0)
            n = (unsigned)CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set);
        CPU_FREE(set);
    }
    return n == 0 ? 1 : n > THREADS_MAX ? THREADS_MAX : n;
}

static void read_threads(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;
    uint64_t number;

    if (value->kind == NODE_WORD && bytes_eq(value->text, BYTES_LIT("auto")))
        conf->threads = usable_cpus();
    else if (value->kind == NODE_WORD && units_number_parse(value->text, &number) && number >= 1 &&
             number <= THREADS_MAX)
        conf->threads = (unsigned)number;
    else
        conf_expected(l, value, "auto or 1 to 1024");
}

/* Only root changes to it, so only then must it be there. */
static void read_user(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;
    struct bytes name;

    if (!conf_word_read(l, value, "a user's name, such as nobody", &name))
        return;
    conf->user = arena_dup(l->keep, name);
    conf->user_mark = value->mark;
    if (geteuid() == 0 && getpwnam(conf->user) == NULL)
        conf_problem(l, value->mark, "'user': this system has no user '%s'; expected one such as nobody",
                     conf_show(l, name));
}

static void read_access(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;
    const char *example = "off, \"-\" for stdout, or a file name";
    struct bytes name;

    if (!conf_word_read(l, value, example, &name))
        return;
    conf->access_mark = value->mark;
    if (bytes_eq(name, BYTES_LIT("on")))
        conf_expected(l, value, example);
    else if (bytes_eq(name, BYTES_LIT("-")))
        conf->access_log = "-";
    else if (!bytes_eq(name, BYTES_LIT("off")))
        conf->access_log = source_resolve(l->keep, value->mark.file, name);
}

static void read_shards(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;
    uint64_t number;

    if (value->kind == NODE_WORD && bytes_eq(value->text, BYTES_LIT("auto")))
        conf->memory_shards = 0;
    else if (value->kind == NODE_WORD && units_number_parse(value->text, &number) && number >= 1 &&
             number <= SHARDS_MAX && (number & (number - 1)) == 0)
        conf->memory_shards = (unsigned)number;
    else
        conf_expected(l, value, "auto or a power of two from 1 to 65536");
}

/* 200/10s */
static void read_h2_resets(struct loader *l, const struct node *value, void *into)
{
    struct conf *conf = into;
    const char *slash = value->kind == NODE_WORD ? memchr(value->text.p, '/', value->text.n) : NULL;
    uint64_t number;
    int64_t ms;

    if (slash == NULL || !units_number_parse((struct bytes){value->text.p, (size_t)(slash - value->text.p)}, &number) ||
        !conf_duration_parse(bytes_of(slash + 1), &ms)) {
        conf_expected(l, value, RESETS_EXAMPLE);
    } else if (number < 1 || number > 1000000 || ms < SECOND_MS || ms > HOUR_MS) {
        conf_expected(l, value, "1 to 1000000 in 1s to 1h, such as 200/10s");
    } else {
        conf->h2_resets = (unsigned)number;
        conf->h2_resets_ms = ms;
    }
}

static const struct choice formats[] = {{"json", CONF_LOG_JSON}, {"combined", CONF_LOG_COMBINED}, {NULL, 0}};
static const struct choice levels[] = {
    {"error", CONF_LOG_ERROR}, {"warn", CONF_LOG_WARN}, {"info", CONF_LOG_INFO}, {"debug", CONF_LOG_DEBUG}, {NULL, 0},
};

static const struct conf_key log_table[] = {
    {"access", KEY_OTHER, .read = read_access, .standard = "off"},
    {"format", KEY_CHOICE, FIELD(access_format), .choices = formats, .standard = "json"},
    {"level", KEY_CHOICE, FIELD(log_level), .choices = levels, .standard = "info"},
};
static const struct conf_keys log_keys = KEYS(log_table);

static const struct choice evictions[] = {{"lru", CONF_LRU}, {"sieve", CONF_SIEVE}, {NULL, 0}};

static const struct conf_key memory_table[] = {
    {"size", KEY_SIZE, FIELD(memory_bytes), 8 * MIB, 16384 * GIB, .standard = "256mb"},
    {"max_object", KEY_SIZE, FIELD(memory_object_bytes_max), 1, 16384 * GIB, .standard = "8mb"},
    {"shards", KEY_OTHER, .read = read_shards, .standard = "auto"},
    {"eviction", KEY_CHOICE, FIELD(memory_eviction), .choices = evictions, .standard = "sieve"},
};
static const struct conf_keys memory_keys = KEYS(memory_table);

static const struct conf_key limits_table[] = {
    {"request_body", KEY_SIZE, FIELD(request_body_bytes_max), 0, 1024 * GIB, .standard = "10mb"},
    {"request_headers", KEY_SIZE, FIELD(request_header_bytes_max), KIB, 256 * KIB, .standard = "32kb"},
    {"connections", KEY_COUNT, FIELD(connections_max), 1, 1000000, .standard = "10000"},
    {"header_timeout", KEY_DURATION, FIELD(header_timeout_ms), 100, HOUR_MS, .standard = "10s"},
    {"idle_timeout", KEY_DURATION, FIELD(idle_timeout_ms), 100, DAY_MS, .standard = "60s"},
    {"h2_streams", KEY_COUNT, FIELD(h2_streams), 1, 1024, .standard = "128"},
    {"h2_resets", KEY_OTHER, .read = read_h2_resets, .standard = "200/10s"},
};
static const struct conf_keys limits_keys = KEYS(limits_table);

static const struct conf_key top_table[] = {
    {"threads", KEY_OTHER, .read = read_threads, .standard = "auto", .main_only = true},
    {"user", KEY_OTHER, .read = read_user, .main_only = true},
    {"include", KEY_OTHER, .read = conf_read_include, .main_only = true},
    {"listen", KEY_OTHER, .read = conf_read_listens, .keys = &conf_listen_keys, .main_only = true},
    {"admin", KEY_OTHER, .read = conf_read_admin, .keys = &conf_admin_keys, .main_only = true},
    {"expose_health", KEY_SWITCH, FIELD(expose_health), .standard = "off", .main_only = true},
    {"log", KEY_MAP, .keys = &log_keys, .main_only = true},
    {"memory", KEY_MAP, .keys = &memory_keys, .main_only = true},
    {"ttl", KEY_OTHER, .read = conf_read_tiers, .keys = &conf_tier_keys},
    {"backends", KEY_OTHER, .read = conf_read_backends, .keys = &conf_backend_keys},
    {"routes", KEY_OTHER, .read = conf_read_routes, .keys = &conf_route_keys},
    {"limits", KEY_MAP, .keys = &limits_keys, .main_only = true},
    {"redis", KEY_OTHER, .read = conf_read_redis, .keys = &conf_redis_keys, .main_only = true},
    {"compress", KEY_OTHER, .read = conf_read_compress, .keys = &conf_compress_keys, .main_only = true},
};
const struct conf_keys conf_top_keys = KEYS(top_table);

void conf_process_default(struct loader *l)
{
    struct conf *conf = l->conf;

    conf_keys_default(&conf_top_keys, conf);
    conf->threads = usable_cpus();
    conf->h2_resets = 200;
    conf->h2_resets_ms = 10 * SECOND_MS;
    conf_compress_default(l);
    conf_admin_default(l);
}

/* The default of max_object is no more than the least memory, so that only one that was written can be too large. */
void conf_check_memory(struct loader *l, const struct node *memory)
{
    struct conf *conf = l->conf;
    const struct node *object = conf_child(memory, "max_object");
    char size[UNITS_PRINT_MAX];

    if (conf->memory_object_bytes_max <= conf->memory_bytes)
        return;
    units_size_print((int64_t)conf->memory_bytes, size);
    conf_expected(l, object, arena_print(l->scratch, "at most memory's size, %s", size));
}
