/*
 * `weir run`: sets everything up, serves until SIGTERM or SIGINT, follows SIGHUP and SIGUSR1.
 *
 * Threads  The main thread, before any other exists.
 */
#ifndef WEIR_PROXY_SERVER_H
#define WEIR_PROXY_SERVER_H

/* The exit status: 0 stopped as asked, 1 could not start, 2 configuration. */
int server_run(const char *conf_file);

#endif
