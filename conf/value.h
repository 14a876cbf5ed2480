/*
 * Single values: words of a known kind, and lists of words.
 */
#ifndef WEIR_CONF_VALUE_H
#define WEIR_CONF_VALUE_H

#include "conf/keys.h"

/* Kinds before KEY_MAP. What is wrong is reported, and then the field stays as it is. */
void conf_value_read(struct loader *l, const struct conf_key *key, const struct node *value, void *into);
void conf_value_default(const struct conf_key *key, void *into);

/* A duration outside of any table. */
bool conf_duration_read(struct loader *l, const struct node *value, int64_t min, int64_t max, int64_t *ms);

/* A word that is not empty. False: reported; `example` says what is expected. */
bool conf_word_read(struct loader *l, const struct node *value, const char *example, struct bytes *word);

/* A name of a tier or backend: letters, digits, '_', '-' and '.'; at most 64. */
bool conf_name_check(struct loader *l, const struct node *key);

/* A file's name, resolved; a regular file that can be read (reported when not). NULL when it is not a word. */
const char *conf_file_read(struct loader *l, const struct node *value);
/* The same, but whether it may be read is left to who reads it: a reload, which is no longer root's, may do without. */
const char *conf_secret_file_read(struct loader *l, const struct node *value);

/* What a file's one line says: a token, a password. NULL: reported. *file is its name, if there is one. */
const char *conf_secret_line_read(struct loader *l, const struct node *value, const char *what, const char **file);

/* NULL, or what is wrong with a word of a list. May change the word (it is a copy of the list's own). */
typedef const char *conf_word_check(struct loader *l, struct bytes *word);

#define CONF_WORDS_MAX 256 /* in one list */

struct words {
    const struct bytes *v;
    size_t n;
};

/* A list of different words, kept. Those that are wrong are reported and left out. */
struct words conf_words_read(struct loader *l, const struct node *value, const char *example, conf_word_check *check);

const char *conf_check_token(struct loader *l, struct bytes *word);   /* RFC 9110 section 5.6.2, without '*' */
const char *conf_check_field(struct loader *l, struct bytes *word);   /* the same; becomes lower case */
const char *conf_check_pattern(struct loader *l, struct bytes *word); /* '*' at the end or nowhere */

#endif
