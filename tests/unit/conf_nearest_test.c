#include <stdarg.h>
#include <stddef.h>

#include <setjmp.h>

#include <stdint.h>

#include <cmocka.h>

#include "conf/conf.h"

static const char *const words[] = {"address", "listen", "ttl", "timeout", "timeouts", "url", "key"};

static const char *nearest(const char *word)
{
    return conf_nearest(bytes_of(word), words, sizeof(words) / sizeof(words[0]));
}

static void a_slip_of_the_finger_finds_its_word(void **state)
{
    (void)state;
    assert_string_equal(nearest("adress"), "address");   /* left out */
    assert_string_equal(nearest("addresss"), "address"); /* too many */
    assert_string_equal(nearest("sddress"), "address");  /* another one */
    assert_string_equal(nearest("lsiten"), "listen");    /* swapped */
    assert_string_equal(nearest("Listen"), "listen");    /* case */
    assert_string_equal(nearest("kye"), "key");          /* in a short word a swap is one slip, not two */
    assert_string_equal(nearest("tll"), "ttl");
    assert_string_equal(nearest("ke"), "key");
}

/* In words of less than six letters one may be wrong, in six two: both sides of that. */
static void what_is_far_has_no_nearest(void **state)
{
    (void)state;
    assert_string_equal(nearest("lisren"), "listen");
    assert_string_equal(nearest("lisrem"), "listen");
    assert_null(nearest("pisrem"));
    assert_null(nearest("uxx"));
    assert_null(nearest("lxxsn"));
    assert_null(nearest("k"));
    assert_null(nearest(""));
    assert_null(nearest("backend"));
}

static void the_nearest_of_several_wins_and_the_first_of_equals(void **state)
{
    (void)state;
    assert_string_equal(nearest("timeouts"), "timeouts");
    assert_string_equal(nearest("timeoutz"), "timeout");
    assert_string_equal(nearest("tmeouts"), "timeouts");
    assert_null(conf_nearest(BYTES_LIT("listen"), NULL, 0));
}

static void a_long_word_is_nobodys_slip(void **state)
{
    char word[66];
    const char *one[] = {word};

    (void)state;
    memset(word, 'a', 65);
    word[65] = '\0';
    assert_null(conf_nearest(bytes_of(word), one, 1));
    word[64] = '\0';
    assert_ptr_equal(conf_nearest(bytes_of(word), one, 1), word);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_slip_of_the_finger_finds_its_word),
        cmocka_unit_test(what_is_far_has_no_nearest),
        cmocka_unit_test(the_nearest_of_several_wins_and_the_first_of_equals),
        cmocka_unit_test(a_long_word_is_nobodys_slip),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
