#include "proxy/redis_address.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct redis_address {
    char *name;
    bool numeric; /* nothing is to be looked up, and there is no thread */

    pthread_mutex_t lock;
    pthread_cond_t wanted;
    /* under the lock */
    enum redis_known known;
    char text[INET6_ADDRSTRLEN];
    bool wants, over;
    unsigned users; /* the owner and the thread, which may be in the middle of a look-up when all else ends */
};

static void let_go(struct redis_address *a)
{
    pthread_mutex_lock(&a->lock);
    bool last = --a->users == 0;

    pthread_mutex_unlock(&a->lock);
    if (!last)
        return;
    pthread_cond_destroy(&a->wanted);
    pthread_mutex_destroy(&a->lock);
    free(a->name);
    free(a);
}

static bool look_up_family(const char *name, int family, char out[INET6_ADDRSTRLEN])
{
    const struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM};
    struct addrinfo *found;
    int failed = getaddrinfo(name, NULL, &hints, &found);

    if (failed != 0)
        return false;
    failed = getnameinfo(found->ai_addr, found->ai_addrlen, out, INET6_ADDRSTRLEN, NULL, 0, NI_NUMERICHOST);
    freeaddrinfo(found);
    return failed == 0;
}

/* As hiredis does: an IPv4 address, where there is one. */
static bool look_up(const char *name, char out[INET6_ADDRSTRLEN])
{
    return look_up_family(name, AF_INET, out) || look_up_family(name, AF_INET6, out);
}

static bool wait_until_wanted(struct redis_address *a)
{
    pthread_mutex_lock(&a->lock);
    while (!a->wants && !a->over)
        pthread_cond_wait(&a->wanted, &a->lock);
    a->wants = false;
    bool over = a->over;

    pthread_mutex_unlock(&a->lock);
    return !over;
}

static void *run(void *data)
{
    struct redis_address *a = data;
    char text[INET6_ADDRSTRLEN];

    while (wait_until_wanted(a)) {
        bool found = look_up(a->name, text);

        pthread_mutex_lock(&a->lock);
        a->known = found ? REDIS_KNOWN : REDIS_UNKNOWN;
        if (found)
            memcpy(a->text, text, sizeof text);
        pthread_mutex_unlock(&a->lock);
    }
    let_go(a);
    return NULL;
}

static void start(struct redis_address *a)
{
    pthread_t thread;

    a->users++;
    if (pthread_create(&thread, NULL, run, a) != 0)
        abort();
    pthread_detach(thread);
}

static bool is_numeric(const char *host)
{
    unsigned char address[sizeof(struct in6_addr)];

    return inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1;
}

struct redis_address *redis_address_create(const struct conf_redis *conf)
{
    struct redis_address *a = calloc(1, sizeof *a);
    const char *host = conf->host != NULL ? conf->host : "";

    if (a == NULL || (a->name = strdup(host)) == NULL)
        abort();
    pthread_mutex_init(&a->lock, NULL);
    pthread_cond_init(&a->wanted, NULL);
    a->users = 1;
    a->numeric = conf->host == NULL || is_numeric(host);
    if (a->numeric) {
        memcpy(a->text, host, strlen(host) + 1);
        return a;
    }
    a->known = REDIS_PENDING;
    start(a);
    return a;
}

void redis_address_destroy(struct redis_address *a)
{
    pthread_mutex_lock(&a->lock);
    a->over = true;
    pthread_cond_signal(&a->wanted);
    pthread_mutex_unlock(&a->lock);
    let_go(a);
}

enum redis_known redis_address_get(struct redis_address *a, char out[INET6_ADDRSTRLEN])
{
    pthread_mutex_lock(&a->lock);
    enum redis_known known = a->known;

    memcpy(out, a->text, sizeof a->text);
    if (!a->numeric) {
        a->wants = true;
        pthread_cond_signal(&a->wanted);
    }
    pthread_mutex_unlock(&a->lock);
    return known;
}
