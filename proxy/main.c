/*
 * The weir program: its commands and their options.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conf/conf.h"
#include "proxy/explain.h"
#include "proxy/purge_command.h"
#include "proxy/server.h"
#include "proxy/tls.h"

enum { DONE = 0, FAILED = 1, USAGE = 2 };

enum { FIELDS_MAX = 64 };

static const char run_usage[] =
    "usage: weir run -c FILE\n"
    "  Serves in the foreground, as FILE says. Logs go to stderr; the line with 'ready' says that it serves.\n"
    "  SIGHUP reads FILE again, SIGTERM finishes what is in flight and ends, SIGUSR1 reopens the access log.\n";
static const char check_usage[] = "usage: weir check -c FILE\n"
                                  "  Reads FILE and all that it includes, and reports every error. Starts nothing.\n";
static const char explain_usage[] =
    "usage: weir explain -c FILE [-X METHOD] [-H 'Name: value']... URL\n"
    "  Says which route, tier, scope and cache key a request for URL has. Sends nothing.\n";
static const char purge_usage[] =
    "usage: weir purge [--admin URL] [--token-file FILE] [--soft] (--url U | --prefix P | --tag T | --all)\n"
    "  Drops what a running weir has stored; prints how many responses.\n"
    "  --admin URL        its admin listener: http://host:port or unix:/path (default http://127.0.0.1:9090)\n"
    "  --token-file FILE  a file with the admin token\n"
    "  --soft             marks stale instead of dropping\n";
static const char version_usage[] = "usage: weir version\n";
static const char usage[] = "usage: weir COMMAND [options]\n"
                            "  run -c FILE                     serve\n"
                            "  check -c FILE                   look for errors in a configuration\n"
                            "  explain -c FILE URL             what would be done with a request\n"
                            "  purge --url U | --prefix P | --tag T | --all  drop what is stored\n"
                            "  version\n"
                            "Each has -h.\n";

static int wrong(const char *text)
{
    fputs(text, stderr);
    return USAGE;
}

/* -c FILE and nothing else. NULL: said so already, *status is the exit status. */
static const char *conf_option(int argc, char **argv, const char *text, int *status)
{
    const char *file = NULL;
    int c;

    while ((c = getopt(argc, argv, "c:h")) != -1) {
        if (c == 'h') {
            fputs(text, stdout);
            *status = DONE;
            return NULL;
        }
        if (c != 'c') {
            *status = wrong(text);
            return NULL;
        }
        file = optarg;
    }
    if (file == NULL || optind != argc) {
        *status = wrong(text);
        return NULL;
    }
    return file;
}

static int load(const char *file, conf_check *also, struct conf **conf)
{
    struct conf_errors errors = {NULL, 0};
    int failed = conf_load_with(file, also, conf, &errors);

    conf_errors_print(&errors, stderr);
    conf_errors_free(&errors);
    return failed;
}

static int run(int argc, char **argv)
{
    int status;
    const char *file = conf_option(argc, argv, run_usage, &status);

    return file == NULL ? status : server_run(file);
}

/* Certificates, too: a reload that fails at night began as a file that nobody had looked at. */
static int check(int argc, char **argv)
{
    struct conf *conf;
    int status;
    const char *file = conf_option(argc, argv, check_usage, &status);

    if (file == NULL)
        return status;
    if (load(file, tls_check_all, &conf) != 0)
        return USAGE;
    printf("%s: ok, %zu routes, %zu backends\n", file, conf->nroutes, conf->nbackends);
    conf_release(conf);
    return DONE;
}

/* "Name: value", its name made lower case in place. */
static bool field_of(char *text, struct field *out)
{
    char *colon = strchr(text, ':');

    if (colon == NULL || colon == text)
        return false;
    for (char *p = text; p < colon; p++)
        *p = ascii_lower(*p);
    *out = (struct field){{text, (size_t)(colon - text)}, NULL, bytes_trim(bytes_of(colon + 1))};
    return true;
}

static int explain_request(const struct conf *conf, const struct explain_request *q)
{
    struct route_pattern *patterns = calloc(conf->nroutes, sizeof *patterns);
    struct route_index *index;
    const char *why = NULL;
    json_t *out;

    if (patterns == NULL)
        abort();
    for (size_t i = 0; i < conf->nroutes; i++)
        patterns[i] = conf->routes[i].pattern;
    index = route_index_create(patterns, conf->nroutes);
    if (index == NULL)
        abort();
    out = explain(conf, index, q, NULL, NULL, (struct mono_ms){0}, &why);
    if (out == NULL)
        fprintf(stderr, "weir explain: %s\n", why);
    else
        explain_print(out, stdout);
    json_decref(out);
    route_index_destroy(index);
    free(patterns);
    return out == NULL ? USAGE : DONE;
}

static int explain_command(int argc, char **argv)
{
    struct field fields[FIELDS_MAX];
    struct explain_request q = {.method = BYTES_LIT("GET"), .fields = {fields, 0}};
    const char *file = NULL;
    struct conf *conf;
    int c;

    while ((c = getopt(argc, argv, "c:X:H:h")) != -1) {
        if (c == 'h') {
            fputs(explain_usage, stdout);
            return DONE;
        }
        if (c == 'c')
            file = optarg;
        else if (c == 'X')
            q.method = bytes_of(optarg);
        else if (c != 'H' || q.fields.n == FIELDS_MAX || !field_of(optarg, &fields[q.fields.n++]))
            return wrong(explain_usage);
    }
    if (file == NULL || optind != argc - 1)
        return wrong(explain_usage);
    if (!token_valid(q.method)) {
        fprintf(stderr, "weir explain: '%.*s' is no method; expected one such as GET\n", (int)q.method.n, q.method.p);
        return USAGE;
    }
    if (load(file, NULL, &conf) != 0)
        return USAGE;
    q.url = bytes_of(argv[optind]);
    int status = explain_request(conf, &q);

    conf_release(conf);
    return status;
}

static int purge(int argc, char **argv)
{
    enum { ADMIN = 1000, TOKEN_FILE, SOFT, URL, PREFIX, TAG, ALL };
    static const struct option options[] = {
        {"admin", required_argument, NULL, ADMIN},
        {"token-file", required_argument, NULL, TOKEN_FILE},
        {"soft", no_argument, NULL, SOFT},
        {"url", required_argument, NULL, URL},
        {"prefix", required_argument, NULL, PREFIX},
        {"tag", required_argument, NULL, TAG},
        {"all", no_argument, NULL, ALL},
        {"help", no_argument, NULL, 'h'},
        {NULL, 0, NULL, 0},
    };
    struct purge_command command = {.admin = "http://127.0.0.1:9090"};
    int c, targets = 0;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'h':
            fputs(purge_usage, stdout);
            return DONE;
        case ADMIN:
            command.admin = optarg;
            break;
        case TOKEN_FILE:
            command.token_file = optarg;
            break;
        case SOFT:
            command.soft = true;
            break;
        case URL:
        case PREFIX:
        case TAG:
            command.what = c == URL ? "url" : c == PREFIX ? "prefix" : "tag";
            command.value = optarg;
            targets++;
            break;
        case ALL:
            command.what = "all";
            targets++;
            break;
        default:
            return wrong(purge_usage);
        }
    }
    if (targets != 1 || optind != argc)
        return wrong(purge_usage);
    return purge_command_run(&command);
}

static int stats(int argc, char **argv)
{
    (void)argc, (void)argv;
    fputs("weir stats: not supported by this version; the figures are at /health/cache of the admin listener\n",
          stderr);
    return USAGE;
}

static int version(int argc, char **argv)
{
    if (argc > 1 && (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0)) {
        fputs(version_usage, stdout);
        return DONE;
    }
    if (argc > 1)
        return wrong(version_usage);
    printf("weir " WEIR_VERSION "\n");
    return DONE;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {{"run", run},     {"check", check},     {"explain", explain_command}, {"purge", purge},
                    {"stats", stats}, {"version", version}, {"--version", version}};

    if (argc < 2)
        return wrong(usage);
    if (strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return DONE;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "weir: unknown command '%s'\n", argv[1]);
    return wrong(usage);
}
