/*
 * ThreadSanitizer sees neither into libck nor what its inline assembly orders: these tell it. Nothing otherwise.
 */
#ifndef WEIR_CACHE_TSAN_H
#define WEIR_CACHE_TSAN_H

#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define WEIR_TSAN 1
#endif
#elif defined(__SANITIZE_THREAD__)
#define WEIR_TSAN 1
#endif

#ifdef WEIR_TSAN
void __tsan_acquire(void *address);
void __tsan_release(void *address);
#define TSAN_ACQUIRE(address) __tsan_acquire((void *)(address))
#define TSAN_RELEASE(address) __tsan_release((void *)(address))
#else
#define TSAN_ACQUIRE(address) ((void)(address))
#define TSAN_RELEASE(address) ((void)(address))
#endif

#endif
