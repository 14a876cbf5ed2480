#include "proxy/purge_command.h"

#include <curl/curl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TIMEOUT_S = 60, ANSWER_MAX = 64 * 1024, URL_MAX = 1000 };

struct answer {
    char text[ANSWER_MAX];
    size_t n;
};

static size_t take(char *piece, size_t size, size_t n, void *data)
{
    struct answer *a = data;

    n *= size;
    if (n > sizeof a->text - a->n)
        return 0;
    memcpy(a->text + a->n, piece, n);
    a->n += n;
    return n;
}

static char *body_of(const struct purge_command *c)
{
    json_t *body = json_object();

    json_object_set_new(body, c->what, c->value != NULL ? json_string(c->value) : json_true());
    if (c->soft)
        json_object_set_new(body, "soft", json_true());
    char *text = json_dumps(body, JSON_COMPACT);

    json_decref(body);
    return text;
}

static int add_token(const char *file, struct curl_slist **headers)
{
    char token[4096], line[4200];
    FILE *fp = fopen(file, "r");

    if (fp == NULL || fgets(token, sizeof token, fp) == NULL) {
        fprintf(stderr, "weir purge: cannot read a token from %s\n", file);
        if (fp != NULL)
            fclose(fp);
        return -1;
    }
    fclose(fp);
    token[strcspn(token, "\r\n")] = '\0';
    snprintf(line, sizeof line, "Authorization: Bearer %s", token);
    *headers = curl_slist_append(*headers, line);
    return 0;
}

static int report(long status, const struct answer *answer)
{
    json_t *json = json_loadb(answer->text, answer->n, 0, NULL);
    json_t *purged = json_object_get(json, "purged"), *detail = json_object_get(json, "detail");
    int exit_status = 1;

    if (status == 200 && json_is_integer(purged)) {
        printf("purged %lld\n", (long long)json_integer_value(purged));
        exit_status = 0;
    } else if (json_is_string(detail))
        fprintf(stderr, "weir purge: %ld: %s\n", status, json_string_value(detail));
    else
        fprintf(stderr, "weir purge: the admin listener answered %ld\n", status);
    json_decref(json);
    return exit_status;
}

static int without_slashes(const char *url)
{
    size_t n = strnlen(url, URL_MAX);

    while (n > 0 && url[n - 1] == '/')
        n--;
    return (int)n;
}

int purge_command_run(const struct purge_command *c)
{
    static struct answer answer;
    struct curl_slist *headers = curl_slist_append(NULL, "Content-Type: application/json");
    bool is_unix = strncmp(c->admin, "unix:", 5) == 0;
    const char *admin = is_unix ? "http://localhost" : c->admin;
    char url[1024], error[CURL_ERROR_SIZE] = "";
    char *body = body_of(c);
    int exit_status = 1;
    long status = 0;
    CURL *curl;

    curl_global_init(CURL_GLOBAL_ALL);
    curl = curl_easy_init();
    if (c->token_file != NULL && add_token(c->token_file, &headers) != 0)
        goto end;
    snprintf(url, sizeof url, "%.*s/purge", without_slashes(admin), admin);
    if (is_unix)
        curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, c->admin + 5);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, &answer);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)TIMEOUT_S);
    if (curl_easy_perform(curl) != CURLE_OK) {
        fprintf(stderr, "weir purge: %s: %s\n", c->admin, error);
        goto end;
    }
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    exit_status = report(status, &answer);

end:
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    curl_global_cleanup();
    free(body);
    return exit_status;
}
