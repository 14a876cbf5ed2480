/*
 * Marks on functions: who may call them.
 */
#ifndef WEIR_CACHE_THREAD_H
#define WEIR_CACHE_THREAD_H

#define MUST_USE __attribute__((warn_unused_result))

#endif
